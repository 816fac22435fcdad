//! What a file is, from its first bytes: a weight file in one of four formats, or something that is often
//! saved in its place.

use super::fault::Fault;
use std::fmt;

/// The format of a weight file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A safetensors file, ours or another's.
    Safetensors,
    /// `torch.save` since PyTorch 1.6: a zip archive.
    TorchZip,
    /// `torch.save` before 1.6: pickles and raw data, one after the other.
    TorchLegacy,
    /// `torch.save` before 0.1.10: a tar archive.
    TorchTar,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::TorchZip => "PyTorch, zip format (1.6 and later)",
            Self::TorchLegacy => "PyTorch, legacy format (before 1.6)",
            Self::TorchTar => "PyTorch, tar format (before 0.1.10)",
        })
    }
}

/// The pickle of the magic number that a legacy file begins with.
pub(crate) const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The format of these bytes.
///
/// # Errors
/// When they are of none, with what they seem to be instead.
pub fn recognize(bytes: &[u8]) -> Result<Format, Fault> {
    let begins = |magic: &[u8]| bytes.starts_with(magic);
    if begins(b"PK\x03\x04") || begins(b"PK\x05\x06") {
        return Ok(Format::TorchZip);
    }
    // Protocol numbers differ between writers; what follows them is the magic number in any.
    if bytes.len() > 2 && bytes[0] == 0x80 && bytes[2..].starts_with(&LEGACY_MAGIC[2..14]) {
        return Ok(Format::TorchLegacy);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Ok(Format::TorchTar);
    }
    if bytes.get(8) == Some(&b'{') {
        return Ok(Format::Safetensors);
    }
    Err(Fault::NotWeights(other(bytes)))
}

/// What a file is that is no weight file, and what to do.
fn other(bytes: &[u8]) -> String {
    let expected = "expected safetensors, or a state dict that PyTorch saved (.pt, .pth, .tar)";
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]).to_lowercase();
    let text = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    if bytes.is_empty() {
        return format!("is empty, {expected}; fetch it again");
    }
    if text.starts_with("<!doctype html") || text.starts_with("<html") || text.starts_with("<?xml") {
        let drive = text.contains("google drive") || text.contains("drive.google");
        let from = if drive { " from Google Drive (its quota or virus-scan notice)" } else { "" };
        return format!(
            "is a web page{from}, not a checkpoint; open the link in a browser and download again"
        );
    }
    if text.starts_with("version https://git-lfs") {
        return "is a Git LFS pointer, not the file it stands for; run `git lfs pull`".into();
    }
    let known: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
        (b"\x80", "is a bare Python pickle; save the state dict with `torch.save`"),
        (b"\x93NUMPY", "is a NumPy array; save the state dict with `torch.save`"),
        (b"\x89HDF\r\n", "is an HDF5 file; save the state dict with `torch.save`"),
        (b"7z\xbc\xaf", "is compressed with 7-Zip; unpack it first"),
    ];
    match known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        Some((_, what)) => format!("{what} ({expected})"),
        None => format!("is not a weight file, or a damaged one, {expected}; was it wholly copied?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_in_place_of_a_checkpoint_is_told() {
        let check = |bytes: &[u8], part: &str| {
            let message = recognize(bytes).unwrap_err().to_string();
            assert!(message.contains(part), "{part:?} is not in: {message}");
        };
        check(b"", "is empty");
        check(b"<!DOCTYPE html><title>Google Drive - Quota exceeded</title>", "from Google Drive");
        check(b"\xef\xbb\xbf\n <html><body>404</body></html>", "is a web page, not a checkpoint");
        check(b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull");
        check(b"\x1f\x8b\x08\0", "gzip");
        check(b"\x80\x04\x95", "a bare Python pickle");
        check(&[0xff; 64], "is not a weight file, or a damaged one");
    }
}
