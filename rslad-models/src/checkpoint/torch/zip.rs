//! The zip format, since PyTorch 1.6: `<root>/data.pkl`, and one stored entry `<root>/data/<key>` a storage.
//!
//! Entries are never unpacked: `torch.save` stores them as they are, so a storage is a range of the file.

use super::element::ByteOrder;
use super::view::Storage;
use super::{Pickle, Source, StorageId};
use crate::checkpoint::fault::Fault;
use crate::checkpoint::pickle::{self, Id};
use std::collections::HashMap;
use std::io::{Cursor, Read};
use zip::{CompressionMethod, ZipArchive, result::ZipError};

const MOST_ENTRIES: usize = 20_000;
const LARGEST_PICKLE: usize = 64 << 20;

pub(super) struct Zip<'a> {
    bytes: &'a [u8],
    archive: ZipArchive<Cursor<&'a [u8]>>,
    root: String,
    order: ByteOrder,
    pickle: Pickle<'a>,
    storages: HashMap<&'a str, &'a [u8]>, // those read and checked so far
    left: usize,                          // bytes that may still be checked: entries may overlap
}

pub(super) fn open(bytes: &[u8]) -> Result<Zip<'_>, Fault> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| {
        let end = bytes.windows(4).rev().take(1 << 17).any(|window| window == b"PK\x05\x06");
        if end { damaged(&e) } else { Fault::Truncated("its zip archive, whose directory is missing".into()) }
    })?;
    if archive.len() > MOST_ENTRIES {
        return Err(Fault::limit(format!("{} entries", archive.len()), MOST_ENTRIES));
    }
    if archive.has_duplicate_names() {
        return Err(Fault::damaged("its zip archive holds two entries of one name"));
    }
    let root = root(&archive)?;
    let mut left = bytes.len().saturating_mul(2);
    let data = entry(bytes, &mut archive, &format!("{root}/data.pkl"), &mut left)?;
    if data.len() > LARGEST_PICKLE {
        return Err(Fault::limit(format!("a pickle of {} bytes", data.len()), LARGEST_PICKLE));
    }
    let (pickle, length) = pickle::read(data, "data.pkl")?;
    if length != data.len() {
        return Err(Fault::damaged(format!("{} bytes follow its pickle", data.len() - length)));
    }
    let name = format!("{root}/byteorder");
    let order = match archive
        .index_for_name(&name)
        .map(|_| entry(bytes, &mut archive, &name, &mut left))
        .transpose()?
    {
        None | Some(b"little") => ByteOrder::Little,
        Some(b"big") => ByteOrder::Big,
        Some(_) => return Err(Fault::damaged("`byteorder` is neither little nor big")),
    };
    Ok(Zip { bytes, archive, root, order, pickle, storages: HashMap::new(), left })
}

impl<'a> Source<'a> for Zip<'a> {
    fn pickle(&self) -> &Pickle<'a> {
        &self.pickle
    }

    fn storage(&mut self, reference: Id) -> Result<Storage<'a>, Fault> {
        let StorageId { element, key, count, .. } = StorageId::of(&self.pickle, reference)?;
        let data = match self.storages.get(key) {
            Some(data) => data,
            None => {
                let name = format!("{}/data/{key}", self.root);
                let data = entry(self.bytes, &mut self.archive, &name, &mut self.left)?;
                self.storages.insert(key, data);
                data
            }
        };
        if count.checked_mul(element.size()) != Some(data.len()) {
            let message = format!(
                "storage `{key}` has {} bytes, expected {count} elements of {}",
                data.len(),
                element.size()
            );
            return Err(Fault::damaged(message));
        }
        Ok(Storage { data, element, order: self.order })
    }
}

/// The folder that everything lies in.
fn root(archive: &ZipArchive<Cursor<&[u8]>>) -> Result<String, Fault> {
    let names = archive.file_names_raw().filter_map(|name| std::str::from_utf8(name).ok());
    let roots: Vec<&str> = names.filter_map(|name| name.strip_suffix("/data.pkl")).collect();
    match roots[..] {
        [root] => Ok(root.to_string()),
        [] => Err(Fault::NotWeights(
            "is a zip archive without `data.pkl`, expected one that `torch.save` wrote".into(),
        )),
        _ => Err(Fault::damaged("its zip archive holds several `data.pkl`")),
    }
}

/// The contents of an entry, compared with its checksum.
fn entry<'a>(
    bytes: &'a [u8],
    archive: &mut ZipArchive<Cursor<&'a [u8]>>,
    name: &str,
    left: &mut usize,
) -> Result<&'a [u8], Fault> {
    let shown = || format!("`{}`", name.escape_debug().take(100).collect::<String>());
    let index = archive
        .index_for_name(name)
        .ok_or_else(|| Fault::damaged(format!("its zip archive has no entry {}", shown())))?;
    let mut entry = archive.by_index(index).map_err(|e| damaged(&e))?;
    if entry.compression() != CompressionMethod::Stored {
        return Err(Fault::Unsupported(format!(
            "{} is compressed, expected stored entries as `torch.save` writes them",
            shown()
        )));
    }
    let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
    let range = start.and_then(|start| Some(start..start.checked_add(entry.size().try_into().ok()?)?));
    let data = range.and_then(|range| bytes.get(range));
    let data = data.ok_or_else(|| Fault::Truncated(shown()))?;
    *left =
        left.checked_sub(data.len()).ok_or_else(|| Fault::damaged("entries of its zip archive overlap"))?;
    let mut buffer = [0; 1 << 14];
    loop {
        match entry.read(&mut buffer) {
            Ok(0) => return Ok(data),
            Ok(_) => {}
            Err(e) => return Err(Fault::damaged(format!("{}: {e}", shown()))),
        }
    }
}

fn damaged(error: &ZipError) -> Fault {
    Fault::damaged(format!("its zip archive: {error}"))
}
