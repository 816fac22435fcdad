//! Two models on the same images: where they differ, and whether that could be chance.
//!
//! Accuracies of two models on the same images are not independent, so their intervals overlap long after
//! the difference is real. McNemar's test looks at the images on which exactly one of them is right.

use crate::error::{Error, Result};
use crate::result::Accuracy;
use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};

/// How often two models are right, together and alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// The images.
    pub n: usize,
    /// The share of them on which the first model is right, and its Wilson interval.
    pub first: f64,
    /// The interval of the first.
    pub first_ci95: (f64, f64),
    /// The share of them on which the second model is right.
    pub second: f64,
    /// The interval of the second.
    pub second_ci95: (f64, f64),
    /// On how many only the first is right.
    pub only_first: usize,
    /// On how many only the second is right.
    pub only_second: usize,
    /// The probability of a split at least as uneven as that, if neither model were better (McNemar's
    /// exact test, two-sided).
    pub p: f64,
}

impl Comparison {
    /// Of two lists of flags, image by image.
    ///
    /// # Errors
    /// When the lists have different lengths.
    ///
    /// # Source
    /// McNemar 1947; the exact version is the binomial test on the discordant images.
    pub fn of(first: &[bool], second: &[bool]) -> Result<Self> {
        if first.len() != second.len() {
            let expected = format!("{}, as many as the first has", first.len());
            let value = second.len().to_string();
            return Err(Error::Value { what: "the number of images of the second model", value, expected });
        }
        let only = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(a, b)| **a && !**b).count();
        let (only_first, only_second) = (only(first, second), only(second, first));
        let (a, b) = (Accuracy::of(first), Accuracy::of(second));
        Ok(Self {
            n: a.n,
            first: a.share(),
            first_ci95: a.ci95(),
            second: b.share(),
            second_ci95: b.ci95(),
            only_first,
            only_second,
            p: mcnemar(only_first, only_second),
        })
    }
}

fn mcnemar(only_first: usize, only_second: usize) -> f64 {
    let discordant = (only_first + only_second) as u64;
    let fewer = only_first.min(only_second) as u64;
    match Binomial::new(0.5, discordant) {
        Ok(split) if discordant > 0 => (2.0 * split.cdf(fewer)).min(1.0),
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_is_that_of_the_binomial_test() {
        // scipy.stats.binomtest(a, a + b, 0.5).pvalue, to six digits.
        for (a, b, p) in
            [(0, 0, 1.0), (5, 5, 1.0), (0, 1, 1.0), (0, 6, 0.03125), (10, 25, 0.016674), (3, 9, 0.145996)]
        {
            assert!((mcnemar(a, b) - p).abs() < 1e-6, "{a}, {b}: {}", mcnemar(a, b));
            assert_eq!(mcnemar(a, b), mcnemar(b, a));
        }
        assert!(mcnemar(400, 600) < 1e-9 && mcnemar(5000, 5000) <= 1.0);
    }

    #[test]
    fn only_discordant_images_count() {
        let first = [true, true, false, false, true];
        let second = [true, false, true, false, false];
        let found = Comparison::of(&first, &second).unwrap();
        assert_eq!((found.only_first, found.only_second, found.n), (2, 1, 5));
        assert_eq!((found.first, found.second, found.p), (0.6, 0.4, 1.0));
        assert!(found.first_ci95.0 < 0.6 && found.first_ci95.1 > 0.6);
        assert!(Comparison::of(&first, &second[..4]).unwrap_err().to_string().contains("is 4, expected 5"));
    }
}
