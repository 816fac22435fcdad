//! `result.json`: what an evaluation found, and what it was asked.

use crate::exit::Ended;
use crate::model_cost::Cost;
use crate::weight_files;
use anyhow::Result;
use rslad_attacks::Linf;
use rslad_attacks::checks::Check;
use rslad_attacks::result::{CleanSummary, ColumnSummary};
use rslad_models::ArchSpec;
use serde::{Deserialize, Deserializer, Serialize};
use std::path::Path;

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResultFile {
    pub(crate) schema: u32,
    pub(crate) model: ModelInfo,
    /// The surrogate that points were made on, where it was not the model itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<ModelInfo>,
    pub(crate) data: DataInfo,
    /// Which part of the data, where not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shard: Option<Shard>,
    #[serde(deserialize_with = "radius_or_zero")]
    pub(crate) eps: Linf,
    pub(crate) seed: u64,
    pub(crate) version: String,
    /// Not in files of before it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<Cost>,
    pub(crate) clean: CleanSummary,
    pub(crate) columns: Vec<ColumnSummary>,
    /// Signs of whether the numbers can be believed.
    pub(crate) trust: Vec<Check>,
    pub(crate) warnings: Vec<String>,
}

/// Which model was attacked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelInfo {
    pub(crate) path: String,
    pub(crate) sha256: String,
    pub(crate) arch: ArchSpec,
}

/// On which images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataInfo {
    pub(crate) name: String,
    pub(crate) split: String,
    pub(crate) n: usize,
    pub(crate) sha256: String,
}

/// One of the equal parts that an evaluation is cut into, written `2/5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shard {
    /// From 1.
    pub(crate) index: usize,
    pub(crate) of: usize,
}

impl Shard {
    /// The rows of `n` that are its own.
    pub(crate) fn rows(self, n: usize) -> std::ops::Range<usize> {
        (self.index - 1) * n / self.of..self.index * n / self.of
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('/').and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        match parts {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Self { index, of }),
            _ => Err("expected a part and how many there are, such as 2/5".into()),
        }
    }
}

/// What an evaluation is asked: where two questions agree, so do their answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Question {
    pub(crate) model: ModelInfo,
    pub(crate) source: Option<ModelInfo>,
    pub(crate) data: DataInfo,
    pub(crate) shard: Option<Shard>,
    pub(crate) eps: Linf,
    pub(crate) seed: u64,
}

impl Question {
    /// A hash of everything that decides the answer.
    pub(crate) fn hash(&self, suite: &str) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let Self { model, source, data, shard, eps, seed } = self;
        let mut asked = serde_json::json!({
            "model": model.sha256, "arch": model.arch, "data": data, "shard": shard, "eps": eps.get(),
            "seed": seed, "suite": suite, "version": version,
        });
        if let Some(source) = source {
            asked["source"] = serde_json::json!([source.sha256, source.arch]);
        }
        weight_files::hex(asked.to_string().as_bytes())
    }

    /// The result that a directory holds for this question and suite, if there is one.
    ///
    /// # Errors
    /// When it holds the result of another question: it is not overwritten.
    pub(crate) fn answered(&self, dir: &Path, suite: &str) -> Result<Option<ResultFile>> {
        let file = dir.join("result.json");
        let Ok(text) = std::fs::read(&file) else { return Ok(None) };
        let other = |differs: &str| {
            let file = file.display();
            let message = format!(
                "{file}: the result of another evaluation ({differs}); choose another --out, or remove it"
            );
            Ended::Usage(message).into()
        };
        let Ok(found) = serde_json::from_slice::<ResultFile>(&text) else {
            return Err(other("it cannot be read"));
        };
        let same_suite = std::fs::read_to_string(dir.join("suite.toml")).is_ok_and(|text| text == suite);
        let differs = (found.shard != self.shard).then_some("another shard").or(self.difference(&found));
        match differs.or((!same_suite).then_some("other attacks")) {
            None => Ok(Some(found)),
            Some(differs) => Err(other(differs)),
        }
    }

    /// The first thing by which a result is one of another question; shards aside.
    pub(crate) fn difference(&self, found: &ResultFile) -> Option<&'static str> {
        let same = |a: &ModelInfo, b: &ModelInfo| a.sha256 == b.sha256 && a.arch == b.arch;
        let same_source = match (&found.source, &self.source) {
            (Some(a), Some(b)) => same(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let checks = [
            (same(&found.model, &self.model), "another model"),
            (same_source, "another surrogate"),
            (found.data == self.data, "other data"),
            (found.eps == self.eps, "another radius"),
            (found.seed == self.seed, "another seed"),
            (found.version == env!("CARGO_PKG_VERSION"), "another version of rslad"),
        ];
        checks.into_iter().find(|(same, _)| !same).map(|(_, differs)| differs)
    }
}

/// A radius from a flag or a result, where 0 asks for clean accuracy once more.
pub(crate) fn parse_radius(text: &str) -> Result<Linf, rslad_attacks::Error> {
    let number = |part: &str| part.trim().parse::<f64>().ok();
    let (above, below) = text.split_once('/').unwrap_or((text, "1"));
    match (number(above), number(below)) {
        (Some(0.0), Some(below)) if below > 0.0 && below.is_finite() => Ok(Linf::ZERO),
        _ => text.parse(),
    }
}

/// A radius of a file.
pub(crate) fn radius_or_zero<'de, D: Deserializer<'de>>(d: D) -> Result<Linf, D::Error> {
    parse_radius(&String::deserialize(d)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_a_partition() {
        for n in [0, 1, 7, 24, 100] {
            for of in [1, 2, 5, 30] {
                let rows = (1..=of).flat_map(|index| Shard { index, of }.rows(n));
                assert_eq!(rows.collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
            }
        }
        assert_eq!("2/5".parse(), Ok(Shard { index: 2, of: 5 }));
        for text in ["0/5", "6/5", "2", "a/b", "-1/5", "1/0", ""] {
            assert!(text.parse::<Shard>().unwrap_err().contains("such as 2/5"), "{text}");
        }
    }

    #[test]
    fn zero_is_a_radius_of_an_evaluation() {
        for text in ["0", "0.0", " 0/255 ", "-0"] {
            assert_eq!(parse_radius(text).unwrap(), Linf::ZERO, "{text}");
        }
        assert_eq!(parse_radius("8/255").unwrap().get(), 8.0 / 255.0);
        for text in ["8", "0/0", "", "0/x", "0/-1", "-1/255", "eps", "0/inf"] {
            let message = parse_radius(text).unwrap_err().to_string();
            assert!(message.contains("write \"8/255\""), "{text}: {message}");
        }
    }
}
