//! The files of the python archive: pickled dictionaries with an array `data` of `[n, 3072]` bytes, laid
//! out as in the binary files, and lists of labels.

use super::part::Part;
use super::pickle::{self, Value};
use super::{Cifar, IMAGE};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Reads the files of a split.
pub(super) fn read_files(set: Cifar, files: &[PathBuf]) -> Result<Part> {
    let read = |path: &PathBuf| {
        let file = File::open(path).map_err(Error::reading(path))?;
        read(set, path, &mut BufReader::with_capacity(1 << 16, file))
    };
    Ok(Part::concat(files.iter().map(read).collect::<Result<_>>()?))
}

/// Reads one pickle; `path` names the file in errors.
pub(crate) fn read(set: Cifar, path: &Path, reader: &mut dyn Read) -> Result<Part> {
    let wrong = |message: String| Error::file(path, message);
    let mut dict = pickle::read(reader).map_err(&wrong)?;
    let mut take = |key: &str| {
        let at = dict.iter().position(|(known, _)| known == key.as_bytes());
        at.map(|at| dict.swap_remove(at).1)
            .ok_or_else(|| wrong(format!("has no `{key}`, expected a file of {}", set.name())))
    };
    let images = match take("data")? {
        Value::Array(array) => array.take(),
        _ => return Err(wrong("`data` is no array, expected bytes of [n, 3072]".to_owned())),
    };
    let [n, IMAGE] = images.shape[..] else {
        return Err(wrong(format!("`data` is {:?}, expected [n, {IMAGE}]", images.shape)));
    };
    let mut list = |key: &str| match take(key)? {
        Value::List(list) if list.borrow().len() == n => Ok(list.take()),
        Value::List(list) => {
            Err(wrong(format!("`{key}` has {} items, expected {n} as `data`", list.borrow().len())))
        }
        _ => Err(wrong(format!("`{key}` is no list of whole numbers"))),
    };
    let (labels, coarse) = match set {
        Cifar::Ten => (list("labels")?, vec![]),
        Cifar::Hundred => (list("fine_labels")?, list("coarse_labels")?),
    };
    for (row, &label) in labels.iter().enumerate() {
        if let Some(problem) = Part::label_problem(set, label, coarse.get(row).copied()) {
            return Err(wrong(format!("image {row} has {problem}")));
        }
    }
    let checked = |labels: Vec<i64>| labels.into_iter().map(|label| label as u32).collect();
    Ok(Part {
        images: images.into_values(),
        labels: checked(labels),
        coarse: checked(coarse),
        unknown: vec![],
    })
}
