//! Stopped after some steps, or killed in some event, and continued.

use super::{assert_same, names, sit, stopped, undisturbed};
use crate::common::by_hand::stream;
use crate::common::micro::{Log, micro, train_in};
use rslad_distill::observer::{EpochEvent, EvalEvent, SavedEvent, StepEvent};
use rslad_distill::{Observer, Outcome, Recipe, RunDir, train};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Methods that differ in what a step leaves behind: running statistics moved by the attack, a loss
/// that changes with the epoch, no attack at all.
fn recipes() -> Vec<Recipe> {
    let iad = "{ name = 'iad', alpha = 1.0, beta = 0.1, tau = 1.0, kl_scale = 1.0, begin = 2, \
               weighting = 'paper', forwards = 'released' }";
    vec![
        micro(&[]),
        micro(&[
            ("method", iad),
            ("inner.view", "batch_statistics"),
            ("inner.start", "uniform"),
            ("inner.start_std", "0.0"),
        ]),
    ]
}

#[test]
fn a_run_stopped_after_random_steps_ends_with_the_same_bytes() {
    for (r, recipe) in recipes().into_iter().enumerate() {
        let whole = undisturbed(recipe);
        for draw in 0..4 {
            let (dir, mut log) = (tempfile::tempdir().unwrap(), Log::default());
            let mut stops = stream("stops", 10 * r as u64 + draw);
            let mut sittings = Vec::new();
            loop {
                sittings.push(1 + stops.below(5));
                match sit(dir.path(), &whole, sittings[sittings.len() - 1], &mut log) {
                    Outcome::Stopped => {}
                    outcome => break assert_eq!(outcome, Outcome::Finished),
                }
            }
            let what = format!("recipe {r}, sittings of {sittings:?} steps");
            assert_same(&what, dir.path(), whole.dir.path());
            assert_eq!(log.beginnings.len(), sittings.len(), "{what}");
            log.beginnings.truncate(1);
            assert_eq!(log, whole.log, "{what}");
        }
    }
}

#[test]
fn a_run_stopped_after_every_step_ends_with_the_same_bytes() {
    let whole = undisturbed(micro(&[]));
    let (dir, mut log) = (tempfile::tempdir().unwrap(), Log::default());
    let mut sittings = 0;
    while sit(dir.path(), &whole, 1, &mut log) == Outcome::Stopped {
        sittings += 1;
        let begin = log.beginnings.last().unwrap();
        let done = (begin.epoch - 1) * begin.steps_per_epoch + begin.steps_done;
        assert_eq!((begin.epochs, begin.steps_per_epoch, done), (4, 3, sittings - 1));
        let states = names(dir.path()).into_iter().filter(|name| name.starts_with("state-")).count();
        assert!(states <= 2, "{states} states are kept");
    }
    assert_eq!(sittings, 12);
    assert_same("one step a sitting", dir.path(), whole.dir.path());
}

#[test]
fn a_run_stopped_at_random_times_evaluations_included_ends_with_the_same_bytes() {
    let often = [("select.every", "1"), ("inner.steps", "1")];
    stopped_at_random_times(&often);
    let averages = [
        ("select.by", "loss"),
        ("average.ema", "{ decay = 0.9, batch_norm = \"reestimated\" }"),
        ("average.swa", "{ from = 2, batch_norm = \"reestimated\" }"),
    ];
    stopped_at_random_times(&[&often[..], &averages].concat());
}

fn stopped_at_random_times(changes: &[(&str, &str)]) {
    let whole = undisturbed(micro(changes));
    let (dir, mut log, mut draws) = (tempfile::tempdir().unwrap(), Log::default(), stream("times", 0));
    let mut sittings = 0;
    loop {
        let stop = AtomicBool::new(false);
        let held = RunDir::open(dir.path(), &whole.recipe).unwrap();
        let longest = 20_000 + 1_000 * sittings; // an evaluation must fit in, also on a slow machine
        let wait = Duration::from_micros(u64::from(draws.below(longest)));
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(wait);
                stop.store(true, Ordering::Relaxed);
            });
            train(&whole.recipe, &whole.inputs, &held, &mut log, &stop).unwrap()
        });
        sittings += 1;
        match outcome {
            Outcome::Stopped => {}
            outcome => break assert_eq!(outcome, Outcome::Finished),
        }
    }
    assert_same(&format!("{sittings} sittings"), dir.path(), whole.dir.path());
    log.beginnings.truncate(1);
    assert_eq!(log, whole.log, "no event is told twice");
}

/// Dies in the n-th event of whatever kind: what is on disk then is what a kill leaves.
struct DieAt(u32);

impl DieAt {
    fn count(&mut self) {
        self.0 -= 1;
        if self.0 == 0 {
            resume_unwind(Box::new("killed"));
        }
    }
}

impl Observer for DieAt {
    fn step(&mut self, _: &StepEvent) {
        self.count();
    }
    fn epoch(&mut self, _: &EpochEvent) {
        self.count();
    }
    fn eval(&mut self, _: &EvalEvent) {
        self.count();
    }
    fn saved(&mut self, _: &SavedEvent) {
        self.count();
    }
}

#[test]
fn a_run_killed_in_any_event_ends_with_the_same_bytes() {
    let whole = undisturbed(micro(&[]));
    let events =
        whole.log.steps.len() + whole.log.epochs.len() + whole.log.evals.len() + whole.log.saved.len();
    assert_eq!(events, 12 + 4 + 2 + 4);
    for event in 1..=events as u32 {
        let dir = tempfile::tempdir().unwrap();
        let killed = || train_in(dir.path(), &whole.recipe, &whole.inputs, &mut DieAt(event));
        assert!(catch_unwind(AssertUnwindSafe(killed)).is_err());
        let mut log = Log::default();
        assert_eq!(train_in(dir.path(), &whole.recipe, &whole.inputs, &mut log), Outcome::Finished);
        assert_same(&format!("killed in event {event}"), dir.path(), whole.dir.path());
        assert_eq!(names(dir.path()), names(whole.dir.path()), "killed in event {event}");
    }
}

#[test]
fn a_finished_run_is_left_as_it_is() {
    let whole = undisturbed(micro(&[("schedule.epochs", "1"), ("schedule.warmup", "0.0")]));
    let files = || -> Vec<_> {
        let modified = |name: &String| whole.dir.path().join(name).metadata().unwrap().modified().unwrap();
        names(whole.dir.path()).into_iter().filter(|n| n != ".lock").map(|n| (modified(&n), n)).collect()
    };
    let (before, mut log) = (files(), Log::default());
    assert_eq!(train_in(whole.dir.path(), &whole.recipe, &whole.inputs, &mut log), Outcome::AlreadyFinished);
    assert_eq!((files(), log), (before, Log::default()));
}

#[test]
fn lines_beyond_the_state_are_cut() {
    let (whole, dir) = stopped();
    let path = dir.path().join("metrics.jsonl");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"event\":\"step\",\"epoch\":2,\"step\":2}\n{\"event\":\"st");
    std::fs::write(&path, text).unwrap();
    assert_eq!(train_in(dir.path(), &whole.recipe, &whole.inputs, &mut ()), Outcome::Finished);
    for name in ["metrics.jsonl", "last.safetensors"] {
        let read = |dir: &TempDir| std::fs::read(dir.path().join(name)).unwrap();
        assert!(read(&dir) == read(&whole.dir), "{name} differs");
    }
}
