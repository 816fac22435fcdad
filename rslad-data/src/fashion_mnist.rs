//! Clothes, 28x28 pixels: a step up from the digits that still needs no download.
//!
//! A class-balanced sample of Fashion-MNIST: from each official split the first 400 (train) or 200
//! (test) images of every class, in the order of the source. Their positions in the full files are in
//! `assets/fashion-mnist-*-indices.txt`; the ids of the examples are positions in the sample. Source:
//! Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747, MIT license, Zalando SE.

use crate::dataset::{Dataset, Split};
use crate::embedded::Packed;
use crate::error::Result;
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
pub fn fashion_mnist(split: Split) -> Result<Dataset> {
    match split {
        Split::Train => TRAIN.open(),
        Split::Test => TEST.open(),
    }
}

const fn packed(split: Split, bytes: &'static [u8], n: usize) -> Packed {
    Packed {
        name: "fashion-mnist",
        split,
        bytes,
        n,
        side: 28,
        full_scale: 255,
        class_names: [
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
        ],
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
        let counts = |split| fashion_mnist(split).expect("embedded").class_counts();
        assert_eq!(counts(Split::Train), [400; 10]);
        assert_eq!(counts(Split::Test), [200; 10]);
    }

    #[test]
    fn the_first_images_are_those_of_the_source() {
        // The first labels of train-labels-idx1-ubyte and t10k-labels-idx1-ubyte: no class is full yet.
        let (train, test) = (fashion_mnist(Split::Train), fashion_mnist(Split::Test));
        let (train, test) = (train.expect("embedded"), test.expect("embedded"));
        assert_eq!(train.labels()[..12], [9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9]);
        assert_eq!(test.labels()[..12], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4, 5]);
        assert_eq!(levels(&train, 0).0[14 * 28..15 * 28], ROW_14);
    }

    #[test]
    fn an_ankle_boot_stands_on_its_sole_and_points_left() {
        assert_eq!(drawn(&fashion_mnist(Split::Train).expect("embedded"), 0), BOOT);
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
