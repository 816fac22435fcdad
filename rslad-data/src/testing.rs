//! Data for this crate's own tests.

use crate::dataset::{Contents, Dataset, Split};
use crate::pixels::Pixels;

/// `n` images of 3 channels and 2x3 pixels, all different, in 3 classes of unequal size.
pub(crate) fn toy(n: usize) -> Dataset {
    let contents = Contents {
        name: "toy".to_owned(),
        split: Split::Train,
        pixels: Pixels::Levels {
            values: (0..n * 18).map(|i| ((i / 18) ^ (7 * (i % 18) + 5)) as u8).collect(),
            full_scale: 255,
        },
        shape: [3, 2, 3],
        labels: (0..n).map(|i| [0, 1, 0, 2, 0, 1, 0][i % 7]).collect(),
        class_names: ["a", "b", "c"].map(str::to_owned).to_vec(),
    };
    Dataset::new(contents).expect("consistent contents")
}
