//! Recipes: everything that decides a run, as TOML.
//!
//! There are no defaults in code: a missing key is an error, an unknown one too. What is written beside
//! the results is the recipe with every change from the command line in it, and its hash names it.

use crate::averaging::AverageConfig;
use crate::awp::AwpConfig;
use crate::error::{Error, Result};
use crate::guard::GuardConfig;
use crate::inner::InnerConfig;
use crate::keys;
use crate::method::{Method, Who};
use crate::methods;
use crate::schedule::Schedule;
use crate::step::StepConfig;
use crate::together::ParallelConfig;
use rslad_attacks::Linf;
use rslad_attacks::suite::Suite;
use rslad_data::Augment;
use rslad_models::device::Precision;
use rslad_models::{ArchSpec, DeviceSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

mod cadence;
mod embedded;
pub use cadence::{Cadence, Changing};
pub use embedded::{RECIPES, RecipeEntry};

/// A checked recipe.
///
/// # Source
/// Every quirk of a released code (scale of a divergence, start, view, schedule) is a key that is
/// always there; the comments in the recipes name the other value and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What the recipe is for, in a sentence.
    pub about: String,
    /// The seed of everything random.
    pub seed: u64,
    /// The training data.
    pub data: DataConfig,
    /// The student's architecture with every option.
    pub student: ArchSpec,
    /// The robust teacher, for methods that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherConfig>,
    /// The second teacher, for methods that have two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_teacher: Option<TeacherConfig>,
    /// The method's name and constants.
    pub method: toml::Table,
    /// The attack within training, for methods that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner: Option<InnerConfig>,
    /// Adversarial weight perturbation, where it is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awp: Option<AwpConfig>,
    /// The optimizer.
    pub optim: OptimConfig,
    /// The learning rate over time.
    pub schedule: Schedule,
    /// Averages of the weights, where they are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average: Option<AverageConfig>,
    /// What becomes of steps that go wrong; without it they end the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardConfig>,
    /// Parts of every batch that are computed apart, on one process or on several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<ParallelConfig>,
    /// Where and in what numbers it is computed, where that is not the processor and f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceConfig>,
    /// How the best checkpoint is chosen.
    pub select: SelectConfig,
}

/// `[device]` of a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// `cpu`, `cuda` or `cuda:N`; `--device` wins, and leaves the recipe as it is: a run may move.
    pub on: DeviceSpec,
    /// What the student is trained and attacked in: `f32`, `tf32` or `bf16`. It is evaluated in f32.
    pub student: Precision,
    /// What the teachers answer in.
    pub teacher: Precision,
}

/// `[data]` of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A data spec, such as `digits` or `cifar10:DIR`.
    pub set: String,
    /// Use the first so many training images; 0 for all.
    pub limit: usize,
    /// Images per step.
    pub batch: usize,
    /// Images at a time within a step, whose gradients add up to the step's; batch statistics are then
    /// those of a micro-batch. Without it a step takes its batch whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Random views of the training images.
    pub augment: Augment,
    /// More images, whose labels nobody reads: for methods that read none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<Vec<ExtraConfig>>,
}

/// `[[data.extra]]` of a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraConfig {
    /// A data spec, such as `tensors:FILE`.
    pub set: String,
    /// Use the first so many of its training images; 0 for all.
    pub limit: usize,
}

/// `[teacher]` or `[second_teacher]` of a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// A checkpoint, or the name of a known teacher.
    pub file: String,
    /// The normalization that it runs under in place of its own, as in an architecture's option `norm`: the
    /// released RSLAD code runs a teacher under statistics that it was not trained with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<String>,
}

/// `[optim]` of a recipe: SGD.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimConfig {
    /// The base learning rate.
    pub lr: f64,
    /// The momentum.
    pub momentum: f64,
    /// The weight decay, of every parameter.
    pub weight_decay: f64,
}

/// `[select]` of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectConfig {
    /// The suite whose last column decides.
    pub suite: String,
    /// Its radius.
    pub eps: Linf,
    /// Whose images.
    pub on: SelectOn,
    /// Training images that are held out for it; 0 with `on = "test"`.
    pub hold_out: usize,
    /// What counts there.
    pub by: SelectBy,
    /// After which epochs, beside the last.
    pub every: Cadence,
}

/// The images that choose the best checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectOn {
    /// A part of the training set, held out from training. Which part does not depend on the seed.
    Validation,
    /// The test set, as the released codes of this field: its own score is then biased upward.
    Test,
}

/// What chooses the best checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectBy {
    /// The highest robust accuracy under the suite.
    Robust,
    /// The lowest loss of the method, in eval mode and with its own attack: asks no label where the
    /// method asks none. The suite's accuracies are reported beside it.
    Loss,
}

impl Recipe {
    /// A recipe by name or file, with changes `key.path = value` on top.
    ///
    /// # Errors
    /// When there is none, or it does not say what it must: names key, value and expectation.
    pub fn load(name_or_file: &str, changes: &[(String, String)]) -> Result<Self> {
        if let Some(entry) = RECIPES.iter().find(|r| r.name == name_or_file) {
            return Self::parse(entry.name, entry.text, changes);
        }
        let path = Path::new(name_or_file);
        let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::Recipe { recipe: name_or_file.into(), message: not_there(name_or_file) }
            }
            _ => Error::Io { path: path.into(), source: e },
        })?;
        Self::parse(name_or_file, &text, changes)
    }

    /// A recipe from its text; `origin` names it in errors.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn parse(origin: &str, text: &str, changes: &[(String, String)]) -> Result<Self> {
        let failed = |message: String| Error::Recipe { recipe: origin.into(), message };
        let syntax = |e: toml::de::Error| failed(format!("not TOML: {}", e.to_string().trim_end()));
        let mut table: toml::Table = text.parse().map_err(syntax)?;
        for (key, value) in changes {
            keys::set(&mut table, key, value).map_err(failed)?;
        }
        let recipe: Self = keys::read(&table, "").map_err(failed)?;
        match recipe.problem() {
            Some(problem) => Err(failed(problem)),
            None => Ok(recipe),
        }
    }

    /// The recipe as TOML, complete: what is written beside the results and hashed.
    ///
    /// # Panics
    /// Never for a checked recipe: it was read from TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe read from TOML can be written as TOML")
    }

    /// The SHA-256 of [`Recipe::to_toml`], in hex.
    pub fn hash(&self) -> String {
        Sha256::digest(self.to_toml()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The method.
    ///
    /// # Errors
    /// When its table is not right; never for a checked recipe.
    pub fn method(&self) -> Result<Box<dyn Method>> {
        methods::build(&self.method).map_err(|message| Error::Recipe { recipe: "[method]".into(), message })
    }

    /// The numbers that a GPU multiplies in: the student's, and the teachers'.
    pub fn precisions(&self) -> [Precision; 2] {
        self.device.as_ref().map_or([Precision::F32; 2], |device| [device.student, device.teacher])
    }

    /// How its steps are taken.
    pub fn step(&self) -> StepConfig<'_> {
        StepConfig { inner: self.inner.as_ref(), awp: self.awp.as_ref(), micro_batch: self.data.micro_batch }
    }

    /// What is wrong with it, if anything: key, value, expectation and fix.
    fn problem(&self) -> Option<String> {
        let method = match methods::build(&self.method) {
            Ok(method) => method,
            Err(problem) => return Some(problem),
        };
        let plan = method.plan();
        self.student
            .graph()
            .err()
            .map(|e| format!("[student] {e}"))
            .or_else(|| self.part("teacher", self.teacher.is_some(), plan.runs(Who::Teacher)))
            .or_else(|| {
                self.part("second_teacher", self.second_teacher.is_some(), plan.runs(Who::SecondTeacher))
            })
            .or_else(|| self.part("inner", self.inner.is_some(), plan.is_adversarial()))
            .or_else(|| self.inner.as_ref().and_then(InnerConfig::problem))
            .or_else(|| self.awp.as_ref().and_then(AwpConfig::problem))
            .or_else(|| self.unsupported())
            .or_else(|| self.schedule.problem())
            .or_else(|| self.data.problem())
            .or_else(|| self.optim.problem())
            .or_else(|| self.average.as_ref().and_then(|average| average.problem(self.schedule.epochs)))
            .or_else(|| self.guard.as_ref().and_then(GuardConfig::problem))
            .or_else(|| self.parallel.as_ref().and_then(ParallelConfig::problem))
            .or_else(|| self.select.problem())
    }

    fn unsupported(&self) -> Option<String> {
        let micro = self.data.micro_batch.map(|_| "data.micro_batch");
        let split = self.parallel.as_ref().and_then(ParallelConfig::splits);
        if let (Some(_), Some(ParallelConfig::Whole(_))) = (micro, &self.parallel) {
            return Some(
                "`data.micro_batch` is given with `parallel.batch_norm`, whose statistics are those of the \
                 whole batch; remove one"
                    .into(),
            );
        }
        let key = micro.or(split).filter(|_| self.awp.is_some())?;
        Some(format!(
            "`{key}` is given with `[awp]`, whose perturbation is one for the whole batch; remove one"
        ))
    }

    /// A section is there if and only if the method reads it.
    fn part(&self, section: &str, given: bool, read: bool) -> Option<String> {
        let method = self.method["name"].as_str().unwrap_or_default();
        match (given, read) {
            (false, true) => Some(format!("`[{section}]` is missing, but method {method} needs it; add it")),
            (true, false) => {
                Some(format!("`[{section}]` is given, but method {method} does not read it; remove it"))
            }
            _ => None,
        }
    }
}

/// What is said of a name that is neither a file nor a recipe: the nearest one, if it is near.
fn not_there(name: &str) -> String {
    let shared = |known: &str| {
        let ends = |a: &mut dyn Iterator<Item = (u8, u8)>| a.take_while(|(a, b)| a == b).count();
        let (front, back) = (known.bytes().zip(name.bytes()), known.bytes().rev().zip(name.bytes().rev()));
        ends(&mut front.into_iter()) + ends(&mut back.into_iter())
    };
    let nearest = RECIPES.iter().max_by_key(|r| (shared(r.name), std::cmp::Reverse(r.name.len())));
    let near = nearest.filter(|r| 4 * shared(r.name) >= 3 * name.len());
    let hint = near.map_or("; ".to_string(), |r| format!(", did you mean {}? ", r.name));
    format!("neither a file nor an embedded recipe{hint}`rslad list recipes` shows all of them")
}

impl DataConfig {
    fn problem(&self) -> Option<String> {
        (!(2..=100_000).contains(&self.batch))
            .then(|| format!("`data.batch` is {}, expected 2 to 100000", self.batch))
            .or_else(|| {
                let micro = self.micro_batch?;
                (!(2..=self.batch).contains(&micro)).then(|| {
                    format!("`data.micro_batch` is {micro}, expected 2 to {} (`data.batch`)", self.batch)
                })
            })
            .or_else(|| {
                (self.augment.crop > 64)
                    .then(|| format!("`data.augment.crop` is {}, expected 0 to 64 pixels", self.augment.crop))
            })
    }
}

impl OptimConfig {
    fn problem(&self) -> Option<String> {
        let check = |key: &str, value: f64, ok: bool, expected: &str| {
            (!ok || !value.is_finite()).then(|| format!("`optim.{key}` is {value}, expected {expected}"))
        };
        check("lr", self.lr, self.lr > 0.0, "above 0")
            .or_else(|| check("momentum", self.momentum, (0.0..1.0).contains(&self.momentum), "0 to below 1"))
            .or_else(|| check("weight_decay", self.weight_decay, self.weight_decay >= 0.0, "0 or more"))
    }
}

impl SelectConfig {
    /// What the best checkpoint is the best of.
    pub(crate) fn rule(&self) -> &str {
        match self.by {
            SelectBy::Robust => &self.suite,
            SelectBy::Loss => "loss",
        }
    }

    fn problem(&self) -> Option<String> {
        if let Some(problem) = self.every.problem() {
            return Some(problem);
        }
        if (self.on == SelectOn::Validation) != (self.hold_out > 0) {
            return Some(match self.on {
                SelectOn::Validation => {
                    "`select.hold_out` is 0, expected the number of training images to hold out, such as 144"
                        .into()
                }
                SelectOn::Test => {
                    format!("`select.hold_out` is {}, expected 0 with `on = \"test\"`", self.hold_out)
                }
            });
        }
        Suite::load(&self.suite).err().map(|e| format!("`select.suite`: {e}"))
    }
}
