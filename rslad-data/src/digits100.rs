//! Numbers from 00 to 99, each two handwritten digits side by side: a hundred classes in a tiny image, so
//! that everything that depends on their number can be tried without a download.
//!
//! Pairs of [`crate::digits`](mod@crate::digits), train digits for the train split, test digits for the
//! test split, so no image is in both. The tens digit, `label / 10`, is the coarse label. Pair `i` of a
//! number takes digits of each half by fixed strides through that digit's images.

use crate::dataset::{Contents, Dataset, Split};
use crate::digits::digits;
use crate::embedded::levels;
use crate::error::Result;
use crate::pixels::Pixels;
use std::sync::OnceLock;

static TRAIN: OnceLock<Dataset> = OnceLock::new();
static TEST: OnceLock<Dataset> = OnceLock::new();

/// Images of each number in a split.
const TRAIN_EACH: usize = 30;
const TEST_EACH: usize = 6;
const CLASSES: usize = 100;
/// The side of a digit.
const SIDE: usize = 8;

/// Pairs of digits, 3,000 or 600 of them.
///
/// # Shapes
/// Images of `[1, 8, 16]`, full scale 16, 100 classes, in turn.
///
/// # Errors
/// None that a user can cause: the images are in the binary.
pub fn digits100(split: Split) -> Result<Dataset> {
    let (cell, each) = match split {
        Split::Train => (&TRAIN, TRAIN_EACH),
        Split::Test => (&TEST, TEST_EACH),
    };
    if let Some(data) = cell.get() {
        return Ok(data.clone());
    }
    let data = pairs(&digits(split)?, each)?;
    Ok(cell.get_or_init(|| data).clone())
}

fn pairs(digits: &Dataset, each: usize) -> Result<Dataset> {
    let rows_of = |digit: usize| -> Vec<usize> {
        (0..digits.len()).filter(|&row| digits.label(row) as usize == digit).collect()
    };
    let by_digit: Vec<Vec<usize>> = (0..10).map(rows_of).collect();
    let (mut images, mut labels) = (Vec::with_capacity(each * CLASSES * 2 * SIDE * SIDE), vec![]);
    for i in 0..each {
        for number in 0..CLASSES {
            let (tens, ones) = (&by_digit[number / 10], &by_digit[number % 10]);
            // Coprime to the counts of the digits or not: what matters is that pairs differ, see the tests.
            let (left, right) =
                (tens[(7 * i + number) % tens.len()], ones[(11 * i + 3 * number + 1) % ones.len()]);
            for line in 0..SIDE {
                let of = |row: usize| &levels(digits, row).0[line * SIDE..(line + 1) * SIDE];
                images.extend_from_slice(of(left));
                images.extend_from_slice(of(right));
            }
            labels.push(number as u32);
        }
    }
    Dataset::new(Contents {
        name: "digits100".into(),
        split: digits.split(),
        pixels: Pixels::Levels { values: images, full_scale: levels(digits, 0).1 },
        shape: [1, SIDE, 2 * SIDE],
        labels,
        class_names: (0..CLASSES).map(|number| format!("{number:02}")).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_number_is_there_equally_often_and_no_pair_twice() {
        for (split, each) in [(Split::Train, TRAIN_EACH), (Split::Test, TEST_EACH)] {
            let data = digits100(split).expect("embedded");
            assert_eq!(data.class_counts(), vec![each; CLASSES]);
            let different: HashSet<&[u8]> = (0..data.len()).map(|row| levels(&data, row).0).collect();
            assert_eq!(different.len(), data.len());
        }
    }

    #[test]
    fn a_number_is_its_tens_beside_its_ones() {
        let (data, digits) =
            (digits100(Split::Test).expect("embedded"), digits(Split::Test).expect("embedded"));
        let is_digit = |half: Vec<u8>, digit: u32| {
            (0..digits.len()).any(|row| digits.label(row) == digit && levels(&digits, row).0 == half)
        };
        for row in [0, 42, 137] {
            let half = |from: usize| -> Vec<u8> {
                levels(&data, row)
                    .0
                    .chunks(2 * SIDE)
                    .flat_map(|line| line[from..from + SIDE].to_vec())
                    .collect()
            };
            assert!(is_digit(half(0), data.label(row) / 10) && is_digit(half(SIDE), data.label(row) % 10));
        }
    }
}
