//! Hashes of what passes through a reader.

use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A reader that knows the SHA-256 and the number of the bytes it handed on.
pub(crate) struct Hashed<R> {
    inner: R,
    hash: Sha256,
    n: u64,
}

impl<R: Read> Hashed<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), n: 0 }
    }

    /// The number of bytes handed on so far.
    pub(crate) fn n(&self) -> u64 {
        self.n
    }

    /// Reads what is left, and says the hash of all.
    pub(crate) fn sha256(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(hex(&self.hash.finalize()))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.n += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_everything_read_or_not() {
        let mut reader = Hashed::new(&b"abc"[..]);
        reader.read_exact(&mut [0; 2]).expect("two bytes");
        assert_eq!(reader.n(), 2);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-2, B.1
        assert_eq!(reader.sha256().expect("one more"), abc);
    }
}
