//! Files that are there whole or not at all: written under a temporary name, synced, renamed.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Replaces the file at `path` by `bytes`; a crash leaves the old file or the new one.
///
/// # Errors
/// When the directory cannot be written to or is full; names the file and the bytes needed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    try_write(path, bytes).map_err(|e| {
        let message = format!("cannot write {} bytes: {e}", bytes.len());
        Error::Io { path: path.into(), source: std::io::Error::new(e.kind(), message) }
    })
}

fn try_write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".partial-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666)); // less the umask, as any other file
    }
    let mut file = builder.tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    File::open(directory)?.sync_all() // the rename itself must reach the disk
}
