//! A file of answers: a head, then records of one length, each whole by its own checksum.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The version of the layout below.
pub(super) const FORMAT: u32 = 1;

/// The first bytes of a segment.
const HEAD: &[u8; 16] = b"rslad-labels-1\n\n";

/// A file of records: slot (u64), logits (K f32), checksum (u64), little-endian.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    classes: usize,
    /// The length up to the last whole record, of the segment that this process writes to.
    own: Option<u64>,
}

/// Where the answer of a slot is.
pub(super) struct Record {
    pub(super) slot: u64,
    pub(super) record: u32,
}

/// The segments of a folder, in order of their names.
pub(super) fn paths(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("labels-") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

impl Segment {
    /// Opens a segment and lists its whole records. With `adopt`, and where no other process writes to
    /// it, it becomes this process's own, and a torn end is cut off.
    pub(super) fn open(path: &Path, classes: usize, adopt: bool) -> io::Result<(Self, Vec<Record>)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let adopted = adopt && locked(&file)?;
        let mut segment = Self { file, path: path.into(), classes, own: None };
        let records = segment.records()?;
        if adopted {
            let whole = segment.whole()?;
            segment.file.set_len(whole)?;
            if whole == 0 {
                segment.file.seek(SeekFrom::Start(0))?;
                segment.file.write_all(HEAD)?;
            }
            segment.own = Some(whole.max(HEAD.len() as u64));
        }
        Ok((segment, records))
    }

    /// A new segment of this process's own.
    pub(super) fn create(folder: &Path, classes: usize) -> io::Result<Self> {
        for number in 0.. {
            let path = folder.join(format!("labels-{number:04}"));
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    locked(&file)?;
                    file.write_all(HEAD)?;
                    return Ok(Self { file, path, classes, own: Some(HEAD.len() as u64) });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        unreachable!("a folder holds fewer files than there are numbers")
    }

    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// The bytes it takes on disk.
    pub(super) fn len(&self) -> u64 {
        self.own.unwrap_or_else(|| std::fs::metadata(&self.path).map_or(0, |m| m.len()))
    }

    pub(super) fn record_len(&self) -> u64 {
        8 + 4 * self.classes as u64 + 8
    }

    /// Appends records in one write; the number of the first. After an error the file ends where it did.
    pub(super) fn append(&mut self, new: &[(u64, &[f32])]) -> io::Result<u32> {
        let end = self.own.ok_or_else(|| io::Error::other("another process writes to this segment"))?;
        let first = u32::try_from((end - HEAD.len() as u64) / self.record_len()).map_err(io::Error::other)?;
        let bytes: Vec<u8> = new.iter().flat_map(|(slot, logits)| encoded(*slot, logits)).collect();
        let written = self.file.seek(SeekFrom::Start(end)).and_then(|_| self.file.write_all(&bytes));
        if let Err(error) = written {
            self.file.set_len(end).ok(); // what is left of it has no valid checksum
            return Err(error);
        }
        self.own = Some(end + bytes.len() as u64);
        Ok(first)
    }

    /// The logits of a record, if it is whole and of this slot.
    pub(super) fn read(&mut self, record: u32, slot: u64) -> Option<Vec<f32>> {
        let mut bytes = vec![0; self.record_len() as usize];
        let start = HEAD.len() as u64 + u64::from(record) * self.record_len();
        self.file.seek(SeekFrom::Start(start)).ok()?;
        self.file.read_exact(&mut bytes).ok()?;
        let (found, logits) = decoded(&bytes)?;
        (found == slot)
            .then(|| logits.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// All whole records; damaged ones are passed over.
    fn records(&mut self) -> io::Result<Vec<Record>> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::with_capacity(1 << 20, &self.file);
        let mut head = [0; HEAD.len()];
        if reader.read_exact(&mut head).is_err() || head != *HEAD {
            return Ok(vec![]);
        }
        let (mut records, mut bytes) = (Vec::new(), vec![0; self.record_len() as usize]);
        for record in 0.. {
            match reader.read_exact(&mut bytes) {
                Ok(()) => records.extend(decoded(&bytes).map(|(slot, _)| Record { slot, record })),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(e) => return Err(e),
            }
        }
        Ok(records)
    }

    /// The length without a torn end; 0 where the head is not there.
    fn whole(&mut self) -> io::Result<u64> {
        let length = self.file.metadata()?.len();
        let mut head = [0; HEAD.len()];
        self.file.seek(SeekFrom::Start(0))?;
        if self.file.read_exact(&mut head).is_err() || head != *HEAD {
            return Ok(0);
        }
        let body = length - HEAD.len() as u64;
        Ok(HEAD.len() as u64 + body / self.record_len() * self.record_len())
    }
}

/// Whether this process now holds the file, until it is closed.
fn locked(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

fn encoded(slot: u64, logits: &[f32]) -> Vec<u8> {
    let mut bytes = slot.to_le_bytes().to_vec();
    bytes.extend(logits.iter().flat_map(|v| v.to_le_bytes()));
    bytes.extend(checksum(&bytes).to_le_bytes());
    bytes
}

/// Slot and logits of a record's bytes, if its checksum is right.
fn decoded(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (body, check) = bytes.split_last_chunk::<8>()?;
    let (slot, logits) = body.split_first_chunk::<8>()?;
    (checksum(body) == u64::from_le_bytes(*check)).then(|| (u64::from_le_bytes(*slot), logits))
}

/// FNV-1a: a change of any one byte changes it.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}
