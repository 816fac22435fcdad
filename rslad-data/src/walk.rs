//! A walk over the entries of a `.tar.gz` that nobody vouches for.
//!
//! Names are only compared and never used as paths, nothing is written, and the walk ends at limits that
//! no archive of a data set comes near: entries, unpacked bytes, and how much packed bytes may blow up.

use crate::error::{Error, Result};
use crate::hash::Hashed;
use flate2::read::GzDecoder;
use std::io::{self, Read};
use std::path::{Component, Path};
use tar::{Archive, EntryType};

const MAX_ENTRIES: usize = 64;
const MAX_BYTES: u64 = 1 << 30;
/// Photographs hardly shrink; what unpacks to more than this from the first megabyte on is a trap.
const MAX_RATIO: u64 = 200;
const FREE_BYTES: u64 = 1 << 20;

/// Shows every regular file of an archive to `visit`, with its name; says the SHA-256 of the archive.
/// `path` names the archive in errors.
///
/// # Errors
/// When the archive is damaged, holds anything but files and directories or names a place outside of
/// itself, or exceeds a limit; and the errors of `visit`.
pub(crate) fn walk(
    path: &Path,
    packed: impl Read,
    visit: &mut dyn FnMut(&str, &mut dyn Read) -> Result<()>,
) -> Result<String> {
    let damaged = |error: io::Error| {
        Error::file(path, format!("is damaged or cut short ({error}), expected a whole .tar.gz"))
    };
    let mut archive = Archive::new(Bounded { unpacked: GzDecoder::new(Hashed::new(packed)), n: 0 });
    // Raw: the extensions for long names would be read into memory whole, and no name here is long.
    for (i, entry) in archive.entries().map_err(damaged)?.raw(true).enumerate() {
        let mut entry = entry.map_err(damaged)?;
        if i == MAX_ENTRIES {
            return Err(Error::file(path, format!("has more than {MAX_ENTRIES} entries")));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !stays_inside(&name) {
            return Err(Error::file(path, format!("entry `{name}` points out of the archive")));
        }
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => visit(&name, &mut entry)?,
            EntryType::Directory
            | EntryType::XHeader
            | EntryType::XGlobalHeader
            | EntryType::GNULongName
            | EntryType::GNULongLink => {}
            other => {
                let message = format!("entry `{name}` is a {other:?}, expected files and directories");
                return Err(Error::file(path, message));
            }
        }
    }
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(damaged)?; // up to the checksum at the end
    rest.unpacked.into_inner().sha256().map_err(Error::reading(path))
}

fn stays_inside(name: &str) -> bool {
    Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Unpacked bytes up to the limits.
struct Bounded<R> {
    unpacked: GzDecoder<Hashed<R>>,
    n: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.unpacked.read(buffer)?;
        self.n += n as u64;
        let packed = self.unpacked.get_ref().n();
        if self.n > MAX_BYTES || self.n > FREE_BYTES + MAX_RATIO * packed {
            let message = format!("{packed} bytes unpack to more than {}, a trap", self.n);
            return Err(io::Error::other(message));
        }
        Ok(n)
    }
}
