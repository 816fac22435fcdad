//! CIFAR-10 and CIFAR-100, from any form they are published in: the binary archive, the python archive
//! (each as it is or unpacked) and the hub's parquet files. All of them give the same data set.
//!
//! Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
//! <https://www.cs.toronto.edu/~kriz/cifar.html>.

mod archive;
mod binary;
mod names;
mod official;
#[cfg(feature = "parquet")]
mod parquet;
mod part;
mod python;
mod route;

use crate::cache;
use crate::dataset::{Dataset, Split};
use crate::error::{Error, Result};
use route::Route;
use std::path::Path;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cifar {
    /// 10 classes.
    Ten,
    /// 100 classes in 20 superclasses.
    Hundred,
}

/// The shape of an image.
const SHAPE: [usize; 3] = [3, 32, 32];

/// The bytes of an image.
const IMAGE: usize = 3072;

/// CIFAR-10.
///
/// # Shapes
/// Images of `[3, 32, 32]`, full scale 255, 10 classes; 50,000 to train on and 10,000 to test on as
/// published.
///
/// # Errors
/// When there is none at `place` (in the cache where none is given), or a file of it is damaged.
pub fn cifar10(place: Option<&Path>, split: Split) -> Result<Dataset> {
    open(Cifar::Ten, place, split)
}

/// CIFAR-100 with its fine labels.
///
/// # Shapes
/// Images of `[3, 32, 32]`, full scale 255, 100 classes; 50,000 to train on and 10,000 to test on as
/// published.
///
/// # Errors
/// As [`cifar10`].
pub fn cifar100(place: Option<&Path>, split: Split) -> Result<Dataset> {
    open(Cifar::Hundred, place, split)
}

fn open(set: Cifar, place: Option<&Path>, split: Split) -> Result<Dataset> {
    let cached;
    let place = match place {
        Some(place) => place,
        None => {
            cached = cache::directory(set.name())?;
            if !cache::holds(&cached) {
                let name = set.name();
                let fix = format!("run `rslad data fetch {name}`, or write `{name}:DIR` if you have it");
                return Err(Error::file(&cached, format!("`{name}` is not here; {fix}")));
            }
            &cached
        }
    };
    let parts = match route::find(set, place, split)? {
        Route::Binary(files) => binary::read_files(set, &files)?,
        Route::Python(files) => python::read_files(set, &files)?,
        Route::Archive(file) => archive::read_file(set, &file, split)?,
        #[cfg(feature = "parquet")]
        Route::Parquet(files) => parquet::read_files(set, &files)?,
        #[cfg(not(feature = "parquet"))]
        Route::Parquet(files) => {
            let message = "this build reads no parquet, expected the feature `parquet` of rslad-data";
            return Err(Error::file(&files[0], message));
        }
    };
    part::into_dataset(parts, set, split)
}

impl Cifar {
    /// The name in a data spec.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ten => "cifar10",
            Self::Hundred => "cifar100",
        }
    }

    /// The number of classes.
    pub const fn n_classes(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::Hundred => 100,
        }
    }

    /// The number of images of a split as published.
    pub const fn published(self, split: Split) -> usize {
        match split {
            Split::Train => 50_000,
            Split::Test => 10_000,
        }
    }

    /// The files of a split in an archive, in the order of the images: `.bin` files, or pickles without
    /// that ending.
    fn members(self, split: Split) -> &'static [&'static str] {
        const BATCHES: [&str; 5] =
            ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"];
        match (self, split) {
            (Self::Ten, Split::Train) => &BATCHES,
            (Self::Ten, Split::Test) => &["test_batch"],
            (Self::Hundred, Split::Train) => &["train"],
            (Self::Hundred, Split::Test) => &["test"],
        }
    }
}
