//! Hashes of what passes through a reader.

use md5::Md5;
use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A reader that knows a hash and the number of the bytes it handed on.
pub(crate) struct Hashed<R, H = Sha256> {
    inner: R,
    hash: H,
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

    /// Reads what is left, and says the SHA-256 of all.
    pub(crate) fn sha256(self) -> io::Result<String> {
        self.finish()
    }
}

impl<R: Read> Hashed<R, Md5> {
    /// By MD5, which only recognizes files: anybody can make another of the same hash.
    pub(crate) fn by_md5(inner: R) -> Self {
        Self { inner, hash: Md5::new(), n: 0 }
    }

    /// Reads what is left, and says the MD5 of all.
    pub(crate) fn md5(self) -> io::Result<String> {
        self.finish()
    }
}

impl<R: Read, H: Digest> Hashed<R, H> {
    fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(hex(&self.hash.finalize()))
    }
}

impl<R: Read, H: Digest> Read for Hashed<R, H> {
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
        let abc = Hashed::by_md5(&b"abc"[..]).md5().expect("three bytes");
        assert_eq!(abc, "900150983cd24fb0d6963f7d28e17f72"); // RFC 1321, A.5
    }
}
