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
    /// The files of a split one after another.
    pub(crate) fn concat(mut parts: Vec<Self>) -> Self {
        if parts.len() == 1 {
            return parts.remove(0); // no second copy of 154 MB
        }
        let mut all = Self::default();
        all.images.reserve_exact(parts.iter().map(|part| part.images.len()).sum());
        for part in parts {
            all.images.extend_from_slice(&part.images); // and `part` is freed: at most one file is held twice
            all.labels.extend(part.labels);
            all.coarse.extend(part.coarse);
            all.unknown.extend(part.unknown);
        }
        all
    }

    /// What is wrong with a label, if anything.
    pub(crate) fn label_problem(set: Cifar, label: i64, coarse: Option<i64>) -> Option<String> {
        let n = set.n_classes() as i64;
        if !(0..n).contains(&label) {
            return Some(format!("a label of {label}, expected 0 to {}", n - 1));
        }
        let coarse = coarse.filter(|label| !(0..i64::from(SUPERCLASSES)).contains(label))?;
        Some(format!("a coarse label of {coarse}, expected 0 to {}", SUPERCLASSES - 1))
    }

    /// The data set, with notes where it is not as published.
    pub(crate) fn into_dataset(self, set: Cifar, split: Split) -> Result<Dataset> {
        let notes = self.notes(set, split);
        debug_assert_eq!(self.images.len(), IMAGE * self.labels.len());
        let data = Dataset::new(Contents {
            name: set.name().to_owned(),
            split,
            pixels: Pixels::Levels { values: self.images, full_scale: 255 },
            shape: SHAPE,
            labels: self.labels,
            class_names: set.class_names().iter().map(|&name| name.to_owned()).collect(),
        })?;
        Ok(notes.into_iter().fold(data, Dataset::with_note))
    }

    fn notes(&self, set: Cifar, split: Split) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.unknown.is_empty() {
            let (files, name) = (self.unknown.join(", "), set.name());
            notes.push(format!("{files}: not a published file of {name} by its hash"));
        }
        let (n, published) = (self.labels.len(), set.published(split));
        if n != published {
            notes.push(format!("{} {split}: {n} images, published are {published}", set.name()));
        }
        if let Some(class) = self.class_of_two_superclasses() {
            let name = set.class_names()[class];
            notes.push(format!("class {class} ({name}) is in two superclasses, published is one"));
        }
        notes
    }

    fn class_of_two_superclasses(&self) -> Option<usize> {
        let mut of = [None; 100];
        let conflict = |(&fine, &coarse): (&u32, &u32)| *of[fine as usize].get_or_insert(coarse) != coarse;
        self.labels.iter().zip(&self.coarse).position(conflict).map(|at| self.labels[at] as usize)
    }
}
