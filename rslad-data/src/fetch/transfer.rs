//! One file: from the mirrors into `NAME.part`, and from there to its name once its hash is right.

use super::Event;
use super::client::{Answer, Client, Refusal};
use super::offers::RemoteFile;
use crate::error::{Error, Result};
use crate::hash::Hashed;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// How often a mirror is asked again without a byte of progress.
const PATIENCE: u32 = 4;

/// How often one mirror may begin anew.
const RESTARTS: u32 = 3;

/// Every address that failed, and why.
pub(super) type Failures = Vec<(String, String)>;

type Watch<'w> = &'w mut dyn FnMut(Event<'_>);

/// Where the file is; none if no mirror has it.
pub(super) fn get(
    file: &RemoteFile,
    directory: &Path,
    client: &Client,
    watch: Watch<'_>,
    failures: &mut Failures,
) -> Result<Option<PathBuf>> {
    let target = directory.join(&file.name);
    if target.exists() {
        let sha256 = hash(&target)?;
        if sha256 == file.sha256 {
            watch(Event::Present(&file.name));
            return Ok(Some(target));
        }
        let message = format!("is another file (sha256 {sha256}), expected {}; move it away", file.sha256);
        return Err(Error::file(&target, message));
    }
    let mut part = Part::open(&target)?;
    for url in &file.urls {
        match from_mirror(file, url, &mut part, client, watch)? {
            Ok(()) => {
                part.rename(directory, &target)?;
                watch(Event::Done(&file.name));
                return Ok(Some(target));
            }
            Err(reason) => {
                watch(Event::Failed { url, reason: &reason });
                failures.push((url.clone(), reason));
            }
        }
    }
    part.leave()?;
    Ok(None)
}

/// The whole file, right by its hash; or why this mirror does not give it.
fn from_mirror(
    file: &RemoteFile,
    url: &str,
    part: &mut Part,
    client: &Client,
    watch: Watch<'_>,
) -> Result<std::result::Result<(), String>> {
    if let Some(reason) = client.forbidden(url) {
        return Ok(Err(reason.to_owned()));
    }
    let (mut idle, mut restarts) = (0, 0);
    let mut resumed = part.len()? > 0; // from another mirror, or another day
    loop {
        let have = part.len()?;
        let (reason, anew) = match stream(file, url, part, client, watch)? {
            Ok(()) if part.sha256()? == file.sha256 => return Ok(Ok(())),
            Ok(()) if resumed => ("what was begun before does not fit, begins anew".to_owned(), true),
            Ok(()) => {
                part.clear()?;
                return Ok(Err("sends a file with another sha256, which was not kept".to_owned()));
            }
            Err(Refusal::Final(reason)) => return Ok(Err(reason)),
            Err(Refusal::Position) => ("cannot continue where it broke off, begins anew".to_owned(), true),
            Err(Refusal::Passing(reason)) => (reason, false),
        };
        if anew {
            part.clear()?;
            restarts += 1;
        }
        let now = part.len()?;
        resumed = now > 0;
        idle = if now > have { 0 } else { idle + 1 };
        if idle > PATIENCE || restarts > RESTARTS {
            return Ok(Err(reason));
        }
        watch(Event::Failed { url, reason: &reason });
        std::thread::sleep(client.pause(idle));
    }
}

/// Appends what the mirror sends; done when the file is as long as it should be.
fn stream(
    file: &RemoteFile,
    url: &str,
    part: &mut Part,
    client: &Client,
    watch: Watch<'_>,
) -> Result<std::result::Result<(), Refusal>> {
    let have = part.len()?;
    match file.size {
        Some(size) if size == have => return Ok(Ok(())), // only the hash was not looked at yet
        Some(size) if size < have => return Ok(Err(Refusal::Position)),
        _ => {}
    }
    let Answer { body, total } = match client.ask(url, have) {
        Ok(answer) => answer,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let (Some(total), Some(size)) = (total, file.size)
        && total != size
    {
        return Ok(Err(Refusal::Final(format!("has {total} bytes, expected {size}"))));
    }
    let total = total.or(file.size);
    watch(Event::Begins { name: &file.name, url, have, total });
    let most = total.map_or(u64::MAX, |total| total - have);
    let mut reader = body.into_reader().take(most);
    let mut buffer = vec![0; 1 << 16];
    let mut at = have;
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Err(Refusal::Passing(format!("broke off after {at} bytes ({error})")))),
        };
        if at == 0 && is_page(&buffer[..n]) {
            return Ok(Err(Refusal::Final("sends a web page, expected the file".to_owned())));
        }
        part.append(&buffer[..n])?;
        at += n as u64;
        watch(Event::Received(n as u64));
    }
    match total {
        Some(total) if at < total => {
            Ok(Err(Refusal::Passing(format!("broke off after {at} of {total} bytes"))))
        }
        _ => Ok(Ok(())),
    }
}

/// Whether bytes are the beginning of an HTML page: no data set begins so.
fn is_page(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).trim_start().to_ascii_lowercase();
    text.starts_with("<!doctype html") || text.starts_with("<html")
}

/// A file that is not whole yet, held by one process.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    fn open(target: &Path) -> Result<Self> {
        let mut name = target.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(&path).map_err(Error::writing(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, file }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { path }),
            Err(TryLockError::Error(source)) => Err(Error::Write { path, source }),
        }
    }

    fn len(&self) -> Result<u64> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(Error::reading(&self.path))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::writing(&self.path))
    }

    fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(Error::writing(&self.path))
    }

    fn sha256(&mut self) -> Result<String> {
        let whole = self.file.seek(SeekFrom::Start(0)).and_then(|_| Hashed::new(&self.file).sha256());
        whole.map_err(Error::reading(&self.path))
    }

    /// Gives the file its name. It must be on the disk before it has it.
    fn rename(self, directory: &Path, target: &Path) -> Result<()> {
        self.file.sync_all().map_err(Error::writing(&self.path))?;
        fs::rename(&self.path, target).map_err(Error::writing(target))?;
        sync(directory).map_err(Error::writing(directory))
    }

    /// Leaves what is there for the next time, if there is something.
    fn leave(self) -> Result<()> {
        match self.len()? {
            0 => fs::remove_file(&self.path).map_err(Error::writing(&self.path)),
            _ => Ok(()),
        }
    }
}

/// A rename is on the disk when its directory is; only Unix opens directories.
fn sync(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

fn hash(path: &Path) -> Result<String> {
    File::open(path).and_then(|file| Hashed::new(file).sha256()).map_err(Error::reading(path))
}
