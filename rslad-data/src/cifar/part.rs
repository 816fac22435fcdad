//! The images of one file, and how the files of a split become a data set.

use super::{Cifar, IMAGE, SHAPE};
use crate::dataset::{Contents, Dataset, Split};
use crate::error::Result;
use crate::pixels::Pixels;

/// Images and labels in the order of a file.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Part {
    /// `[n, 3, 32, 32]`.
    pub(crate) images: Vec<u8>,
    /// `[n]`.
    pub(crate) labels: Vec<u32>,
    /// The superclasses, `[n]`, where there are any.
    pub(crate) coarse: Vec<u32>,
    /// The files that are none of the published ones.
    pub(crate) unknown: Vec<String>,
}

/// The number of superclasses of CIFAR-100.
const SUPERCLASSES: u32 = 20;

impl Part {
    /// What is wrong with a label, if anything.
    pub(crate) fn label_problem(set: Cifar, label: i64, coarse: Option<i64>) -> Option<String> {
        let n = set.n_classes() as i64;
        if !(0..n).contains(&label) {
            return Some(format!("a label of {label}, expected 0 to {}", n - 1));
        }
        let coarse = coarse.filter(|label| !(0..i64::from(SUPERCLASSES)).contains(label))?;
        Some(format!("a coarse label of {coarse}, expected 0 to {}", SUPERCLASSES - 1))
    }

    fn into_dataset(self, set: Cifar, split: Split) -> Result<Dataset> {
        debug_assert_eq!(self.images.len(), IMAGE * self.labels.len());
        Dataset::new(Contents {
            name: set.name().to_owned(),
            split,
            pixels: Pixels::Levels { values: self.images, full_scale: 255 },
            shape: SHAPE,
            labels: self.labels,
            class_names: set.class_names().iter().map(|&name| name.to_owned()).collect(),
        })
    }
}

/// The files of a split one after another, with notes where they are not as published. Each keeps its buffer:
/// beside the 154 MB of a train split there is no room for a copy.
pub(super) fn into_dataset(mut parts: Vec<Part>, set: Cifar, split: Split) -> Result<Dataset> {
    let notes = notes(&parts, set, split);
    if parts.iter().any(|part| !part.labels.is_empty()) {
        parts.retain(|part| !part.labels.is_empty());
    }
    let mut parts = parts.into_iter().map(|part| part.into_dataset(set, split));
    let first = parts.next().unwrap_or_else(|| Part::default().into_dataset(set, split))?;
    let data = Dataset::one_after_another(first, parts.collect::<Result<Vec<_>>>()?);
    Ok(notes.into_iter().fold(data, Dataset::with_note))
}

fn notes(parts: &[Part], set: Cifar, split: Split) -> Vec<String> {
    let mut notes = Vec::new();
    let unknown: Vec<&str> = parts.iter().flat_map(|part| part.unknown.iter().map(String::as_str)).collect();
    if !unknown.is_empty() {
        notes.push(format!("{}: not a published file of {} by its hash", unknown.join(", "), set.name()));
    }
    let (n, published) = (parts.iter().map(|part| part.labels.len()).sum::<usize>(), set.published(split));
    if n != published {
        notes.push(format!("{} {split}: {n} images, published are {published}", set.name()));
    }
    if let Some(class) = class_of_two_superclasses(parts) {
        let name = set.class_names()[class];
        notes.push(format!("class {class} ({name}) is in two superclasses, published is one"));
    }
    notes
}

fn class_of_two_superclasses(parts: &[Part]) -> Option<usize> {
    let mut of = [None; 100];
    let mut both = parts.iter().flat_map(|part| part.labels.iter().zip(&part.coarse));
    let conflict = |(fine, coarse): &(&u32, &u32)| *of[**fine as usize].get_or_insert(**coarse) != **coarse;
    both.find(conflict).map(|(fine, _)| *fine as usize)
}
