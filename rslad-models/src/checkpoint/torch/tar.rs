//! The tar format, before PyTorch 0.1.10: the members `storages`, `tensors` and `pickle`, where the pickle
//! refers to tensors by number.
//!
//! Source: `legacy_load` in PyTorch's `serialization.py`. Members are never unpacked: each is a range of
//! the file.

use super::element::ByteOrder;
use super::view::{Storage, View};
use super::{Global, MOST_TENSORS, Pickle, Source};
use crate::checkpoint::bytes::Bytes;
use crate::checkpoint::fault::Fault;
use crate::checkpoint::pickle::{self, Id, Value};
use std::collections::HashMap;
use std::io::Cursor;
use tar::EntryType;

const MOST_MEMBERS: usize = 64;

pub(super) struct Tar<'a> {
    pickle: Pickle<'a>,
    tensors: HashMap<i64, View<'a>>,
}

pub(super) fn open(bytes: &[u8]) -> Result<Tar<'_>, Fault> {
    let members = members(bytes)?;
    let member = |name: &'static str| {
        let found = members.get(name).ok_or_else(|| {
            Fault::NotWeights(format!(
                "is a tar archive without `{name}`, expected one that `torch.save` wrote"
            ))
        });
        found.map(|data| Bytes::new(data, name))
    };
    let storages = storages(member("storages")?)?;
    let tensors = tensors(member("tensors")?, &storages)?;
    let (pickle, _) = pickle::read(member("pickle")?.rest(), "pickle")?;
    Ok(Tar { pickle, tensors })
}

/// The regular files of the archive.
fn members(bytes: &[u8]) -> Result<HashMap<String, &[u8]>, Fault> {
    let damaged = |e: std::io::Error| Fault::damaged(format!("its tar archive: {e}"));
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    for (n, entry) in archive.entries_with_seek().map_err(damaged)?.enumerate() {
        if n >= MOST_MEMBERS {
            return Err(Fault::limit("more members in its tar archive", MOST_MEMBERS));
        }
        let entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_string();
        match entry.header().entry_type() {
            EntryType::Regular => {}
            EntryType::Directory => continue,
            _ => return Err(Fault::damaged("its tar archive holds links or devices")),
        }
        let start = usize::try_from(entry.raw_file_position()).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(entry.size().try_into().ok()?)?));
        let data = range.and_then(|range| bytes.get(range));
        let data = data.ok_or_else(|| Fault::Truncated(format!("member {n} of its tar archive")))?;
        if members.insert(name, data).is_some() {
            return Err(Fault::damaged("its tar archive holds two members of one name"));
        }
    }
    Ok(members)
}

fn next<'a>(bytes: &mut Bytes<'a>, what: &'static str) -> Result<Pickle<'a>, Fault> {
    let (pickle, length) = pickle::read(bytes.rest(), what)?;
    bytes.take(length)?;
    Ok(pickle)
}

fn how_many(bytes: &mut Bytes<'_>, what: &'static str) -> Result<usize, Fault> {
    let pickle = next(bytes, what)?;
    let n =
        pickle.count(pickle.top()).ok_or_else(|| Fault::damaged(format!("`{what}` begins with no count")))?;
    if n > MOST_TENSORS { Err(Fault::limit(format!("{n} {what}"), MOST_TENSORS)) } else { Ok(n) }
}

/// `storages`: how many, each as (key, location, class) with a count and its elements, then the views among them.
fn storages(mut bytes: Bytes<'_>) -> Result<HashMap<i64, Storage<'_>>, Fault> {
    let wrong = || Fault::damaged("`storages` holds something else");
    let mut storages = HashMap::new();
    for _ in 0..how_many(&mut bytes, "storages")? {
        let about = next(&mut bytes, "storages")?;
        let Some(&[key, _location, class]) = about.items(about.top()) else { return Err(wrong()) };
        let Value::Global(Global::Storage(element)) = *about.value(class) else { return Err(wrong()) };
        let length = bytes.count()?.checked_mul(element.size()).ok_or_else(wrong)?;
        let storage = Storage { data: bytes.take(length)?, element, order: ByteOrder::Little };
        if storages.insert(about.int(key).ok_or_else(wrong)?, storage).is_some() {
            return Err(Fault::damaged("`storages` holds two of one key"));
        }
    }
    let views = next(&mut bytes, "storages")?;
    for &view in views.items(views.top()).ok_or_else(wrong)? {
        let Some(&[target, root, offset, count]) = views.items(view) else { return Err(wrong()) };
        let root = views.int(root).and_then(|root| storages.get(&root)).ok_or_else(wrong)?;
        let window = views.count(offset).zip(views.count(count)).ok_or_else(wrong)?;
        let part = root.part(window.0, window.1)?;
        if storages.insert(views.int(target).ok_or_else(wrong)?, part).is_some() {
            return Err(Fault::damaged("`storages` holds two of one key"));
        }
    }
    Ok(storages)
}

/// `tensors`: how many, each as (key, storage, class) with sides, strides and offset in 8 bytes each.
fn tensors<'a>(
    mut bytes: Bytes<'a>,
    storages: &HashMap<i64, Storage<'a>>,
) -> Result<HashMap<i64, View<'a>>, Fault> {
    let wrong = || Fault::damaged("`tensors` holds something else");
    let mut tensors = HashMap::new();
    for _ in 0..how_many(&mut bytes, "tensors")? {
        let about = next(&mut bytes, "tensors")?;
        let Some(&[key, storage, _class]) = about.items(about.top()) else { return Err(wrong()) };
        let storage = about.int(storage).and_then(|key| storages.get(&key)).ok_or_else(wrong)?;
        let n = bytes.u32()?;
        bytes.u32()?; // the upper half of a number of 8 bytes, which PyTorch passes over too
        if n > 8 {
            return Err(Fault::damaged(format!("a tensor of {n} dimensions")));
        }
        let mut counts = || (0..n).map(|_| bytes.count()).collect::<Result<Vec<usize>, Fault>>();
        let (shape, strides) = (counts()?, counts()?);
        let view = View { storage: *storage, offset: bytes.count()?, shape, strides };
        if tensors.insert(about.int(key).ok_or_else(wrong)?, view).is_some() {
            return Err(Fault::damaged("`tensors` holds two of one key"));
        }
    }
    Ok(tensors)
}

impl<'a> Source<'a> for Tar<'a> {
    fn pickle(&self) -> &Pickle<'a> {
        &self.pickle
    }

    fn storage(&mut self, _reference: Id) -> Result<Storage<'a>, Fault> {
        Err(Fault::damaged("its pickle rebuilds tensors, which this format keeps beside it"))
    }

    fn tensor(&mut self, reference: Id) -> Result<Option<View<'a>>, Fault> {
        let text = self.pickle.text(reference).and_then(|text| text.parse().ok());
        let key = text.or_else(|| self.pickle.int(reference));
        let found = key.and_then(|key| self.tensors.get(&key)).cloned();
        found.map(Some).ok_or_else(|| Fault::damaged("its pickle refers to a tensor that is not there"))
    }
}
