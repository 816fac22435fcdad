//! The directory of a run: who writes what, and when.
//!
//! | file | written |
//! |---|---|
//! | `.lock` | held while a process works here |
//! | `recipe.toml` | before the first step, once |
//! | `run.json` | at the beginning and the end of every sitting |
//! | `log.jsonl` | the log, by the binary |
//! | `metrics.jsonl` | appended as events happen, cut back to the state on resume |
//! | `best.safetensors` | when an evaluation beats all before it |
//! | `state-*.safetensors`, `LATEST.json` | after every epoch, every ten minutes within one, and when told to stop; the last two states are kept |
//! | `last.safetensors` | after the last epoch |
//! | `best-ema`, `last-ema`, `best-swa`, `last-swa` | the same of the averages, where the recipe asks for them |
//! | `events.out.tfevents.*` | by the binary, for TensorBoard |
//! | `dump-*.safetensors` | when a loss or gradient is not finite: the step, to be replayed |

use crate::error::{Error, Result};
use crate::recipe::Recipe;
use rslad_models::{Error as ModelError, durable};
use serde::Serialize;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A run directory, held by this process alone.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File, // the kernel frees it when the process ends, however it ends
}

impl RunDir {
    /// Opens the directory for a recipe, creating it if need be.
    ///
    /// # Errors
    /// When it cannot be created, another process holds it, or it holds a run of another recipe.
    pub fn open(path: &Path, recipe: &Recipe) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|source| Error::Io { path: path.into(), source })?;
        let dir = Self { path: path.into(), _lock: hold(path)? };
        dir.clear_partial()?;
        let file = dir.file("recipe.toml");
        let text = recipe.to_toml();
        match std::fs::read_to_string(&file) {
            Ok(found) if found == text => {}
            Ok(_) => {
                return Err(Error::RunDir {
                    path: path.into(),
                    message:
                        "holds a run of another recipe; choose another --out, or compare its recipe.toml"
                            .into(),
                });
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => durable::write(&file, text.as_bytes())?,
            Err(source) => return Err(Error::Io { path: file, source }),
        }
        Ok(dir)
    }

    /// Removes what writes left behind that a crash cut short. Nobody else writes here: we hold the lock.
    fn clear_partial(&self) -> Result<()> {
        for name in self.names()?.iter().filter(|name| durable::is_partial(name)) {
            self.remove(name)?;
        }
        Ok(())
    }

    /// The names of the files in it, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.path)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .map_err(|source| Error::Io { path: self.path.clone(), source })?;
        let mut names: Vec<String> =
            entries.into_iter().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Removes a file of it.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        std::fs::remove_file(&path).map_err(|source| Error::Io { path, source })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Holds a directory until the file that it returns is dropped, as a run does.
///
/// # Errors
/// When another process holds it, or it cannot be written to.
pub fn hold(directory: &Path) -> Result<File> {
    let path = directory.join(".lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let failed = |source| Error::Io { path: path.clone(), source };
    let mut file = open.map_err(failed)?;
    match patiently(|| file.try_lock()) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(failed)?;
            return Err(Error::InUse { path: directory.into(), holder: holder.trim().to_string() });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "this machine".into());
    let holder = format!("process {} on {}\n", std::process::id(), host.trim());
    file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).map_err(failed)?;
    Ok(file)
}

/// Tries a lock for a fifth of a second: one that was just let go may still be held by the copy in a child
/// process that has not come to its `exec`.
fn patiently(
    try_lock: impl Fn() -> std::result::Result<(), TryLockError>,
) -> std::result::Result<(), TryLockError> {
    for _ in 0..10 {
        match try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            done => return done,
        }
    }
    try_lock()
}

/// `metrics.jsonl`: one JSON object a line.
#[derive(Debug)]
pub(crate) struct Metrics {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Metrics {
    /// Opens the file and cuts it back to `length` bytes, dropping what a lost state had written.
    pub(crate) fn open(path: PathBuf, length: u64) -> Result<Self> {
        let failed = |source| Error::Io { path: path.clone(), source };
        let found = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
            Err(e) => return Err(failed(e)),
        };
        if found < length {
            let message = format!(
                "has {found} bytes, the saved state expects {length}: it was changed; use another --out"
            );
            return Err(Error::RunDir { path, message });
        }
        let open = || {
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            file.set_len(length)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(failed)?;
        Ok(Self { path, file, length })
    }

    /// Appends one line.
    pub(crate) fn append(&mut self, event: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(event).expect("events are plain data");
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(|source| self.not_written(line.len(), source))?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Forces the lines to disk; returns the length of the file.
    pub(crate) fn sync(&mut self) -> Result<u64> {
        self.file.sync_all().map_err(|source| self.not_written(self.length as usize, source))?;
        Ok(self.length)
    }

    fn not_written(&self, bytes: usize, source: std::io::Error) -> Error {
        ModelError::Write { path: self.path.clone(), bytes, source }.into()
    }
}
