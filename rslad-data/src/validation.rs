//! A validation set held out of the training set, so that choosing a checkpoint never looks at the
//! test set.
//!
//! Which examples are held out is a function of the seed and their ids, and not of their labels: a
//! method that learns without labels must not meet them here. It should be the same seed for every
//! model that is compared, not the seed of the run: otherwise models differ in their data too.

use crate::dataset::Dataset;
use crate::error::Result;
use rslad_models::randomness::{Key, Purpose};

/// Splits `n` examples off at random: `(train, validation)`, both in the order of `data` and under its
/// ids.
///
/// # Errors
/// When `n` is 0 or leaves nothing to train on.
pub fn split_validation(data: &Dataset, n: usize, seed: u64) -> Result<(Dataset, Dataset)> {
    if n == 0 || n >= data.len() {
        return Err(data.error(format!(
            "a validation set of {n} images, expected 1 to {} (all but one)",
            data.len() - 1
        )));
    }
    let key = Key::new(seed, Purpose::SPLIT);
    let mut drawn: Vec<usize> = (0..data.len()).collect();
    drawn.sort_by_cached_key(|&row| (key.stream(data.ids()[row]).bits(), data.ids()[row]));
    let mut held_out = vec![false; data.len()];
    drawn[..n].iter().for_each(|&row| held_out[row] = true);
    let (validation, train): (Vec<usize>, Vec<usize>) = (0..data.len()).partition(|&row| held_out[row]);
    Ok((data.subset(&train)?, data.subset(&validation)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::toy;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_parts_are_disjoint_exhaustive_and_keep_ids(
            size in 2usize..80, share in 0.0f64..1.0, seed: u64, shift in 0usize..20,
        ) {
            let all = toy(size + shift);
            let data = all.subset(&(shift..size + shift).collect::<Vec<_>>()).expect("rows exist");
            let n = 1 + (share * (size - 1) as f64) as usize;
            let (train, validation) = split_validation(&data, n, seed).expect("in range");
            prop_assert_eq!(validation.len(), n);
            let mut ids = [train.ids(), validation.ids()].concat();
            ids.sort_unstable();
            prop_assert_eq!(&ids[..], data.ids());
            for part in [&train, &validation] {
                prop_assert!(part.ids().is_sorted());
                for (row, &id) in part.ids().iter().enumerate() {
                    prop_assert_eq!(part.image(row), all.image(id as usize));
                    prop_assert_eq!(part.label(row), all.label(id as usize));
                }
            }
        }
    }

    #[test]
    fn the_seed_decides_who_is_held_out() {
        let held_out = |seed| split_validation(&toy(60), 20, seed).expect("in range").1.ids().to_vec();
        assert_eq!(held_out(1), held_out(1));
        assert_ne!(held_out(1), held_out(2));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for n in [0, 5, 6] {
            let message = split_validation(&toy(5), n, 0).expect_err("out of range").to_string();
            let expected = format!("a validation set of {n} images, expected 1 to 4 (all but one)");
            assert_eq!(message, format!("data set `toy`: {expected}"));
        }
    }
}
