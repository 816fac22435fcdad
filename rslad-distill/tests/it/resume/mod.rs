//! A run that is stopped or killed, and continued, ends with the bytes of one that was left alone; and
//! what is not such a run is refused.

mod damaged;
mod files;
mod killed;
mod refused;
mod stopped;

use crate::common::micro::{Log, inputs, micro, train_in};
use rslad_distill::observer::{Beginning, EpochEvent, EvalEvent, SavedEvent, StepEvent};
use rslad_distill::{Inputs, Observer, Outcome, Recipe, RunDir, train};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

struct Undisturbed {
    recipe: Recipe,
    inputs: Inputs,
    dir: TempDir,
    log: Log,
}

fn undisturbed(recipe: Recipe) -> Undisturbed {
    let (inputs, dir, mut log) = (inputs(&recipe), tempfile::tempdir().unwrap(), Log::default());
    assert_eq!(train_in(dir.path(), &recipe, &inputs, &mut log), Outcome::Finished);
    Undisturbed { recipe, inputs, dir, log }
}

/// Asks for a stop after so many steps.
struct StopAfter<'a> {
    steps: u32,
    stop: &'a AtomicBool,
    log: &'a mut Log,
}

impl Observer for StopAfter<'_> {
    fn begin(&mut self, e: &Beginning) {
        self.log.begin(e);
    }
    fn step(&mut self, e: &StepEvent) {
        self.log.step(e);
        self.steps -= 1;
        self.stop.store(self.steps == 0, Ordering::Relaxed);
    }
    fn epoch(&mut self, e: &EpochEvent) {
        self.log.epoch(e);
    }
    fn eval(&mut self, e: &EvalEvent) {
        self.log.eval(e);
    }
    fn saved(&mut self, e: &SavedEvent) {
        self.log.saved(e);
    }
}

/// One sitting: opens the directory, trains for so many steps at most, and lets go of it.
fn sit(dir: &Path, run: &Undisturbed, steps: u32, log: &mut Log) -> Outcome {
    let stop = AtomicBool::new(false);
    let held = RunDir::open(dir, &run.recipe).unwrap();
    train(&run.recipe, &run.inputs, &held, &mut StopAfter { steps, stop: &stop, log }, &stop).unwrap()
}

/// A run that was stopped in its second epoch.
fn stopped() -> (Undisturbed, TempDir) {
    let whole = undisturbed(micro(&[("schedule.epochs", "2")]));
    let (dir, mut log) = (tempfile::tempdir().unwrap(), Log::default());
    assert_eq!(sit(dir.path(), &whole, 4, &mut log), Outcome::Stopped);
    (whole, dir)
}

/// What two runs of one recipe have in common.
const FILES: [&str; 5] =
    ["recipe.toml", "metrics.jsonl", "best.safetensors", "last.safetensors", "LATEST.json"];

#[track_caller]
fn assert_same(what: &str, ours: &Path, undisturbed: &Path) {
    let last = names(undisturbed).into_iter().rfind(|name| name.starts_with("state-")).expect("a state");
    for name in FILES.into_iter().chain([last.as_str()]) {
        let read = |dir: &Path| std::fs::read(dir.join(name)).expect(name);
        assert!(read(ours) == read(undisturbed), "{what}: {name} differs");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
