//! A step that went wrong, in one file: what it started from and what came out, to be looked at again.
//!
//! The weights are those before the step, the images those that the step saw, augmented; with the
//! teacher, which the recipe names, that is all a step depends on.

use crate::error::{Error, Result};
use crate::method::Progress;
use crate::optim::global_norm;
use crate::ranks::Alone;
use crate::recipe::Recipe;
use crate::step::{Players, StepInput, StepOutput};
use crate::together::Together;
use candle_core::{DType, Device, Tensor};
use rslad_attacks::Draws;
use rslad_models::checkpoint::seal::Seal;
use rslad_models::checkpoint::{self, seal};
use rslad_models::{Error as ModelError, Frozen, Network, durable};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The version of the format that this build writes.
const FORMAT: u32 = 1;
/// The metadata key of a dump.
const KEY: &str = "rslad-dump";

/// What a dump says of its step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    format: u32,
    seal: String,
    /// The epoch, from 1.
    pub epoch: u64,
    /// The step within the epoch, from 1.
    pub step: u64,
    /// The learning rate.
    pub lr: f64,
    /// What came out.
    pub found: Found,
    /// The ids of the images, in order.
    pub ids: Vec<u64>,
    /// The recipe in full.
    pub recipe: String,
}

/// The numbers of a step. Text, because JSON has no NaN: `NaN`, `inf`, or the shortest decimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The loss.
    pub loss: String,
    /// The L2 norm of the gradient.
    pub grad_norm: String,
    /// The mean of each term.
    pub terms: BTreeMap<String, String>,
}

impl Found {
    /// The numbers of a step's output.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn of(out: &StepOutput) -> Result<Self> {
        let terms = out.terms.means()?.into_iter().map(|(name, mean)| (name.to_string(), mean.to_string()));
        Ok(Self {
            loss: out.terms.value()?.to_string(),
            grad_norm: global_norm(&out.gradients)?.to_string(),
            terms: terms.collect(),
        })
    }
}

/// A step to write down.
pub(crate) struct Step<'a> {
    pub(crate) epoch: u64,
    pub(crate) step: u64,
    pub(crate) lr: f64,
    pub(crate) input: &'a StepInput<'a>,
    pub(crate) out: &'a StepOutput,
}

/// The name of a step's dump.
pub(crate) fn file_name(epoch: u64, step: u64) -> String {
    format!("dump-{epoch:05}-{step:06}.safetensors")
}

/// Writes a dump: `student` must be as it was before the step.
pub(crate) fn write(path: &Path, recipe: &Recipe, student: &Network, step: &Step<'_>) -> Result<()> {
    let told = Told {
        format: FORMAT,
        seal: seal::OPEN.into(),
        epoch: step.epoch,
        step: step.step,
        lr: step.lr,
        found: Found::of(step.out)?,
        ids: step.input.ids.to_vec(),
        recipe: recipe.to_toml(),
    };
    let mut tensors: Vec<(String, Tensor)> =
        student.params().state_dict()?.into_iter().map(|(name, t)| (format!("model.{name}"), t)).collect();
    tensors.push(("x".into(), step.input.x.clone()));
    tensors.push(("y".into(), step.input.y.clone()));
    let header = serde_json::to_string(&told).expect("what a dump says is plain data");
    let bytes = safetensors::serialize(tensors, Some(HashMap::from([(KEY.to_string(), header)])))
        .map_err(|e| Error::RunDir { path: path.into(), message: e.to_string() })?;
    Ok(durable::write(path, &seal::close(bytes))?)
}

/// A dump that was read.
pub struct Dump {
    /// What it says.
    pub told: Told,
    /// The recipe of its run.
    pub recipe: Recipe,
    tensors: HashMap<String, Tensor>,
}

/// A step seen again.
pub struct Replay {
    /// Its numbers.
    pub found: Found,
    /// The student's largest weight or statistic before the step, by its absolute value; NaN where one is.
    pub largest_weight: f64,
    /// For each term, the ids of the images whose value is not finite.
    pub images: Vec<(String, Vec<u64>)>,
    /// For each parameter whose gradient is not finite, how many of its entries are not.
    pub gradients: Vec<(String, usize)>,
}

impl Dump {
    /// Reads a dump.
    ///
    /// # Errors
    /// When the file is missing, damaged, not a dump, or of a newer format.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |message: String| ModelError::Checkpoint { path: path.into(), message };
        let bytes = std::fs::read(path).map_err(|e| failed(format!("cannot be read ({e})")))?;
        let told = told(&bytes).map_err(failed)?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
        let recipe = Recipe::parse(&path.display().to_string(), &told.recipe, &[])?;
        Ok(Self { told, recipe, tensors })
    }

    /// Runs the step again, with the teachers that its recipe names.
    ///
    /// # Errors
    /// When a teacher is missing or does not fit.
    pub fn replay(&self, teacher: Option<&Frozen>, second_teacher: Option<&Frozen>) -> Result<Replay> {
        let weights = self.tensors.iter().filter_map(|(k, v)| Some((k.strip_prefix("model.")?, v)));
        let weights: HashMap<String, Tensor> = weights.map(|(k, v)| (k.to_string(), v.clone())).collect();
        let student = Network::with_state_dict(&self.recipe.student, &weights)?;
        let told = &self.told;
        let input = StepInput {
            x: self.tensor("x")?,
            y: self.tensor("y")?,
            ids: &told.ids,
            soft_labels: None,
            draws: Draws::Keyed { seed: self.recipe.seed, epoch: told.epoch },
            progress: Progress { epoch: told.epoch, epochs: self.recipe.schedule.epochs },
        };
        let mut players = Players::new(&student, teacher, second_teacher)?;
        let together = Together::new(self.recipe.parallel.as_ref(), &Alone)?;
        let method = self.recipe.method()?;
        let out = together.step(method.as_ref(), &self.recipe.step(), &mut players, &input)?;

        let mut images = Vec::new();
        for term in out.terms.iter() {
            let values = values(&term.per_example)?;
            let wrong = values.iter().zip(&told.ids).filter(|(v, _)| !v.is_finite()).map(|(_, id)| *id);
            images.push((term.name.to_string(), wrong.collect()));
        }
        let mut gradients = Vec::new();
        for ((name, _), gradient) in student.parameters().zip(&out.gradients) {
            let wrong = values(gradient)?.iter().filter(|v| !v.is_finite()).count();
            if wrong > 0 {
                gradients.push((name.to_string(), wrong));
            }
        }
        let mut largest_weight = 0.0;
        for tensor in weights.values() {
            let largest = values(tensor)?.into_iter().fold(0.0, larger);
            largest_weight = larger(largest_weight, largest);
        }
        Ok(Replay { found: Found::of(&out)?, largest_weight, images, gradients })
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        let missing = || Error::Mismatch(format!("the dump lacks `{name}`, expected one of `rslad train`"));
        self.tensors.get(name).ok_or_else(missing)
    }
}

fn told(bytes: &[u8]) -> std::result::Result<Told, String> {
    let header =
        checkpoint::header(bytes).map_err(|e| format!("is damaged, or not a dump of `rslad train` ({e})"))?;
    let text = header.metadata().as_ref().and_then(|m| m.get(KEY));
    let text =
        text.ok_or("is not a dump, expected a dump-*.safetensors of a run that ended with exit code 5")?;
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("is damaged ({e})"))?;
    match value["format"].as_u64() {
        Some(newer) if newer > u64::from(FORMAT) => {
            Err(format!("has format {newer}, this build reads up to {FORMAT}; use a newer rslad"))
        }
        _ if seal::check(bytes) != Seal::Whole => {
            Err("is damaged: its contents are not those that were sealed".into())
        }
        _ => serde_json::from_value(value).map_err(|e| format!("is damaged ({e})")),
    }
}

fn values(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// The larger absolute value; NaN if either is.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.abs().max(b.abs()) }
}
