//! A cursor over the bytes of a file that cannot read past their end.

use super::fault::Fault;

/// Where a reader is in a file.
#[derive(Clone, Debug)]
pub(crate) struct Bytes<'a> {
    all: &'a [u8],
    at: usize,
    what: &'static str, // for the message when they end
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(all: &'a [u8], what: &'static str) -> Self {
        Self { all, at: 0, what }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.all[self.at..]
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        let taken = self.rest().get(..n).ok_or_else(|| self.too_short())?;
        self.at += n;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let taken = *self.rest().first_chunk().ok_or_else(|| self.too_short())?;
        self.at += N;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of things in 8 bytes.
    pub(crate) fn count(&mut self) -> Result<usize, Fault> {
        let n = self.u64()?;
        usize::try_from(n).map_err(|_| self.too_short())
    }

    /// The bytes before the next line break, which is passed over.
    pub(crate) fn line(&mut self) -> Result<&'a [u8], Fault> {
        let rest = self.rest();
        let end = rest.iter().take(1 << 10).position(|&b| b == b'\n').ok_or_else(|| self.too_short())?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn too_short(&self) -> Fault {
        Fault::Truncated(format!("{} (byte {} of it)", self.what, self.all.len()))
    }
}
