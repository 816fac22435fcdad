//! The files of the python archive: pickled dictionaries with an array `data` of `[n, 3072]` bytes, laid
//! out as in the binary files, and lists of labels.
//!
//! Nothing of a pickle is run: the machine that reads weights knows three names of NumPy here, and any other
//! is an error.

use super::official::is_published;
use super::part::Part;
use super::{Cifar, IMAGE};
use crate::error::{Error, Result};
use crate::hash::Hashed;
use rslad_models::checkpoint::Fault;
use rslad_models::checkpoint::pickle::{self, Id, Made, Pickle, Value, Vocabulary};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

const MAX_BYTES: usize = 1 << 28; // the train file of CIFAR-100 has 155 MB

/// Reads the files of a split, in their order.
pub(super) fn read_files(set: Cifar, files: &[PathBuf]) -> Result<Vec<Part>> {
    let read = |path: &PathBuf| {
        let mut reader = Hashed::by_md5(File::open(path).map_err(Error::reading(path))?);
        let mut part = read(set, path, &mut reader)?;
        if !is_published(&reader.md5().map_err(Error::reading(path))?) {
            part.unknown.push(path.display().to_string());
        }
        Ok(part)
    };
    files.iter().map(read).collect()
}

/// Reads one pickle; `path` names the file in errors.
pub(crate) fn read(set: Cifar, path: &Path, reader: &mut dyn Read) -> Result<Part> {
    let mut file = Vec::new();
    reader.take(MAX_BYTES as u64 + 1).read_to_end(&mut file).map_err(Error::reading(path))?;
    if file.len() > MAX_BYTES {
        return Err(Error::file(path, format!("has more than {MAX_BYTES} bytes, expected a file of CIFAR")));
    }
    let Found { images, labels, coarse } = find(set, &file).map_err(|message| Error::file(path, message))?;
    // The images become the whole of the buffer: beside 154 MB there is no room for a copy of them.
    file.truncate(images.end);
    file.drain(..images.start);
    Ok(Part { images: file, labels, coarse, unknown: vec![] })
}

/// What a pickle holds.
struct Found {
    images: Range<usize>, // of the bytes of the file
    labels: Vec<u32>,
    coarse: Vec<u32>,
}

fn find(set: Cifar, file: &[u8]) -> std::result::Result<Found, String> {
    let (pickle, _) = pickle::read::<Name>(file, "its pickle").map_err(said)?;
    let entries = pickle.entries(pickle.top()).ok_or_else(|| {
        format!("holds {}, expected a dictionary with `data`", pickle.value(pickle.top()).noun())
    })?;
    let take = |key: &str| {
        let mut values = entries.iter().filter(|(known, _)| pickle.bytes(*known) == Some(key.as_bytes()));
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Ok(*value),
            (None, _) => Err(format!("has no `{key}`, expected a file of {}", set.name())),
            _ => Err(format!("has `{key}` twice, expected once")),
        }
    };
    let (shape, images) = array(&pickle, take("data")?)?;
    let [n, IMAGE] = shape[..] else {
        return Err(format!("`data` is {shape:?}, expected [n, {IMAGE}]"));
    };
    if n.checked_mul(IMAGE) != Some(images.len()) {
        return Err(format!("`data` has {} bytes, expected {n} images of {IMAGE}", images.len()));
    }
    let list = |key: &str| {
        let items = pickle.items(take(key)?).filter(|items| items.len() == n);
        let numbers = items.and_then(|items| items.iter().map(|&item| pickle.int(item)).collect());
        numbers
            .ok_or_else(|| format!("`{key}` is no list of {n} whole numbers, as many as `data` has images"))
    };
    let (labels, coarse): (Vec<i64>, Vec<i64>) = match set {
        Cifar::Ten => (list("labels")?, vec![]),
        Cifar::Hundred => (list("fine_labels")?, list("coarse_labels")?),
    };
    for (row, &label) in labels.iter().enumerate() {
        if let Some(problem) = Part::label_problem(set, label, coarse.get(row).copied()) {
            return Err(format!("image {row} has {problem}"));
        }
    }
    let start = images.as_ptr().addr() - file.as_ptr().addr(); // the machine never copies strings
    let checked = |labels: Vec<i64>| labels.into_iter().map(|label| label as u32).collect();
    Ok(Found { images: start..start + images.len(), labels: checked(labels), coarse: checked(coarse) })
}

/// An array of bytes in row-major order: its shape and its values.
fn array<'a>(pickle: &Pickle<'a, Name>, id: Id) -> std::result::Result<(Vec<usize>, &'a [u8]), String> {
    let other = || "`data` is no array that NumPy wrote, expected bytes of [n, 3072]".to_owned();
    let Value::Call { function: Name::Reconstruct, state: Some(state), .. } = pickle.value(id) else {
        return Err(other());
    };
    let Some(&[_version, shape, kind, order, values]) = pickle.items(*state) else { return Err(other()) };
    let code = match pickle.value(kind) {
        Value::Call { function: Name::Dtype, args, .. } => {
            pickle.items(*args).and_then(|args| pickle.bytes(*args.first()?))
        }
        _ => None,
    };
    if code != Some(b"u1") {
        return Err("`data` is an array of other numbers, expected bytes (u1)".to_owned());
    }
    if !matches!(pickle.value(order), Value::Bool(false) | Value::Int(0)) {
        return Err("`data` is an array in Fortran order, expected rows".to_owned());
    }
    pickle.counts(shape).zip(pickle.bytes(values)).ok_or_else(other)
}

/// What a file of CIFAR may name.
#[derive(Clone, Copy, Debug)]
enum Name {
    Reconstruct,
    Ndarray,
    Dtype,
}

impl Vocabulary for Name {
    const LONGEST_STRING: usize = MAX_BYTES;

    fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Some(Self::Reconstruct),
            ("numpy", "ndarray") => Some(Self::Ndarray),
            ("numpy", "dtype") => Some(Self::Dtype),
            _ => None,
        }
    }

    fn called(self) -> std::result::Result<Made, Fault> {
        Ok(Made::Call)
    }
}

fn said(fault: Fault) -> String {
    match fault {
        Fault::Refused(name) => format!("a pickle that names {name}, expected NumPy's array; it was not run"),
        other => other.to_string(),
    }
}
