//! The legacy format, before PyTorch 1.6: five pickles (magic number, protocol, system, object, storage
//! keys), then each storage as a count in 8 bytes and its elements, in the order of the keys.
//!
//! Source: `_legacy_load` in PyTorch's `serialization.py`. The elements are little-endian whatever the
//! system says, because `torch.save` turns them.

use super::element::ByteOrder;
use super::view::Storage;
use super::{Element, MOST_TENSORS, Pickle, Source, StorageId};
use crate::checkpoint::bytes::Bytes;
use crate::checkpoint::fault::Fault;
use crate::checkpoint::pickle::{self, Id, Value};
use std::collections::HashMap;

const PROTOCOL: i64 = 1001;

pub(super) struct Legacy<'a> {
    pickle: Pickle<'a>,
    storages: HashMap<&'a str, Storage<'a>>,
}

pub(super) fn open(all: &[u8]) -> Result<Legacy<'_>, Fault> {
    let mut bytes = Bytes::new(all, "the legacy format");
    let _magic = next(&mut bytes)?; // what the format was recognized by
    let protocol = next(&mut bytes)?;
    if protocol.int(protocol.top()) != Some(PROTOCOL) {
        return Err(Fault::Unsupported(format!(
            "has another protocol of the legacy format, expected {PROTOCOL}"
        )));
    }
    let _system = next(&mut bytes)?;
    let object = next(&mut bytes)?;
    let keys = next(&mut bytes)?;
    let keys = keys
        .items(keys.top())
        .and_then(|items| items.iter().map(|&id| keys.text(id)).collect::<Option<Vec<_>>>());
    let keys = keys.ok_or_else(|| Fault::damaged("its list of storages is no list of strings"))?;
    if keys.len() > MOST_TENSORS {
        return Err(Fault::limit(format!("{} storages", keys.len()), MOST_TENSORS));
    }
    let elements = elements(&object)?;
    let mut storages = HashMap::new();
    for key in keys {
        let element =
            *elements.get(key).ok_or_else(|| Fault::damaged("it holds a storage that no tensor reads"))?;
        let count = bytes.count()?;
        let length =
            count.checked_mul(element.size()).ok_or_else(|| Fault::damaged("a storage without end"))?;
        let storage = Storage { data: bytes.take(length)?, element, order: ByteOrder::Little };
        if storages.insert(key, storage).is_some() {
            return Err(Fault::damaged("it holds two storages of one key"));
        }
    }
    if !bytes.rest().is_empty() {
        return Err(Fault::damaged(format!("{} bytes follow its last storage", bytes.rest().len())));
    }
    Ok(Legacy { pickle: object, storages })
}

fn next<'a>(bytes: &mut Bytes<'a>) -> Result<Pickle<'a>, Fault> {
    let (pickle, length) = pickle::read(bytes.rest(), "the legacy format")?;
    bytes.take(length)?;
    Ok(pickle)
}

/// The element type of every storage that the object refers to.
fn elements<'a>(pickle: &Pickle<'a>) -> Result<HashMap<&'a str, Element>, Fault> {
    let mut elements = HashMap::new();
    for reference in pickle.persistent() {
        if pickle.items(reference).and_then(|parts| pickle.text(*parts.first()?)) == Some("module") {
            return Err(Fault::Unsupported(
                "is a whole model, expected a state dict; save `model.state_dict()` in PyTorch".into(),
            ));
        }
        let StorageId { element, key, .. } = StorageId::of(pickle, reference)?;
        if elements.insert(key, element).is_some_and(|before| before != element) {
            return Err(Fault::damaged(format!("storage `{key}` has two element types")));
        }
    }
    Ok(elements)
}

impl<'a> Source<'a> for Legacy<'a> {
    fn pickle(&self) -> &Pickle<'a> {
        &self.pickle
    }

    fn storage(&mut self, reference: Id) -> Result<Storage<'a>, Fault> {
        let StorageId { key, count, more, .. } = StorageId::of(&self.pickle, reference)?;
        let storage =
            self.storages.get(key).ok_or_else(|| Fault::damaged(format!("it lacks storage `{key}`")))?;
        // The sixth part is a view of the storage, (key, offset, count), or None.
        let view = more.first().filter(|&&id| !matches!(self.pickle.value(id), Value::None));
        let Some(&view) = view else {
            return storage.part(0, count).and_then(|part| match part.data.len() == storage.data.len() {
                true => Ok(part),
                false => {
                    Err(Fault::damaged(format!("storage `{key}` has another count than its tensors say")))
                }
            });
        };
        let window = match self.pickle.items(view) {
            Some(&[_key, offset, count]) => self.pickle.count(offset).zip(self.pickle.count(count)),
            _ => None,
        };
        let (offset, count) =
            window.ok_or_else(|| Fault::damaged("a view of a storage lacks offset and count"))?;
        storage.part(offset, count)
    }
}
