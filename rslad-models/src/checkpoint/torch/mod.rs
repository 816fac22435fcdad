//! State dicts that PyTorch saved, in the three formats it has had.
//!
//! A format says where the pickle lies and what its persistent references stand for (`Source`); the
//! rest is the same: find the state dict, tidy its names, check every tensor against the bytes that the file
//! holds, and only then read it. Nothing is executed, and nothing is allocated that the file does not hold.

mod element;
mod globals;
mod legacy;
mod tar;
mod view;
mod zip;

use element::Element;
use globals::Global;

use super::fault::Fault;
use super::kind::{self, Format};
use super::names::{self, Remark, StateDict};
use super::pickle::{self, Id, Value};
use view::{Storage, View};

type Pickle<'a> = pickle::Pickle<'a, Global>;

/// No network here has nearly as many tensors.
const MOST_TENSORS: usize = 10_000;
/// Names under which training codes keep the state dict beside other things.
const NESTS: &[&str] = &["state_dict", "model_state_dict", "net", "model", "last"];

/// The state dict of a file that PyTorch saved.
///
/// # Errors
/// When the file is none, is damaged, names code, or exceeds a limit.
pub fn read(bytes: &[u8]) -> Result<StateDict, Fault> {
    match kind::recognize(bytes)? {
        format @ Format::TorchZip => state_dict(format, &mut zip::open(bytes)?, bytes.len()),
        format @ Format::TorchLegacy => state_dict(format, &mut legacy::open(bytes)?, bytes.len()),
        format @ Format::TorchTar => state_dict(format, &mut tar::open(bytes)?, bytes.len()),
        Format::Safetensors => {
            Err(Fault::NotWeights("is a safetensors file, expected one that PyTorch saved".into()))
        }
    }
}

/// A file in one of the formats, opened: its pickle, and what the pickle refers to.
trait Source<'a> {
    fn pickle(&self) -> &Pickle<'a>;

    /// The storage that a persistent reference stands for.
    fn storage(&mut self, reference: Id) -> Result<Storage<'a>, Fault>;

    /// The tensor that a persistent reference stands for; only the oldest format has such.
    fn tensor(&mut self, _reference: Id) -> Result<Option<View<'a>>, Fault> {
        Ok(None)
    }
}

/// What `("storage", class, key, location, count)` says of a storage; the legacy format adds a view.
struct StorageId<'a, 'p> {
    element: Element,
    key: &'a str,
    count: usize,
    more: &'p [Id],
}

impl<'a, 'p> StorageId<'a, 'p> {
    fn of(pickle: &'p Pickle<'a>, reference: Id) -> Result<Self, Fault> {
        let parts = match pickle.items(reference) {
            Some([tag, class, key, _location, count, more @ ..]) if pickle.text(*tag) == Some("storage") => {
                let element = match pickle.value(*class) {
                    Value::Global(Global::Storage(element)) => Some(*element),
                    _ => None,
                };
                element.zip(pickle.text(*key)).zip(pickle.count(*count)).zip(Some(more))
            }
            _ => None,
        };
        let (((element, key), count), more) =
            parts.ok_or_else(|| Fault::damaged("a persistent reference is not that of a storage"))?;
        Ok(Self { element, key, count, more })
    }
}

fn state_dict<'a>(format: Format, source: &mut impl Source<'a>, file: usize) -> Result<StateDict, Fault> {
    let (dict, mut remarks) = unwrap(source.pickle())?;
    let entries = source.pickle().entries(dict).unwrap_or_default().to_vec();
    if entries.len() > MOST_TENSORS {
        return Err(Fault::limit(format!("{} tensors", entries.len()), MOST_TENSORS));
    }
    let (mut views, mut odd) = (Vec::new(), Vec::new());
    for (key, value) in entries {
        let name = source.pickle().text(key);
        match (name, view(source, value)?) {
            (Some(name), Some(view)) => views.push((name.to_string(), view)),
            (Some(name), None) => odd.push(format!("`{name}` is {}", source.pickle().value(value).noun())),
            (None, _) => {
                odd.push(format!("a key is {}, expected a string", source.pickle().value(key).noun()))
            }
        }
    }
    if !odd.is_empty() {
        return Err(Fault::Entries(format!("holds what is no tensor: {}", names::listed(&odd))));
    }
    let names = names::tidy(views)?;
    remarks.extend(names.remarks);
    let mut left = file.saturating_mul(2); // tensors may share storages, but not without end
    let mut read = |(name, view): (String, View<'a>)| {
        view.check(&name)?;
        let bytes = view.bytes().filter(|&bytes| bytes <= left);
        left -= bytes.ok_or_else(|| Fault::Limit {
            what: format!("tensors larger than itself, `{name}` of shape {:?} among them", view.shape),
            most: 2 * file as u64,
        })?;
        let tensor = view.tensor().map_err(|e| Fault::damaged(format!("`{name}`: {e}")))?;
        Ok((name, tensor))
    };
    let tensors = names.entries.into_iter().map(&mut read).collect::<Result<_, Fault>>()?;
    let constants = names.constants.into_iter().map(&mut read).collect::<Result<Vec<_>, Fault>>()?;
    StateDict::new(format, tensors, &constants, remarks)
}

/// The state dict within what was saved, and what was said on the way.
fn unwrap(pickle: &Pickle<'_>) -> Result<(Id, Vec<Remark>), Fault> {
    let (mut dict, mut remarks) = (pickle.top(), Vec::new());
    for _ in 0..4 {
        let Some(entries) = pickle.entries(dict) else {
            let noun = pickle.value(dict).noun();
            return Err(Fault::NoStateDict(format!(
                "holds {noun}, expected a state dict: names and their tensors"
            )));
        };
        let named = |(key, value): &(Id, Id)| Some((pickle.text(*key)?, *value));
        let nested = |(name, value): &(&str, Id)| NESTS.contains(name) && pickle.entries(*value).is_some();
        let nests: Vec<(&str, Id)> = entries.iter().filter_map(named).filter(nested).collect();
        match nests[..] {
            [] if entries.iter().any(|(_, value)| is_tensor(pickle, *value)) => return Ok((dict, remarks)),
            [] => {
                let keys: Vec<String> =
                    entries.iter().filter_map(named).map(|(name, _)| format!("`{name}`")).collect();
                let keys = if keys.is_empty() { "nothing".into() } else { names::listed(&keys) };
                return Err(Fault::NoStateDict(format!(
                    "holds no state dict: found {keys}, expected tensors, or one of `{}`",
                    NESTS.join("`, `")
                )));
            }
            [(name, inner)] => {
                let beside = entries.iter().filter_map(named).filter(|(other, _)| *other != name);
                remarks.push(Remark::Unwrapped {
                    name: name.into(),
                    beside: beside.map(|(other, _)| other.to_string()).collect(),
                });
                dict = inner;
            }
            _ => {
                let found: Vec<String> = nests.iter().map(|(name, _)| format!("`{name}`")).collect();
                return Err(Fault::NoStateDict(format!(
                    "holds several networks: {}; save the state dict of one of them",
                    names::listed(&found)
                )));
            }
        }
    }
    Err(Fault::limit("state dicts within state dicts deeper", 4))
}

fn is_tensor(pickle: &Pickle<'_>, id: Id) -> bool {
    matches!(pickle.value(id), Value::Call { .. } | Value::Persistent(_))
}

/// A value of the state dict as a tensor, if it is one.
fn view<'a>(source: &mut impl Source<'a>, mut id: Id) -> Result<Option<View<'a>>, Fault> {
    let wrong = || Fault::damaged("a tensor is built from something else than a storage, a size and strides");
    for _ in 0..2 {
        match *source.pickle().value(id) {
            Value::Persistent(reference) => return source.tensor(reference),
            Value::Call { function: Global::RebuildParameter, args, .. } => {
                id = *source.pickle().items(args).and_then(|args| args.first()).ok_or_else(wrong)?;
            }
            Value::Call { args, .. } => {
                let pickle = source.pickle();
                let Some(&[storage, offset, shape, strides, ..]) = pickle.items(args) else {
                    return Err(wrong());
                };
                let Value::Persistent(reference) = *pickle.value(storage) else { return Err(wrong()) };
                let offset = pickle.count(offset).ok_or_else(wrong)?;
                let shape = pickle.counts(shape).ok_or_else(wrong)?;
                let strides = pickle.counts(strides).ok_or_else(wrong)?;
                return Ok(Some(View { storage: source.storage(reference)?, offset, shape, strides }));
            }
            _ => return Ok(None),
        }
    }
    Err(wrong())
}
