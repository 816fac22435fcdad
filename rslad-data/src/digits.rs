//! Handwritten digits, 8x8 pixels: small enough to train a robust network on in minutes, real enough
//! to show what robustness costs. The embedded data of the quickstart and of most tests.
//!
//! These are the 1,797 images of the UCI data set that scikit-learn ships as `load_digits`, in its
//! order: the first 1,437 to train on, the last 360 to test on. A pixel counts the inked points of a 4x4
//! block of the scan, 0 to 16. Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten
//! Digits, UCI Machine Learning Repository, <https://doi.org/10.24432/C50P49>, CC BY 4.0.

use crate::dataset::{Dataset, Split};
use crate::embedded::Packed;
use crate::error::Result;
use std::sync::OnceLock;

static TRAIN: Packed = packed(Split::Train, include_bytes!("../assets/digits-train.zz"), 1437);
static TEST: Packed = packed(Split::Test, include_bytes!("../assets/digits-test.zz"), 360);

/// The digits, 1,437 or 360 of them.
///
/// # Shapes
/// Images of `[1, 8, 8]`, full scale 16, 10 classes.
///
/// # Errors
/// None that a user can cause: the images are in the binary.
pub fn digits(split: Split) -> Result<Dataset> {
    match split {
        Split::Train => TRAIN.open(),
        Split::Test => TEST.open(),
    }
}

const fn packed(split: Split, bytes: &'static [u8], n: usize) -> Packed {
    Packed {
        name: "digits",
        split,
        bytes,
        n,
        side: 8,
        full_scale: 16,
        class_names: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        unpacked: OnceLock::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{drawn, levels};

    /// load_digits().images[0] and [1796].
    const FIRST: [u8; 64] = [
        0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0, 8, 8,
        0, 0, 5, 8, 0, 0, 9, 8, 0, 0, 4, 11, 0, 1, 12, 7, 0, 0, 2, 14, 5, 10, 12, 0, 0, 0, 0, 6, 13, 10, 0,
        0, 0,
    ];
    const LAST: [u8; 64] = [
        0, 0, 10, 14, 8, 1, 0, 0, 0, 2, 16, 14, 6, 1, 0, 0, 0, 0, 15, 15, 8, 15, 0, 0, 0, 0, 5, 16, 16, 10,
        0, 0, 0, 0, 12, 15, 15, 12, 0, 0, 0, 4, 16, 6, 4, 16, 6, 0, 0, 8, 16, 10, 8, 16, 8, 0, 0, 1, 8, 12,
        14, 12, 1, 0,
    ];
    const SEVEN: [&str; 8] =
        ["..+####.", "..+++##.", "....##..", ".+####+.", "..###+..", "...#+...", "..##....", "..#+...."];

    #[test]
    fn the_first_and_the_last_image_are_those_of_scikit_learn() {
        let (train, test) = (digits(Split::Train).expect("embedded"), digits(Split::Test).expect("embedded"));
        assert_eq!((levels(&train, 0).0, train.label(0)), (&FIRST[..], 0));
        assert_eq!((levels(&test, 359).0, test.label(359)), (&LAST[..], 8));
        assert_eq!(train.labels()[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    }

    #[test]
    fn a_seven_looks_like_a_seven() {
        let train = digits(Split::Train).expect("embedded");
        assert_eq!(train.label(7), 7);
        assert_eq!(drawn(&train, 7), SEVEN);
    }

    #[test]
    fn class_counts_are_those_of_the_source() {
        let counts = |split| digits(split).expect("embedded").class_counts();
        assert_eq!(counts(Split::Train), [143, 146, 142, 146, 144, 145, 144, 143, 141, 143]);
        assert_eq!(counts(Split::Test), [35, 36, 35, 37, 37, 37, 37, 36, 33, 37]);
    }
}
