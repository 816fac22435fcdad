//! The names of a foreign state dict: what wrappers put before them, and what belongs to no network of ours.
//!
//! Whatever is changed or left out is said in a [`Remark`]; a name that this leaves over and that the network
//! does not have is an error later, when both are compared.

use super::fault::Fault;
use super::kind::Format;
use candle_core::{DType, Tensor};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// What wrappers put before names: `DataParallel`, and modules that hold a network as `model`.
const PREFIXES: &[&str] = &["module.", "model."];
/// The block that the TRADES class builds and never uses.
const DEAD: &str = "sub_block1.";
/// Where a normalization that lives in the state dict keeps its two tensors.
const HOLDERS: &[&str] = &["", "normalize.", "normalizer.", "norm."];
const CONSTANTS: &[(&str, &str)] = &[("mean", "std"), ("mu", "sigma"), ("new_mean", "new_std")];

/// A state dict from another program, its names as our networks have them.
#[derive(Debug)]
pub struct StateDict {
    /// What the file is.
    pub format: Format,
    /// The tensors: f32 (f64 where the file has doubles), integers in i64.
    pub tensors: HashMap<String, Tensor>,
    /// The normalization that the state dict holds, written as the option `norm` is.
    pub norm: Option<String>,
    /// What was changed and left out.
    pub remarks: Vec<Remark>,
}

/// Something that was done to a state dict on the way in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remark {
    /// The state dict lay within another dictionary.
    Unwrapped {
        /// Under this name.
        name: String,
        /// What lay beside it, and is ignored.
        beside: Vec<String>,
    },
    /// A prefix was taken off.
    Stripped {
        /// The prefix.
        prefix: String,
        /// Of so many names.
        n: usize,
    },
    /// Entries of the unused block of the TRADES class.
    Dead {
        /// How many.
        n: usize,
    },
    /// Constants of a normalization, which is no entry of a network of ours but an option.
    Normalization {
        /// The entries.
        names: Vec<String>,
    },
    /// The file is older than the counters of batch normalizations.
    NoCounters,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |names: &[String]| listed(&names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>());
        match self {
            Self::Unwrapped { name, beside } if beside.is_empty() => {
                write!(f, "took the state dict under `{name}`")
            }
            Self::Unwrapped { name, beside } => {
                write!(f, "took the state dict under `{name}`, ignored beside it: {}", quoted(beside))
            }
            Self::Stripped { prefix, n } => write!(f, "stripped `{prefix}` from {n} names"),
            Self::Dead { n } => write!(f, "ignored {n} entries `{DEAD}*`, which the network never uses"),
            Self::Normalization { names } => write!(f, "read the normalization in {}", quoted(names)),
            Self::NoCounters => {
                write!(f, "`num_batches_tracked` is absent (PyTorch before 0.4.1) and taken as 0")
            }
        }
    }
}

/// Entries with tidy names, what was set aside of them, and what was done.
pub(crate) struct Tidy<T> {
    pub(crate) entries: BTreeMap<String, T>,
    pub(crate) constants: BTreeMap<String, T>,
    pub(crate) remarks: Vec<Remark>,
}

/// Strips prefixes, drops what no network uses.
///
/// # Errors
/// When two entries have one name.
pub(crate) fn tidy<T>(all: Vec<(String, T)>) -> Result<Tidy<T>, Fault> {
    let mut stripped: BTreeMap<String, usize> = BTreeMap::new();
    let (mut entries, mut twice, mut dead) = (BTreeMap::new(), BTreeSet::new(), 0);
    for (name, value) in all {
        let short = without_prefixes(&name);
        let prefix = &name[..name.len() - short.len()];
        if !prefix.is_empty() {
            *stripped.entry(prefix.into()).or_default() += 1;
        }
        if short.starts_with(DEAD) {
            dead += 1;
        } else if entries.insert(short.to_string(), value).is_some() {
            twice.insert(format!("`{short}`"));
        }
    }
    if !twice.is_empty() {
        let twice: Vec<String> = twice.into_iter().collect();
        return Err(Fault::Entries(format!("has two entries of one name: {}", listed(&twice))));
    }
    let mut remarks: Vec<Remark> =
        stripped.into_iter().map(|(prefix, n)| Remark::Stripped { prefix, n }).collect();
    if dead > 0 {
        remarks.push(Remark::Dead { n: dead });
    }
    if entries.keys().any(|k| k.ends_with("running_mean"))
        && !entries.keys().any(|k| k.ends_with("num_batches_tracked"))
    {
        remarks.push(Remark::NoCounters);
    }
    let constants = take_constants(&mut entries);
    if !constants.is_empty() {
        remarks.push(Remark::Normalization { names: constants.keys().cloned().collect() });
    }
    Ok(Tidy { entries, constants, remarks })
}

fn without_prefixes(mut name: &str) -> &str {
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    name
}

fn take_constants<T>(entries: &mut BTreeMap<String, T>) -> BTreeMap<String, T> {
    let mut constants = BTreeMap::new();
    for holder in HOLDERS {
        for (mean, std) in CONSTANTS {
            let names = [format!("{holder}{mean}"), format!("{holder}{std}")];
            if names.iter().all(|name| entries.contains_key(name)) {
                constants.extend(names.into_iter().filter_map(|name| entries.remove_entry(&name)));
            }
        }
    }
    constants
}

impl StateDict {
    /// A state dict of tidy names, with the normalization that its constants describe.
    pub(crate) fn new(
        format: Format,
        tensors: HashMap<String, Tensor>,
        constants: &[(String, Tensor)],
        remarks: Vec<Remark>,
    ) -> Result<Self, Fault> {
        let norm = match constants {
            [] => None,
            // In order of names, each pair has the mean first.
            [(_, mean), (_, std)] => Some(norm(mean, std).ok_or_else(|| {
                Fault::Entries("has constants of a normalization that are not a few numbers".into())
            })?),
            _ => return Err(Fault::Entries("holds more than one normalization".into())),
        };
        Ok(Self { format, tensors, norm, remarks })
    }
}

fn norm(mean: &Tensor, std: &Tensor) -> Option<String> {
    let numbers = |t: &Tensor| -> Option<Vec<f32>> {
        let few = (1..=16).contains(&t.elem_count()).then(|| t.flatten_all().ok()?.to_dtype(DType::F32).ok());
        few??.to_vec1().ok()
    };
    let (mean, std) = (numbers(mean)?, numbers(std)?);
    let written = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
    Some(format!("{}/{}", written(&mean), written(&std)))
}

/// A list for a message, cut short.
pub(crate) fn listed(items: &[String]) -> String {
    const MOST: usize = 12;
    let shown = items.iter().take(MOST).map(|item| item.chars().take(120).collect::<String>());
    let shown = shown.collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
