//! The directory that a command writes to: made and tried before any work is done, and gone again when
//! the command ends without having written a file.

use crate::exit::Ended;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// A directory that can be written to.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    made: Vec<PathBuf>, // the folders that were not there before, the innermost first
}

impl Output {
    /// Makes the directory if need be and tries to write to it.
    pub(crate) fn open(path: &Path) -> Result<Self, Ended> {
        let missing = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists());
        let output = Self { path: path.into(), made: missing.map(Path::to_path_buf).collect() };
        let failed = |source| Ended::NotWritable { path: path.into(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        tempfile::tempfile_in(path).map_err(failed)?;
        Ok(output)
    }

    /// Keeps other processes from writing here until what is returned is dropped.
    ///
    /// # Errors
    /// When another process does.
    pub(crate) fn lock(&self) -> Result<Option<File>, Ended> {
        // Where directories cannot be opened or locked there is no lock.
        let Ok(directory) = File::open(&self.path) else { return Ok(None) };
        match directory.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Ended::InUse { path: self.path.clone() }),
            _ => Ok(Some(directory)),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        for folder in &self.made {
            if std::fs::remove_dir(folder).is_err() {
                return; // something was written
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_and_left_empty_goes_away() {
        let here = tempfile::tempdir().unwrap();
        let (a, b) = (here.path().join("a"), here.path().join("a/b"));
        drop(Output::open(&b).unwrap());
        assert!(!a.exists() && here.path().exists());

        std::fs::create_dir(&a).unwrap();
        drop(Output::open(&b).unwrap());
        assert!(!b.exists() && a.exists(), "a was there before");

        let output = Output::open(&b).unwrap();
        std::fs::write(output.file("result"), "").unwrap();
        drop(output);
        assert!(b.join("result").exists());
    }

    #[cfg(unix)]
    #[test]
    fn one_process_at_a_time() {
        let here = tempfile::tempdir().unwrap();
        let output = Output::open(here.path()).unwrap();
        let lock = output.lock().unwrap();
        assert!(matches!(output.lock(), Err(Ended::InUse { .. })));
        drop(lock);
        assert!(output.lock().is_ok());
    }

    #[test]
    fn a_path_through_a_file_is_not_writable() {
        let here = tempfile::tempdir().unwrap();
        let file = here.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let message = Output::open(&path).unwrap_err().to_string();
            assert!(message.contains("cannot write there"), "{message}");
        }
    }
}
