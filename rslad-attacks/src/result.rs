//! Evaluations as numbers and tables: accuracies with intervals, `result.json`, `per_example.safetensors`.
//!
//! Everything here is derived from the per-example flags, so that shards can be put together and a
//! reader can recompute it.

use crate::error::{Error, Result};
use crate::evaluate::{ColumnOutcome, Evaluation};
use crate::linf::Linf;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A share of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accuracy {
    /// How many of them.
    pub correct: usize,
    /// How many in all.
    pub n: usize,
}

impl Accuracy {
    /// The share of true flags.
    pub fn of(flags: &[bool]) -> Self {
        Self { correct: flags.iter().filter(|f| **f).count(), n: flags.len() }
    }

    /// The share in [0, 1]; NaN of no images.
    pub fn share(self) -> f64 {
        self.correct as f64 / self.n as f64
    }

    /// The Wilson interval at 95 %: where the accuracy on unlimited images of this kind may lie; (0, 1) of
    /// no images.
    ///
    /// # Source
    /// Wilson 1927. Unlike the normal approximation it stays in [0, 1] and is right near 0 and 1.
    pub fn ci95(self) -> (f64, f64) {
        if self.n == 0 {
            return (0.0, 1.0);
        }
        const Z2: f64 = 1.959963984540054 * 1.959963984540054;
        let (n, p) = (self.n as f64, self.share());
        let center = (p + Z2 / (2.0 * n)) / (1.0 + Z2 / n);
        let half = (Z2 * (p * (1.0 - p) / n + Z2 / (4.0 * n * n))).sqrt() / (1.0 + Z2 / n);
        ((center - half).max(0.0), (center + half).min(1.0))
    }
}

/// The part of `result.json` that an evaluation knows; who evaluated what on which data comes from
/// outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The radius.
    pub eps: Linf,
    /// The seed of the attacks' random numbers.
    pub seed: u64,
    /// Accuracy without an attack.
    pub clean: CleanSummary,
    /// The columns in the suite's order.
    pub columns: Vec<ColumnSummary>,
    /// What a reader must know before believing the numbers.
    pub warnings: Vec<String>,
}

/// Accuracy without an attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanSummary {
    /// The images classified correctly.
    pub correct: usize,
    /// The images.
    pub n: usize,
    /// Their share.
    pub accuracy: f64,
    /// Its Wilson interval.
    pub ci95: (f64, f64),
    /// The images with a logit that is not finite; they count as misclassified.
    pub non_finite: usize,
}

/// Accuracy under one attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnSummary {
    /// The column's name.
    pub name: String,
    /// The attack's name.
    pub attack: String,
    /// The images whose label held.
    pub robust: usize,
    /// The images, misclassified ones included.
    pub n: usize,
    /// The share of robust ones.
    pub accuracy: f64,
    /// Its Wilson interval.
    pub ci95: (f64, f64),
    /// The largest perturbation.
    pub max_linf: f32,
    /// The wall-clock time of the attack.
    pub seconds: f64,
    /// The images left standing by an ensemble, clean and then after each attack; empty for a single attack.
    pub funnel: Vec<FunnelStage>,
    /// How many attacked images ended with a logit that is not finite; they count as not robust.
    pub non_finite: usize,
    /// What becomes of the fallen when they are saved as 8-bit images.
    pub eight_bit: EightBit,
    /// How the attack was adapted to the model's number of classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapted: Option<String>,
}

/// Fallen images after rounding to 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EightBit {
    /// The images that the attack felled.
    pub fallen: usize,
    /// Those of them that are still misclassified after rounding.
    pub still: usize,
}

/// A stage of an ensemble of attacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunnelStage {
    /// The attack.
    pub name: String,
    /// The images still standing after it.
    pub robust: usize,
}

impl Evaluation {
    /// Accuracy without an attack.
    pub fn clean(&self) -> Accuracy {
        Accuracy::of(&self.clean_correct)
    }

    /// The numbers for `result.json`.
    pub fn summary(&self) -> Summary {
        let clean = self.clean();
        Summary {
            eps: self.eps,
            seed: self.seed,
            clean: CleanSummary {
                correct: clean.correct,
                n: clean.n,
                accuracy: clean.share(),
                ci95: clean.ci95(),
                non_finite: self.clean_non_finite,
            },
            columns: self.columns.iter().map(|column| column.summary(clean.correct)).collect(),
            warnings: self.warnings(),
        }
    }

    /// The tensors of `per_example.safetensors`, rows sorted by index.
    ///
    /// # Errors
    /// When an id does not fit u32, which that file holds.
    pub fn per_example(&self) -> Result<BTreeMap<String, Tensor>> {
        let index = self.ids.iter().map(|&id| {
            let expected = format!("an index of at most {}", u32::MAX);
            u32::try_from(id).map_err(|_| Error::Value { what: "an id", value: id.to_string(), expected })
        });
        let index = index.collect::<Result<Vec<u32>>>()?;
        let u32s = |values: &[u32]| Tensor::new(values, &Device::Cpu);
        let flags = |flags: &[bool]| {
            Tensor::new(flags.iter().map(|&flag| u8::from(flag)).collect::<Vec<_>>(), &Device::Cpu)
        };
        let mut tensors = BTreeMap::from([
            ("index".to_owned(), u32s(&index)?),
            ("label".to_owned(), u32s(&self.labels)?),
            ("clean_prediction".to_owned(), u32s(&self.clean_predictions)?),
            ("clean_correct".to_owned(), flags(&self.clean_correct)?),
        ]);
        for column in &self.columns {
            tensors.insert(format!("{}/robust", column.name), flags(&column.robust)?);
            tensors
                .insert(format!("{}/linf", column.name), Tensor::new(column.linf.as_slice(), &Device::Cpu)?);
            if let Some(predictions) = &column.predictions {
                tensors.insert(format!("{}/prediction", column.name), u32s(predictions)?);
            }
            if !column.stages.is_empty() {
                let fell_to = Tensor::new(column.fell_to.as_slice(), &Device::Cpu)?;
                tensors.insert(format!("{}/fell_to", column.name), fell_to);
            }
        }
        Ok(tensors)
    }

    fn warnings(&self) -> Vec<String> {
        let columns = self.columns.iter().map(|c| (format!("column {}", c.name), c.non_finite));
        let all = std::iter::once(("clean".to_owned(), self.clean_non_finite)).chain(columns);
        let non_finite = all.filter(|(_, n)| *n > 0).map(|(place, n)| {
            format!(
                "{place}: images with a NaN or an infinity among their logits, which count as not robust: {n}"
            )
        });
        let adapted = |c: &ColumnOutcome| Some(format!("column {}: {}", c.name, c.adapted.as_ref()?));
        non_finite.chain(self.columns.iter().filter_map(adapted)).collect()
    }
}

impl ColumnOutcome {
    /// Accuracy under this attack.
    pub fn accuracy(&self) -> Accuracy {
        Accuracy::of(&self.robust)
    }

    /// The largest perturbation.
    pub fn max_linf(&self) -> f32 {
        self.linf.iter().copied().fold(0.0, f32::max)
    }

    /// How many images fell.
    pub fn fallen(&self) -> usize {
        self.fell_to.iter().filter(|stage| **stage > 0).count()
    }

    /// The images standing clean and after each stage; empty for a single attack.
    pub fn funnel(&self, clean: usize) -> Vec<FunnelStage> {
        if self.stages.is_empty() {
            return Vec::new();
        }
        let after = |number: usize| {
            clean - self.fell_to.iter().filter(|&&to| to > 0 && usize::from(to) <= number).count()
        };
        let names = std::iter::once("clean").chain(self.stages.iter().map(String::as_str));
        names.enumerate().map(|(i, name)| FunnelStage { name: name.to_owned(), robust: after(i) }).collect()
    }

    fn summary(&self, clean: usize) -> ColumnSummary {
        let accuracy = self.accuracy();
        ColumnSummary {
            name: self.name.clone(),
            attack: self.attack.clone(),
            robust: accuracy.correct,
            n: accuracy.n,
            accuracy: accuracy.share(),
            ci95: accuracy.ci95(),
            max_linf: self.max_linf(),
            seconds: self.seconds,
            funnel: self.funnel(clean),
            non_finite: self.non_finite,
            eight_bit: EightBit { fallen: self.fallen(), still: self.eight_bit },
            adapted: self.adapted.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_intervals_are_those_of_the_formula() {
        // Reference values: the closed form in Python, to six digits.
        for ((correct, n), (low, high)) in [
            ((180, 360), (0.448624, 0.551376)),
            ((0, 10), (0.0, 0.277533)),
            ((10, 10), (0.722467, 1.0)),
            ((1, 3), (0.061492, 0.792340)),
            ((0, 0), (0.0, 1.0)),
        ] {
            let (l, h) = Accuracy { correct, n }.ci95();
            assert!((l - low).abs() < 1e-6 && (h - high).abs() < 1e-6, "{correct}/{n}: {l} {h}");
        }
    }

    #[test]
    fn a_wilson_bound_is_the_share_that_the_data_just_do_not_reject() {
        for (correct, n) in [(180, 360), (3, 17), (9999, 10_000)] {
            let accuracy = Accuracy { correct, n };
            let (low, high) = accuracy.ci95();
            for p in [low, high] {
                let z = (accuracy.share() - p).abs() / (p * (1.0 - p) / n as f64).sqrt();
                assert!((z - 1.959963984540054).abs() < 1e-9, "{correct}/{n}: {z}");
            }
        }
    }

    fn evaluation() -> Evaluation {
        let column = ColumnOutcome {
            name: "pgd20".to_owned(),
            attack: "pgd".to_owned(),
            robust: vec![true, false],
            predictions: Some(vec![0, 2]),
            linf: vec![0.03, 0.0],
            stages: Vec::new(),
            access: crate::attack::Access::Gradients,
            adapted: None,
            fell_to: vec![0, 0],
            eight_bit: 0,
            non_finite: 1,
            seconds: 2.0,
        };
        Evaluation {
            eps: Linf::new(8.0 / 255.0).unwrap(),
            seed: 3,
            ids: vec![4, 9],
            labels: vec![0, 1],
            clean_predictions: vec![0, 2],
            clean_correct: vec![true, false],
            clean_non_finite: 0,
            columns: vec![column],
        }
    }

    #[test]
    fn the_summary_has_the_documented_layout() {
        let summary = evaluation().summary();
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["eps"], "8/255");
        assert_eq!(json["clean"]["correct"], 1);
        let column = &json["columns"][0];
        let mut keys: Vec<_> = column.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "accuracy",
                "attack",
                "ci95",
                "eight_bit",
                "funnel",
                "max_linf",
                "n",
                "name",
                "non_finite",
                "robust",
                "seconds"
            ]
        );
        assert_eq!(
            (&column["robust"], &column["n"], &column["accuracy"]),
            (&1.into(), &2.into(), &0.5.into())
        );
        assert_eq!(
            json["warnings"][0],
            "column pgd20: images with a NaN or an infinity among their logits, which count as not robust: 1"
        );
        assert_eq!(serde_json::from_value::<Summary>(json).unwrap(), summary);
    }

    #[test]
    fn a_funnel_counts_what_each_stage_leaves_standing() {
        let mut evaluation = evaluation();
        evaluation.columns[0].stages = vec!["apgd_ce".to_owned(), "square".to_owned()];
        evaluation.columns[0].fell_to = vec![2, 0];
        evaluation.columns[0].robust = vec![false, false];
        let funnel = serde_json::to_value(evaluation.summary()).unwrap()["columns"][0]["funnel"].clone();
        let stage = |name: &str, robust: usize| serde_json::json!({ "name": name, "robust": robust });
        assert_eq!(funnel, serde_json::json!([stage("clean", 1), stage("apgd_ce", 1), stage("square", 0)]));
        let names: Vec<String> = evaluation.per_example().unwrap().into_keys().collect();
        assert!(names.contains(&"pgd20/fell_to".to_owned()));
    }

    #[test]
    fn per_example_tensors_have_the_documented_names_and_types() {
        let tensors = evaluation().per_example().unwrap();
        let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "clean_correct",
                "clean_prediction",
                "index",
                "label",
                "pgd20/linf",
                "pgd20/prediction",
                "pgd20/robust"
            ]
        );
        assert_eq!(tensors["index"].to_vec1::<u32>().unwrap(), [4, 9]);
        assert_eq!(tensors["pgd20/robust"].to_vec1::<u8>().unwrap(), [1, 0]);
        let large = Evaluation { ids: vec![4, 1 << 32], ..evaluation() };
        assert!(large.per_example().unwrap_err().to_string().contains("an id is 4294967296"));
    }
}
