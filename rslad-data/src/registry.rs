//! The data sets by name: what `--data`, recipes and `rslad list datasets` go by.
//!
//! A new data set is its own file and one line in [`DATASETS`].

use crate::cifar::{cifar10, cifar100};
use crate::dataset::{Dataset, Split};
use crate::digits::digits;
use crate::digits100::digits100;
use crate::error::{Error, Result};
use crate::fashion_mnist::{full, sample};
use crate::tensors::tensors;
use std::path::Path;

/// A data set that can be opened by name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name, as in a data spec.
    pub name: &'static str,
    /// What may follow the name and a colon.
    pub argument: Argument,
    /// What it is, in one line.
    pub about: &'static str,
    /// Loads one of its splits, from the place that the argument names.
    pub load: fn(Option<&Path>, Split) -> Result<Dataset>,
}

/// What may follow the name of a data set: the word is what messages call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Nothing: the data set is in the binary.
    None,
    /// A place, or nothing for the usual one.
    Optional(&'static str),
    /// A place.
    Required(&'static str),
}

/// Every data set of this crate.
pub const DATASETS: &[Entry] = &[
    Entry {
        name: "digits",
        argument: Argument::None,
        about: "UCI handwritten digits as in scikit-learn: 1,437 train, 360 test, 1x8x8, 10 classes (embedded)",
        load: |_, split| digits(split),
    },
    Entry {
        name: "digits100",
        argument: Argument::None,
        about: "numbers 00 to 99, pairs of those digits: 3,000 train, 600 test, 1x8x16, 100 classes (embedded)",
        load: |_, split| digits100(split),
    },
    Entry {
        name: "fashion-mnist",
        argument: Argument::Optional("DIR"),
        about: "sample of Fashion-MNIST, class-balanced: 4,000 train, 2,000 test, 1x28x28, 10 classes (embedded); \
                DIR with its IDX files: 60,000 and 10,000",
        load: |place, split| place.map_or_else(|| sample(split), |place| full(place, split)),
    },
    Entry {
        name: "cifar10",
        argument: Argument::Optional("DIR"),
        about: "CIFAR-10: 50,000 train, 10,000 test, 3x32x32, 10 classes; DIR with any of its published forms",
        load: cifar10,
    },
    Entry {
        name: "cifar100",
        argument: Argument::Optional("DIR"),
        about: "CIFAR-100: 50,000 train, 10,000 test, 3x32x32, 100 classes; DIR as above",
        load: cifar100,
    },
    Entry {
        name: "tensors",
        argument: Argument::Required("FILE"),
        about: "yours: a safetensors file with `images` (u8, or f32 in [0,1]) [N,C,H,W] and `labels` [N]",
        load: |place, split| tensors(place.unwrap_or(Path::new("")), split),
    },
    #[cfg(feature = "pictures")]
    Entry {
        name: "folder",
        argument: Argument::Required("DIR"),
        about: "yours: a folder of PNG or WebP pictures for each class, or two such trees `train` and `test`",
        load: |place, split| crate::folder::folder(place.unwrap_or(Path::new("")), split),
    },
];

impl Entry {
    /// How it is written in a data spec: `cifar10[:DIR]`.
    pub fn usage(&self) -> String {
        match self.argument {
            Argument::None => self.name.to_owned(),
            Argument::Optional(what) => format!("{}[:{what}]", self.name),
            Argument::Required(what) => format!("{}:{what}", self.name),
        }
    }
}

/// Opens the data set that a spec names, such as `digits` or `cifar10:DIR`.
///
/// # Errors
/// When no data set has that name, something follows the name of an embedded one or nothing the name of
/// one that needs it, and when its files are missing or damaged.
pub fn open(spec: &str, split: Split) -> Result<Dataset> {
    let (name, argument) = spec.split_once(':').map_or((spec, None), |(name, rest)| (name, Some(rest)));
    let entry = DATASETS.iter().find(|entry| entry.name == name).ok_or_else(|| unknown(spec, name))?;
    let wrong = |message: String| Err(Error::Spec { spec: spec.to_owned(), message });
    match (entry.argument, argument) {
        (Argument::None, Some(_)) => {
            wrong(format!("`{name}` is embedded and takes nothing after its name; write `{name}`"))
        }
        (Argument::Required(what), None) => wrong(format!("expected `{name}:{what}`")),
        (_, Some("")) => wrong(format!("nothing after the colon, expected `{}`", entry.usage())),
        (_, place) => (entry.load)(place.map(Path::new), split),
    }
}

fn unknown(spec: &str, name: &str) -> Error {
    let known: Vec<String> = DATASETS.iter().map(|entry| format!("`{}`", entry.name)).collect();
    let hint = nearest(name).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    Error::UnknownDataset { spec: spec.to_owned(), known: known.join(", "), hint }
}

/// The data set whose name is so near that it may be a slip: a part of one, or a third of it retyped.
fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let part = |known: &str| name.len() > 2 && (known.contains(&name) || name.contains(known));
    let distance = |known: &str| if part(known) { 0 } else { edits(&name, known) };
    let near = DATASETS.iter().map(|entry| entry.name).min_by_key(|known| distance(known))?;
    (3 * distance(near) <= near.len()).then_some(near)
}

/// The number of characters to insert, delete or replace to get from one word to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect(); // from "" to every beginning of `to`
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::levels;

    fn embedded() -> impl Iterator<Item = &'static Entry> {
        DATASETS.iter().filter(|entry| ["digits", "fashion-mnist"].contains(&entry.name))
    }

    /// (name, split, n, hash): the hashes are printed by assets/make_assets.py, which computes them
    /// from the sources without this crate.
    const PINNED: [(&str, Split, usize, &str); 4] = [
        ("digits", Split::Train, 1437, "6527f9741dae57cbe37db35b4873b7e889d05a2dd49f2bb1ed6a6dc5aff3c3f2"),
        ("digits", Split::Test, 360, "253edbb84f89090fb68c6dcbe4b3cc5fbac0c57a83619c6a59456610855b1e73"),
        (
            "fashion-mnist",
            Split::Train,
            4000,
            "d86f9b5a9f0885079d3a54ec325049abfcef0d7769dc72278fc062079bb1c470",
        ),
        (
            "fashion-mnist",
            Split::Test,
            2000,
            "4d6068d3ab27cf0eb24f933e0561b50b81c34bc30f7f6a949ae97f29d7a55b14",
        ),
    ];

    #[test]
    fn contents_are_those_of_the_sources() {
        for (name, split, n, hash) in PINNED {
            let data = open(name, split).expect(name);
            assert_eq!((data.len(), data.sha256().as_str()), (n, hash), "{name} {split}");
        }
    }

    #[test]
    fn every_embedded_data_set_keeps_the_contract() {
        for entry in embedded() {
            for split in [Split::Train, Split::Test] {
                let data = (entry.load)(None, split).expect(entry.name);
                assert_eq!((data.name(), data.split()), (entry.name, split));
                assert!(data.ids().iter().copied().eq(0..data.len() as u64), "ids are positions");
                let brightest = (0..data.len()).flat_map(|row| levels(&data, row).0).max();
                assert_eq!(brightest, Some(&levels(&data, 0).1), "{}: the full scale is reached", entry.name);
                assert!(
                    data.class_counts().iter().all(|&count| count > 0),
                    "{}: a class is empty",
                    entry.name
                );
                assert_eq!(data.sha256(), open(entry.name, split).expect(entry.name).sha256());
            }
        }
    }

    #[test]
    fn no_image_is_in_both_splits() {
        for entry in embedded() {
            let load = |split| (entry.load)(None, split).expect(entry.name);
            let (train, test) = (load(Split::Train), load(Split::Test));
            let seen: std::collections::HashSet<&[u8]> =
                (0..train.len()).map(|row| levels(&train, row).0).collect();
            assert!((0..test.len()).all(|row| !seen.contains(levels(&test, row).0)), "{}", entry.name);
        }
    }

    #[test]
    fn a_wrong_spec_is_told_what_exists() {
        let check = |spec: &str, expected: &str| {
            let message = open(spec, Split::Test).expect_err(spec).to_string();
            assert_eq!(message, expected);
        };
        let known =
            "expected one of: `digits`, `digits100`, `fashion-mnist`, `cifar10`, `cifar100`, `tensors`";
        let known = if cfg!(feature = "pictures") { format!("{known}, `folder`") } else { known.to_owned() };
        check("digit", &format!("unknown data set `digit`, {known}; did you mean `digits`?"));
        check("Digits", &format!("unknown data set `Digits`, {known}; did you mean `digits`?"));
        check("mnist", &format!("unknown data set `mnist`, {known}; did you mean `fashion-mnist`?"));
        check(
            "fashoin_mnist",
            &format!("unknown data set `fashoin_mnist`, {known}; did you mean `fashion-mnist`?"),
        );
        check("imagenet:/data", &format!("unknown data set `imagenet:/data`, {known}"));
        check("", &format!("unknown data set ``, {known}"));
        check("cifar", &format!("unknown data set `cifar`, {known}; did you mean `cifar10`?"));
        check("tensors", "data `tensors`: expected `tensors:FILE`");
        check("cifar10:", "data `cifar10:`: nothing after the colon, expected `cifar10[:DIR]`");
        check(
            "digits:somewhere",
            "data `digits:somewhere`: `digits` is embedded and takes nothing after its name; write `digits`",
        );
    }

    #[test]
    fn edits_are_counted() {
        for (from, to, n) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("digits", "digist", 2)]
        {
            assert_eq!((edits(from, to), edits(to, from)), (n, n), "{from} {to}");
        }
    }
}
