//! Methods against each other on the same images: exact McNemar tests, and what they could have seen.

use super::gather::Examples;
use super::model::{Column, Pair};
use super::rows::Placed;
use crate::grid::file::{Role, Row as RowKey};
use statrs::distribution::{Binomial, DiscreteCDF};

/// The rival that others are compared with where it is there: the paper's method.
const FIRST: &str = "rslad";

/// Every method against the paper's, or against the variant that the table refers to, else all against all:
/// per architecture, checkpoint and seed, on the last column that both have. Where methods share variants,
/// such as widths, each is compared within its own.
pub(crate) fn pairs(evals: &[&Placed<'_>], columns: &[Column], reference: Option<&str>) -> Vec<Pair> {
    let students: Vec<&&Placed<'_>> = evals.iter().filter(|p| p.key.role == Role::Student).collect();
    let keys: Vec<&RowKey> = students.iter().map(|p| &p.key).collect();
    let mut all = vec![];
    for (i, a) in students.iter().enumerate() {
        for (j, b) in students.iter().enumerate() {
            let same = a.group() == b.group() && a.key.checkpoint == b.key.checkpoint && a.seed == b.seed;
            if same && a.key != b.key && leads(&keys, i, j, reference) {
                all.extend(pair(a, b, columns));
            }
        }
    }
    all
}

/// Whether the first of two students is one that the second is tested against.
fn leads(keys: &[&RowKey], i: usize, j: usize, reference: Option<&str>) -> bool {
    let (a, b) = (keys[i], keys[j]);
    if let Some(reference) = reference {
        return a.variant.as_deref() == Some(reference);
    }
    let is_first = |key: &RowKey| key.method == FIRST;
    let any_first = keys.iter().any(|key| is_first(key));
    let any_other = keys.iter().any(|key| !is_first(key));
    if !(any_first && any_other) {
        return i < j;
    }
    let has_own = keys.iter().any(|key| key.method == b.method && key.variant == a.variant);
    is_first(a) && !is_first(b) && (!has_own || a.variant == b.variant)
}

fn pair(a: &Placed<'_>, b: &Placed<'_>, columns: &[Column]) -> Option<Pair> {
    let (ea, eb) = (a.eval.examples.as_ref()?, b.eval.examples.as_ref()?);
    if ea.index != eb.index || a.eval.result.data.sha256 != b.eval.result.data.sha256 {
        return None; // other images
    }
    let has =
        |column: &&Column| ea.columns.contains_key(&column.name) && eb.columns.contains_key(&column.name);
    let column = columns.iter().rev().find(has)?;
    let (only_a, only_b) = disagreements(ea, eb, &column.name);
    let n = ea.index.len();
    Some(Pair {
        group: a.group(),
        a: a.label(),
        b: b.label(),
        checkpoint: a.key.checkpoint.name().into(),
        seed: a.seed,
        column: column.heading.clone(),
        n,
        only_a,
        only_b,
        difference: (only_a as f64 - only_b as f64) / n as f64,
        p: mcnemar(only_a, only_b),
    })
}

/// The images that only one of two models stands.
fn disagreements(a: &Examples, b: &Examples, column: &str) -> (usize, usize) {
    let both = a.columns[column].robust.iter().zip(&b.columns[column].robust);
    both.fold((0, 0), |(only_a, only_b), (&a, &b)| {
        (only_a + usize::from(a && !b), only_b + usize::from(b && !a))
    })
}

/// The two-sided exact p-value: how often images that are a coin's toss to both models would fall at
/// least as unevenly.
///
/// # Source
/// McNemar 1947, with the binomial distribution in place of its approximation.
pub(crate) fn mcnemar(only_a: usize, only_b: usize) -> f64 {
    let n = (only_a + only_b) as u64;
    let fewer = only_a.min(only_b) as u64;
    Binomial::new(0.5, n).map_or(1.0, |toss| (2.0 * toss.cdf(fewer)).min(1.0))
}

/// What the tests could have seen, in words.
pub(crate) fn power(pairs: &[Pair]) -> Option<String> {
    let n = pairs.iter().map(|pair| pair.n).min()?;
    let mut shares: Vec<f64> =
        pairs.iter().map(|pair| (pair.only_a + pair.only_b) as f64 / pair.n as f64).collect();
    shares.sort_by(f64::total_cmp);
    let share = shares[shares.len() / 2];
    if share == 0.0 {
        return Some(format!(
            "On these {n} images the compared models fall for the same ones: nothing to test."
        ));
    }
    let smallest = smallest_difference(share, n);
    let tests = pairs.len();
    let by_chance = match tests {
        0..20 => String::new(),
        _ => format!(
            " Of {tests} tests, about {:.0} would fall below 0.05 by chance alone.",
            tests as f64 / 20.0
        ),
    };
    Some(format!(
        "Two of these models disagree about {:.1} % of the {n} images. A true difference between them of less \
         than {:.1} points would be missed more than one time in five (80 % power, 5 % level), so a p-value \
         above 0.05 says that this design cannot tell two methods apart, not that they are equal.{by_chance} \
         Seeds are not in the p-values: another training run moves a result too.",
        100.0 * share,
        100.0 * smallest,
    ))
}

/// The smallest difference d with n d^2 = (1.960 sqrt(q) + 0.842 sqrt(q - d^2))^2, for models that
/// disagree about a share q of n images; at most q.
///
/// # Source
/// Connor 1987, sample size for McNemar's test.
fn smallest_difference(q: f64, n: usize) -> f64 {
    const LEVEL: f64 = 1.959963984540054;
    const POWER: f64 = 0.8416212335729143;
    let mut d: f64 = 0.0;
    for _ in 0..200 {
        d = (LEVEL * q.sqrt() + POWER * (q - d * d).max(0.0).sqrt()) / (n as f64).sqrt();
    }
    d.min(q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::file::Checkpoint;

    #[test]
    fn mcnemar_is_a_sign_test_of_the_disagreements() {
        // 2 * sum of C(n, k) / 2^n, by hand.
        for ((a, b), p) in [
            ((0, 0), 1.0),
            ((3, 3), 1.0),
            ((0, 6), 2.0 / 64.0),
            ((1, 7), 18.0 / 256.0),
            ((9, 2), 134.0 / 2048.0),
        ] {
            assert!((mcnemar(a, b) - p).abs() < 1e-12, "{a} {b}: {}", mcnemar(a, b));
            assert_eq!(mcnemar(a, b), mcnemar(b, a));
        }
    }

    #[test]
    fn the_papers_method_or_the_reference_is_set_against_the_others() {
        let key = |(method, variant): &(&str, Option<&str>)| RowKey {
            role: Role::Student,
            student: "resnet18".into(),
            method: (*method).into(),
            checkpoint: Checkpoint::Best,
            variant: variant.map(str::to_string),
        };
        let check = |rows: &[(&str, Option<&str>)], reference, expected: &[(usize, usize)]| {
            let keys: Vec<RowKey> = rows.iter().map(key).collect();
            let keys: Vec<&RowKey> = keys.iter().collect();
            let all = (0..keys.len()).flat_map(|i| (0..keys.len()).map(move |j| (i, j)));
            let found: Vec<_> = all.filter(|&(i, j)| i != j && leads(&keys, i, j, reference)).collect();
            assert_eq!(found, expected, "{rows:?}");
        };
        check(&[("sat", None), ("rslad", None), ("trades", None)], None, &[(1, 0), (1, 2)]);
        check(&[("sat", None), ("trades", None)], None, &[(0, 1)]);
        let (small, large) = (Some("width 4"), Some("width 8"));
        check(&[("sat", small), ("sat", large), ("rslad", small), ("rslad", large)], None, &[(2, 0), (3, 1)]);
        check(&[("rslad", small), ("rslad", large)], None, &[(0, 1)]);
        let labels = [("sat", Some("100 labels")), ("rslad", Some("no label"))];
        check(&labels, None, &[(1, 0)]);
        let slots = [("label_slots", Some("a")), ("label_slots", Some("b")), ("label_slots", Some("c"))];
        check(&slots, Some("b"), &[(1, 0), (1, 2)]);
    }

    #[test]
    fn the_smallest_difference_solves_its_equation_and_shrinks_with_n() {
        let (q, n) = (0.2, 1000);
        let d = smallest_difference(q, n);
        let right = (1.959963984540054 * q.sqrt() + 0.8416212335729143 * (q - d * d).sqrt()).powi(2);
        assert!((n as f64 * d * d - right).abs() < 1e-9);
        assert!((0.039..0.040).contains(&d), "{d}");
        assert!(smallest_difference(q, 10_000) < d / 3.0);
        assert_eq!(smallest_difference(0.1, 16), 0.1, "never more than they disagree about");
    }
}
