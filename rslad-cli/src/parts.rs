//! The files of a finished evaluation, read back.

use crate::exit::Ended;
use crate::result_file::ResultFile;
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use rslad_attacks::evaluate::ColumnOutcome;
use rslad_attacks::result::ColumnSummary;
use rslad_attacks::suite::Suite;
use rslad_attacks::{Access, Evaluation};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An evaluation's directory.
pub(crate) struct Part {
    pub(crate) dir: PathBuf,
    pub(crate) result: ResultFile,
    pub(crate) suite: String,
    tensors: BTreeMap<String, Tensor>,
}

impl Part {
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let file = |name: &str| dir.join(name);
        let refuse = |name: &str, why: String| {
            let file = file(name);
            Ended::Usage(format!(
                "{}: {why}, expected the directory of a finished `rslad eval`",
                file.display()
            ))
        };
        let text = std::fs::read(file("result.json")).map_err(|e| refuse("result.json", e.to_string()))?;
        let result = serde_json::from_slice(&text)
            .map_err(|e| refuse("result.json", format!("is not a result of this version ({e})")))?;
        let suite =
            std::fs::read_to_string(file("suite.toml")).map_err(|e| refuse("suite.toml", e.to_string()))?;
        let name = "per_example.safetensors";
        let tensors = candle_core::safetensors::load(file(name), &Device::Cpu)
            .map_err(|e| refuse(name, e.to_string()))?;
        Ok(Self { dir: dir.to_path_buf(), result, suite, tensors: tensors.into_iter().collect() })
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<&Tensor> {
        let file = self.dir.join("per_example.safetensors");
        let lacks = || format!("{}: lacks `{name}`, expected what `rslad eval` writes", file.display());
        self.tensors.get(name).with_context(lacks)
    }

    /// The names of its tensors that hold points.
    pub(crate) fn points(&self) -> impl Iterator<Item = &String> {
        self.tensors.keys().filter(|name| name.ends_with("/x_adv"))
    }

    pub(crate) fn u32s(&self, name: &str) -> Result<Vec<u32>> {
        Ok(self.tensor(name)?.to_vec1()?)
    }

    pub(crate) fn flags(&self, name: &str) -> Result<Vec<bool>> {
        Ok(self.tensor(name)?.to_vec1::<u8>()?.into_iter().map(|flag| flag != 0).collect())
    }

    /// The evaluation as the harness gave it, but for what only sums are kept of.
    pub(crate) fn evaluation(&self) -> Result<Evaluation> {
        let (ids, labels) = (self.u32s("index")?, self.u32s("label")?);
        let suite = Suite::parse("suite.toml", &self.suite)?;
        let column = |c: &ColumnSummary| self.column(c, &suite, ids.len());
        Ok(Evaluation {
            eps: self.result.eps,
            seed: self.result.seed,
            labels,
            clean_predictions: self.u32s("clean_prediction")?,
            clean_correct: self.flags("clean_correct")?,
            clean_non_finite: self.result.clean.non_finite,
            columns: self.result.columns.iter().map(column).collect::<Result<_>>()?,
            ids: ids.iter().copied().map(u64::from).collect(),
        })
    }

    fn column(&self, c: &ColumnSummary, suite: &Suite, n: usize) -> Result<ColumnOutcome> {
        let robust = self.flags(&format!("{}/robust", c.name))?;
        let stages: Vec<String> = c.funnel.iter().skip(1).map(|stage| stage.name.clone()).collect();
        let fell_to = match stages.is_empty() {
            false => self.tensor(&format!("{}/fell_to", c.name))?.to_vec1()?,
            true => {
                let correct = self.flags("clean_correct")?;
                (0..n).map(|row| u8::from(correct[row] && !robust[row])).collect()
            }
        };
        let kept = self.tensors.get(&format!("{}/prediction", c.name));
        let of_suite = suite.columns.iter().find(|column| column.name == c.name);
        Ok(ColumnOutcome {
            name: c.name.clone(),
            attack: c.attack.clone(),
            stages,
            access: of_suite.map_or(Access::Gradients, |column| column.attack.access()),
            adapted: c.adapted.clone(),
            robust,
            predictions: kept.map(|tensor| tensor.to_vec1()).transpose()?, // not in files of before
            linf: self.tensor(&format!("{}/linf", c.name))?.to_vec1()?,
            fell_to,
            non_finite: c.non_finite,
            eight_bit: c.eight_bit.still,
            seconds: c.seconds,
        })
    }
}
