//! What a run reports while it runs: events, and whoever watches them.

use crate::times::Times;
use serde::Serialize;
use std::collections::BTreeMap;

/// One step of the optimizer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepEvent {
    /// The epoch, from 1.
    pub epoch: u64,
    /// The step within the epoch, from 1.
    pub step: u64,
    /// The learning rate.
    pub lr: f64,
    /// The loss before the step.
    pub loss: f64,
    /// The unweighted mean of each term.
    pub terms: BTreeMap<String, f64>,
    /// The L2 norm of the gradient.
    pub grad_norm: f64,
    /// What became of it; left out of `metrics.jsonl` where the step was simply taken.
    #[serde(skip_serializing_if = "Update::is_taken")]
    pub update: Update,
}

/// What became of a step's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// The optimizer followed it.
    Taken,
    /// It was too long, and scaled down first.
    Clipped,
    /// It was not finite, and left out.
    Skipped,
}

impl Update {
    fn is_taken(&self) -> bool {
        *self == Self::Taken
    }
}

/// An epoch's end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EpochEvent {
    /// The epoch, from 1.
    pub epoch: u64,
    /// The mean of the steps' losses, by images.
    pub loss: f64,
    /// The means of the terms, by images.
    pub terms: BTreeMap<String, f64>,
}

/// An evaluation of the student, or of one of its averages, during training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalEvent {
    /// The epoch it follows.
    pub epoch: u64,
    /// `raw` for the weights themselves, `ema` or `swa` for an average.
    pub weights: &'static str,
    /// `validation` or `test`.
    pub on: &'static str,
    /// The number of images.
    pub n: usize,
    /// The share classified correctly.
    pub clean: f64,
    /// The share that stands the suite's last attack.
    pub robust: f64,
    /// The method's mean loss there, where that chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Whether this is the best so far, and was written to `best.safetensors` (`best-ema.safetensors`).
    pub best: bool,
}

/// A scheduled save of what resume needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SavedEvent {
    /// The epochs completed.
    pub epoch: u64,
    /// The file within the run directory.
    pub file: String,
}

/// One line of `metrics.jsonl`: no wall-clock times, so the same run gives the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// One step of the optimizer.
    Step(StepEvent),
    /// An epoch's end.
    Epoch(EpochEvent),
    /// An evaluation.
    Eval(EvalEvent),
    /// A scheduled save.
    Saved(SavedEvent),
}

/// How a run begins or goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The epochs of the run.
    pub epochs: u64,
    /// The steps of an epoch.
    pub steps_per_epoch: u64,
    /// The epoch of the next step, from 1.
    pub epoch: u64,
    /// The steps of that epoch already done, before an interruption.
    pub steps_done: u64,
}

/// Watches a run. Called in this order: `begin` once, then for each epoch `step` for every step,
/// `times`, `epoch`, `eval` where the recipe asks for one (for the weights, then for each average), `saved`;
/// and `times` once more at the end. Evaluations come before their epoch is reported, so what is reported
/// is never taken back.
pub trait Observer {
    /// The run begins or goes on.
    fn begin(&mut self, _: &Beginning) {}
    /// The optimizer has stepped.
    fn step(&mut self, _: &StepEvent) {}
    /// An epoch is over.
    fn epoch(&mut self, _: &EpochEvent) {}
    /// The student has been evaluated.
    fn eval(&mut self, _: &EvalEvent) {}
    /// The state has been saved.
    fn saved(&mut self, _: &SavedEvent) {}
    /// Where the time of this sitting has gone so far.
    fn times(&mut self, _: &Times) {}
}

/// Watches nothing.
impl Observer for () {}

impl Event {
    /// Hands the event to a watcher.
    pub(crate) fn tell(&self, observer: &mut dyn Observer) {
        match self {
            Self::Step(e) => observer.step(e),
            Self::Epoch(e) => observer.epoch(e),
            Self::Eval(e) => observer.eval(e),
            Self::Saved(e) => observer.saved(e),
        }
    }
}
