//! Files that are there whole or not at all: written under a temporary name, synced, renamed.

use crate::error::{Error, Result};
use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Replaces the file at `path` by `bytes`; a crash leaves the old file or the new one, and at most a
/// [partial](is_partial) file beside it.
///
/// # Errors
/// When the directory is gone, cannot be written to or is full; names the file and the bytes needed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, bytes.len(), |out| out.write_all(bytes))
}

/// As [`write()`] for content that is made while it is written, `bytes` of it.
///
/// # Errors
/// As [`write()`], and when `fill` fails.
pub fn write_with(
    path: &Path,
    bytes: usize,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    try_write(path, bytes, fill).map_err(|source| Error::Write { path: path.into(), bytes, source })
}

/// Whether a file name is that of a write that did not come to its end.
pub fn is_partial(name: &str) -> bool {
    name.starts_with(PARTIAL)
}

const PARTIAL: &str = ".partial-";

fn try_write(
    path: &Path,
    bytes: usize,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let reach = |point| reach(path, point);
    reach(Point::Begin)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(PARTIAL);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666)); // less the umask, as any other file
    }
    let mut file = builder.tempfile_in(directory)?;
    reach(Point::Created)?;
    let mut out = BufWriter::new(Halves { file: file.as_file_mut(), path, first: Some(bytes / 2) });
    fill(&mut out)?;
    out.flush()?;
    drop(out);
    reach(Point::Written)?;
    file.as_file().sync_all()?;
    reach(Point::Synced)?;
    file.persist(path).map_err(|e| e.error)?;
    reach(Point::Renamed)?;
    File::open(directory)?.sync_all()?; // the rename itself must reach the disk
    reach(Point::Done)
}

/// A file that tells when its first half is written.
struct Halves<'a> {
    file: &'a mut File,
    path: &'a Path,
    /// How much of the first half is left, until the point is reached.
    first: Option<usize>,
}

impl Write for Halves<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let Some(left) = self.first else { return self.file.write(bytes) };
        let written = self.file.write(&bytes[..left.min(bytes.len())])?;
        self.first = Some(left - written);
        if written == left {
            self.first = None;
            reach(self.path, Point::HalfWritten)?;
            return if left == 0 { self.file.write(bytes) } else { Ok(written) };
        }
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// The moments of a [`write()`] between which a crash leaves something else behind, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Nothing has happened.
    Begin,
    /// The temporary file is there, empty.
    Created,
    /// It holds the first half.
    HalfWritten,
    /// It holds all, perhaps in memory only.
    Written,
    /// It holds all on disk.
    Synced,
    /// It has its name, perhaps in memory only.
    Renamed,
    /// It has its name on disk.
    Done,
}

/// Who is told of every point; an error it returns becomes the write's.
type Watcher = Box<dyn FnMut(&Path, Point) -> std::io::Result<()>>;

thread_local! {
    static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
}

/// Calls `watcher` at every point of every write of this thread, until what is returned is dropped: how
/// tests crash a process, or fill its disk, at a point of their choice.
pub fn watch(watcher: impl FnMut(&Path, Point) -> std::io::Result<()> + 'static) -> Watched {
    WATCHER.set(Some(Box::new(watcher)));
    Watched(())
}

/// While it lives, writes are watched.
#[derive(Debug)]
pub struct Watched(());

impl Drop for Watched {
    fn drop(&mut self) {
        WATCHER.set(None);
    }
}

fn reach(path: &Path, point: Point) -> std::io::Result<()> {
    WATCHER.with_borrow_mut(|watcher| watcher.as_mut().map_or(Ok(()), |watcher| watcher(path, point)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    const POINTS: [Point; 7] = [
        Point::Begin,
        Point::Created,
        Point::HalfWritten,
        Point::Written,
        Point::Synced,
        Point::Renamed,
        Point::Done,
    ];

    #[test]
    fn a_disk_that_fills_up_at_any_point_leaves_the_old_file_or_the_new() {
        for (i, full) in POINTS.into_iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            write(&path, b"old").unwrap();
            let watched = watch(move |_, point| match point == full {
                true => Err(ErrorKind::StorageFull.into()),
                false => Ok(()),
            });
            let error = write(&path, b"newer").unwrap_err().to_string();
            drop(watched);
            assert!(error.contains("file: cannot write 5 bytes"), "{full:?}: {error}");
            let expected: &[u8] = if i < 5 { b"old" } else { b"newer" };
            assert_eq!(std::fs::read(&path).unwrap(), expected, "{full:?}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{full:?}");
            write(&path, b"newest").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"newest");
        }
    }
}
