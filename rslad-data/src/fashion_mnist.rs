//! Clothes, 28x28 pixels: a step up from the digits that still needs no download, and the whole of it for
//! those who have its files.
//!
//! Embedded is a class-balanced sample of Fashion-MNIST: from each official split the first 400 (train) or 200
//! (test) images of every class, in the order of the source. Their positions in the full files are in
//! `assets/fashion-mnist-*-indices.txt`; the ids of the examples are positions in the sample. Source:
//! Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747, MIT license, Zalando SE.

use crate::dataset::{Contents, Dataset, Split};
use crate::embedded::Packed;
use crate::error::{Error, Result};
use crate::idx::{self, Idx};
use crate::pixels::Pixels;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static TRAIN: Packed = packed(Split::Train, include_bytes!("../assets/fashion-mnist-train.zz"), 4000);
static TEST: Packed = packed(Split::Test, include_bytes!("../assets/fashion-mnist-test.zz"), 2000);

/// The sample of Fashion-MNIST, 4,000 or 2,000 images.
///
/// # Shapes
/// Images of `[1, 28, 28]`, full scale 255, 10 classes.
///
/// # Errors
/// None that a user can cause: the images are in the binary.
pub fn sample(split: Split) -> Result<Dataset> {
    match split {
        Split::Train => TRAIN.open(),
        Split::Test => TEST.open(),
    }
}

/// The whole of Fashion-MNIST, 60,000 or 10,000 images, from its IDX files, packed or not.
///
/// # Shapes
/// Images of `[1, 28, 28]`, full scale 255, 10 classes.
///
/// # Errors
/// When a file is missing or damaged, or a label has no class.
pub fn full(directory: &Path, split: Split) -> Result<Dataset> {
    let stem = match split {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let (at_images, at_labels) = (
        find(directory, &format!("{stem}-images-idx3-ubyte"))?,
        find(directory, &format!("{stem}-labels-idx1-ubyte"))?,
    );
    let Idx { shape: [n, height, width], values, sha256: images } = idx::read::<3>(&at_images)?;
    let Idx { shape: [n_labels], values: labels, sha256: of_labels } = idx::read::<1>(&at_labels)?;
    if n_labels != n {
        let message = format!("has {n_labels} labels, expected {n} as {} has images", at_images.display());
        return Err(Error::file(&at_labels, message));
    }
    if let Some(row) = labels.iter().position(|label| usize::from(*label) >= CLASSES.len()) {
        let message = format!("image {row} has a label of {}, expected 0 to 9", labels[row]);
        return Err(Error::file(&at_labels, message));
    }
    let data = Dataset::new(Contents {
        name: "fashion-mnist".to_owned(),
        split,
        pixels: Pixels::Levels { values, full_scale: 255 },
        shape: [1, height, width],
        labels: labels.into_iter().map(u32::from).collect(),
        class_names: CLASSES.map(str::to_owned).to_vec(),
    })?;
    let files = [(at_images, images), (at_labels, of_labels)];
    let unknown = files.iter().filter(|(_, sha256)| !PUBLISHED.contains(&sha256.as_str()));
    Ok(unknown.fold(data, |data, (path, _)| {
        data.with_note(format!("{}: not a published file of fashion-mnist by its hash", path.display()))
    }))
}

/// A file under its name, or packed.
fn find(directory: &Path, name: &str) -> Result<PathBuf> {
    let candidates = [directory.join(format!("{name}.gz")), directory.join(name)];
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let fix = format!("`rslad data fetch fashion-mnist --dir {}` gets it", directory.display());
        Error::file(directory, format!("no {name} here, nor {name}.gz; {fix}"))
    })
}

const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// The SHA-256 of the published files: packed, images and labels of train and test, then unpacked.
const PUBLISHED: [&str; 4] = [
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
];

const fn packed(split: Split, bytes: &'static [u8], n: usize) -> Packed {
    Packed {
        name: "fashion-mnist",
        split,
        bytes,
        n,
        side: 28,
        full_scale: 255,
        class_names: CLASSES,
        unpacked: OnceLock::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{drawn, levels};

    /// Of the first image of train-images-idx3-ubyte.
    const ROW_14: [u8; 28] = [
        0, 0, 1, 4, 6, 7, 2, 0, 0, 0, 0, 0, 237, 226, 217, 223, 222, 219, 222, 221, 216, 223, 229, 215, 218,
        255, 77, 0,
    ];
    const BOOT: [&str; 28] = [
        "............................",
        "............................",
        "............................",
        "................+...........",
        "...............#+...........",
        "..............+####+........",
        "..............####+##++.+#+.",
        ".............+######+++##+#+",
        ".............##########++##.",
        ".............##############.",
        ".............##############.",
        ".............##############.",
        "............+############+#.",
        ".............#############+.",
        "............##############+.",
        "..........#################.",
        "......++###################.",
        "..#########################.",
        ".############+#############.",
        "+#############++++#########.",
        "+##########################+",
        ".##########################+",
        ".+#########################+",
        "..+########################.",
        "....+###################+...",
        "..........+.................",
        "............................",
        "............................",
    ];

    #[test]
    fn every_class_has_the_same_number_of_images() {
        let counts = |split| sample(split).expect("embedded").class_counts();
        assert_eq!(counts(Split::Train), [400; 10]);
        assert_eq!(counts(Split::Test), [200; 10]);
    }

    #[test]
    fn the_first_images_are_those_of_the_source() {
        // The first labels of train-labels-idx1-ubyte and t10k-labels-idx1-ubyte: no class is full yet.
        let (train, test) = (sample(Split::Train), sample(Split::Test));
        let (train, test) = (train.expect("embedded"), test.expect("embedded"));
        assert_eq!(train.labels()[..12], [9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9]);
        assert_eq!(test.labels()[..12], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4, 5]);
        assert_eq!(levels(&train, 0).0[14 * 28..15 * 28], ROW_14);
    }

    #[test]
    fn an_ankle_boot_stands_on_its_sole_and_points_left() {
        assert_eq!(drawn(&sample(Split::Train).expect("embedded"), 0), BOOT);
    }

    #[test]
    fn the_index_lists_are_positions_in_the_full_files() {
        let check = |list: &str, n: usize, full: usize| {
            let positions: Vec<usize> = list.lines().map(|line| line.parse().expect("a number")).collect();
            assert!(positions.len() == n && positions.is_sorted_by(|a, b| a < b));
            assert!(positions[n - 1] < full);
        };
        check(include_str!("../assets/fashion-mnist-train-indices.txt"), 4000, 60_000);
        check(include_str!("../assets/fashion-mnist-test-indices.txt"), 2000, 10_000);
    }
}
