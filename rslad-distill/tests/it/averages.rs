//! Averages of the weights: what they are the mean of, what is kept of them, and that they survive a stop.

use crate::common::micro::{Log, inputs, micro, train_in};
use crate::common::{relative_l2, values};
use rslad_data::Loader;
use rslad_distill::{Observer, Outcome, Recipe, RunDir, observer::StepEvent, train};
use rslad_models::Network;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const EMA: (&str, &str) = ("average.ema", "{ decay = 0.75, batch_norm = 'averaged' }");
const SWA: (&str, &str) = ("average.swa", "{ from = 2, batch_norm = 'reestimated' }");

fn run(changes: &[(&str, &str)]) -> (Recipe, Log, TempDir) {
    let recipe = micro(changes);
    let (dir, mut log) = (tempfile::tempdir().unwrap(), Log::default());
    assert_eq!(train_in(dir.path(), &recipe, &inputs(&recipe), &mut log), Outcome::Finished);
    (recipe, log, dir)
}

/// All parameters, or all running statistics, of a checkpoint.
fn numbers(dir: &Path, file: &str, kind: &str) -> Vec<f64> {
    let (network, _) = Network::load(&dir.join(file)).unwrap();
    let state = network.params().state_dict().unwrap();
    let of_kind = state.iter().filter(|(name, _)| match kind {
        "running" => name.contains("running"),
        _ => !name.contains("running") && !name.contains("num_batches"),
    });
    of_kind.flat_map(|(_, t)| values(t)).collect()
}

/// The weights after each of the first epochs of a run, from shorter runs.
fn after_each_epoch(epochs: u64, changes: &[(&str, &str)], kind: &str) -> Vec<Vec<f64>> {
    let upto = |n: u64| {
        let n = n.to_string();
        let (_, _, dir) = run(&[changes, &[("schedule.epochs", n.as_str())]].concat());
        numbers(dir.path(), "last.safetensors", kind)
    };
    (1..=epochs).map(upto).collect()
}

const ONE_STEP_AN_EPOCH: [(&str, &str); 3] =
    [("data.limit", "52"), ("schedule.warmup", "0.0"), ("schedule.drops", "[]")];

#[test]
fn ema_forgets_geometrically() {
    let (_, _, dir) = run(&[&ONE_STEP_AN_EPOCH[..], &[EMA]].concat());
    for kind in ["parameters", "running"] {
        let weights = after_each_epoch(4, &ONE_STEP_AN_EPOCH, kind);
        let expected: Vec<f64> = (0..weights[0].len())
            .map(|i| weights[1..].iter().fold(weights[0][i], |ema, w| 0.75 * ema + 0.25 * w[i]))
            .collect();
        let error = relative_l2(&numbers(dir.path(), "last-ema.safetensors", kind), &expected);
        assert!(error < 1e-6, "{kind} off by {error:e}");
    }
}

#[test]
fn swa_is_the_mean_of_the_epochs_with_statistics_of_its_own() {
    const WARM: (&str, &str) = ("schedule.warmup", "1.0");
    let (recipe, _, dir) = run(&[SWA, WARM]);
    let weights = after_each_epoch(4, &[WARM], "parameters");
    let mean: Vec<f64> =
        (0..weights[0].len()).map(|i| weights[1..].iter().map(|w| w[i]).sum::<f64>() / 3.0).collect();
    let error = relative_l2(&numbers(dir.path(), "last-swa.safetensors", "parameters"), &mean);
    assert!(error < 1e-6, "off by {error:e}");

    let (swa, _) = Network::load(&dir.path().join("last-swa.safetensors")).unwrap();
    let kept = numbers(dir.path(), "last-swa.safetensors", "running");
    let inputs = inputs(&recipe);
    let loader = Loader::new(&inputs.train, recipe.data.batch, recipe.data.augment, recipe.seed).unwrap();
    let images = loader.epoch(4).map(|b| Ok::<_, rslad_models::Error>(b.unwrap().x().clone()));
    swa.training().reestimate(images).unwrap();
    let state = swa.params().state_dict().unwrap();
    let again: Vec<f64> =
        state.iter().filter(|(name, _)| name.contains("running")).flat_map(|(_, t)| values(t)).collect();
    assert_eq!(kept, again);
    assert!(relative_l2(&kept, &numbers(dir.path(), "last.safetensors", "running")) > 1e-3);
}

#[test]
fn averages_are_evaluated_beside_the_weights_and_do_not_touch_them() {
    let (_, log, dir) = run(&[EMA, SWA]);
    let (_, plain, plain_dir) = run(&[]);
    assert_eq!(log.steps, plain.steps);
    let raw: Vec<_> = log.evals.iter().filter(|e| e.weights == "raw").cloned().collect();
    assert_eq!(raw, plain.evals);
    let kinds: Vec<_> = log.evals.iter().map(|e| (e.epoch, e.weights)).collect();
    assert_eq!(kinds, [(2, "raw"), (2, "ema"), (2, "swa"), (4, "raw"), (4, "ema"), (4, "swa")]);
    let bits = |dir: &TempDir, file| numbers(dir.path(), file, "parameters");
    assert_eq!(bits(&dir, "last.safetensors"), bits(&plain_dir, "last.safetensors"));
    for which in ["best-ema", "last-ema", "best-swa", "last-swa"] {
        let (_, provenance) = Network::load(&dir.path().join(format!("{which}.safetensors"))).unwrap();
        let (kind, name) = which.split_once('-').unwrap();
        let selection = provenance["selection"].as_str().unwrap();
        assert!(selection.starts_with(kind) && selection.ends_with(name), "{which}: {selection}");
        assert!(!plain_dir.path().join(format!("{which}.safetensors")).exists());
    }
}

struct StopAt<'a>(u64, &'a AtomicBool);

impl Observer for StopAt<'_> {
    fn step(&mut self, e: &StepEvent) {
        self.1.store((e.epoch - 1) * 3 + e.step == self.0, Ordering::Relaxed);
    }
}

#[test]
fn a_stopped_run_continues_its_averages_to_the_same_bytes() {
    let (recipe, _, whole) = run(&[EMA, SWA]);
    let inputs = inputs(&recipe);
    let dir = tempfile::tempdir().unwrap();
    for (at, expected) in
        [(2, Outcome::Stopped), (6, Outcome::Stopped), (8, Outcome::Stopped), (0, Outcome::Finished)]
    {
        let stop = AtomicBool::new(false);
        let held = RunDir::open(dir.path(), &recipe).unwrap();
        let outcome = train(&recipe, &inputs, &held, &mut StopAt(at, &stop), &stop).unwrap();
        assert_eq!(outcome, expected, "stop at step {at}");
    }
    for file in ["last", "best", "last-ema", "best-ema", "last-swa", "best-swa"] {
        let bytes = |dir: &TempDir| std::fs::read(dir.path().join(format!("{file}.safetensors"))).unwrap();
        assert!(bytes(&dir) == bytes(&whole), "{file} differs");
    }
    let metrics = |dir: &TempDir| std::fs::read(dir.path().join("metrics.jsonl")).unwrap();
    assert!(metrics(&dir) == metrics(&whole));
}
