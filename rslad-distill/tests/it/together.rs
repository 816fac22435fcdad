//! Several ranks train one student: the same weights on each, and with fixed shards the same bits as one.

use crate::common::micro::{inputs, micro, train_in};
use crate::common::threads::{Thread, on_each};
use crate::common::{relative_l2, values};
use candle_core::Device;
use rslad_distill::observer::StepEvent;
use rslad_distill::ranks::Reduce;
use rslad_distill::{Observer, Outcome, Recipe, Result, RunDir, train_together};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Raises a flag after some steps.
struct StopAfter<'a> {
    steps: usize,
    stop: &'a AtomicBool,
}

impl Observer for StopAfter<'_> {
    fn step(&mut self, _: &StepEvent) {
        self.steps = self.steps.saturating_sub(1);
        self.stop.store(self.steps == 0, Ordering::Relaxed);
    }
}

/// One rank's part of a run; this one is told to stop after so many steps, if any.
fn part(path: &Path, recipe: &Recipe, rank: &Thread, steps: Option<usize>) -> Result<Outcome> {
    let dir = (rank.rank() == 0).then(|| RunDir::open(path, recipe)).transpose()?;
    let stop = AtomicBool::new(false);
    let mut observer = StopAfter { steps: steps.unwrap_or(usize::MAX), stop: &stop };
    train_together(recipe, &inputs(recipe), dir.as_ref(), &mut observer, &stop, rank)
}

fn run(path: &Path, recipe: &Recipe, ranks: usize) {
    for outcome in on_each(ranks, |rank| part(path, recipe, &rank, None)) {
        assert_eq!(outcome.unwrap(), Outcome::Finished);
    }
}

const FILES: [&str; 3] = ["last.safetensors", "best.safetensors", "metrics.jsonl"];

fn assert_same(what: &str, one: &Path, other: &Path, files: &[&str]) {
    for file in files {
        let read = |dir: &Path| std::fs::read(dir.join(file)).unwrap();
        assert!(read(one) == read(other), "{what}: {file} differs");
    }
}

fn weights(dir: &Path, file: &str) -> Vec<f64> {
    let mut tensors: Vec<_> =
        candle_core::safetensors::load(dir.join(file), &Device::Cpu).unwrap().into_iter().collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    tensors.iter().flat_map(|(_, t)| values(t)).collect()
}

/// What the methods leave behind differs: statistics moved by the attack, a selection by loss, averages.
fn recipes() -> Vec<Recipe> {
    let shards = ("parallel", "{ shards = 4, running = 'first' }");
    let ema = "{ ema = { decay = 0.9, batch_norm = 'reestimated' } }";
    vec![
        micro(&[shards]),
        micro(&[("parallel", "{ shards = 3, running = 'mean' }"), ("select.by", "'loss'"), ("average", ema)]),
        micro(&[shards, ("inner.view", "'batch_statistics'"), ("guard", "{ clip_norm = 0.1, skip = 2 }")]),
    ]
}

#[test]
fn with_fixed_shards_any_number_of_ranks_ends_with_the_same_bytes() {
    for (r, recipe) in recipes().into_iter().enumerate() {
        let alone = tempfile::tempdir().unwrap();
        train_in(alone.path(), &recipe, &inputs(&recipe), &mut ());
        for ranks in [2, 3] {
            let dir = tempfile::tempdir().unwrap();
            run(dir.path(), &recipe, ranks);
            assert_same(&format!("recipe {r}, {ranks} ranks"), dir.path(), alone.path(), &FILES);
        }
    }
}

#[test]
fn without_the_section_every_rank_is_a_shard() {
    let (free, fixed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(free.path(), &micro(&[]), 2);
    let recipe = micro(&[("parallel", "{ shards = 2, running = 'first' }")]);
    train_in(fixed.path(), &recipe, &inputs(&recipe), &mut ());
    assert_same("two terms have one sum", free.path(), fixed.path(), &["metrics.jsonl"]);
    assert_eq!(weights(free.path(), "last.safetensors"), weights(fixed.path(), "last.safetensors"));
}

#[test]
fn one_shard_is_the_step_as_it_was() {
    let (plain, one) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let recipe = micro(&[("parallel", "{ shards = 1, running = 'first' }")]);
    train_in(plain.path(), &micro(&[]), &inputs(&recipe), &mut ());
    train_in(one.path(), &recipe, &inputs(&recipe), &mut ());
    assert_same("one shard", plain.path(), one.path(), &["metrics.jsonl"]);
}

#[test]
fn the_gradient_of_shards_is_that_of_micro_batches_up_to_rounding() {
    let step = [
        ("data.limit", "52"),
        ("schedule.epochs", "1"),
        ("schedule.drops", "[]"),
        ("schedule.warmup", "0"),
        ("select.every", "1"),
    ];
    let dirs =
        [("parallel", "{ shards = 4, running = 'first' }"), ("data.micro_batch", "8"), ("data.batch", "32")]
            .map(|change| {
                let recipe = micro(&[&step[..], &[change]].concat());
                let dir = tempfile::tempdir().unwrap();
                train_in(dir.path(), &recipe, &inputs(&recipe), &mut ());
                dir
            });
    let parameters = |dir: &Path| -> Vec<f64> {
        let tensors = candle_core::safetensors::load(dir.join("last.safetensors"), &Device::Cpu).unwrap();
        let mut tensors: Vec<_> = tensors
            .into_iter()
            .filter(|(name, _)| !name.contains("running") && !name.contains("tracked"))
            .collect();
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        tensors.iter().flat_map(|(_, t)| values(t)).collect()
    };
    let [shards, micro_batches, whole] = dirs.each_ref().map(|dir| parameters(dir.path()));
    let error = relative_l2(&shards, &micro_batches);
    assert!(error < 1e-6, "{error:e}");
    assert!(relative_l2(&shards, &whole) > 1e-4, "batch statistics are those of a shard");
}

#[test]
fn with_synchronized_normalization_ranks_do_what_one_process_does() {
    let first_steps = [
        ("data.limit", "52"),
        ("schedule.epochs", "1"),
        ("schedule.drops", "[]"),
        ("schedule.warmup", "0"),
        ("select.every", "1"),
    ];
    for view in ["'frozen'", "'batch_statistics'"] {
        let synchronized = ("parallel", "{ batch_norm = 'synchronized' }");
        let recipe = micro(&[&first_steps[..], &[("inner.view", view), synchronized]].concat());
        let alone = tempfile::tempdir().unwrap();
        train_in(alone.path(), &recipe, &inputs(&recipe), &mut ());
        let whole = weights(alone.path(), "last.safetensors");
        for ranks in [2, 3] {
            let dir = tempfile::tempdir().unwrap();
            run(dir.path(), &recipe, ranks);
            let off = relative_l2(&weights(dir.path(), "last.safetensors"), &whole);
            assert!(off < 1e-6, "{view}, {ranks} ranks: off by {off:e}");
        }
        let by_rank = micro(&[&first_steps[..], &[("inner.view", view)]].concat());
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), &by_rank, 2);
        assert!(relative_l2(&weights(dir.path(), "last.safetensors"), &whole) > 1e-4, "{view}: by rank");
    }
}

#[test]
fn any_rank_can_be_told_to_stop_and_the_run_goes_on_to_the_same_bytes() {
    let recipe = &recipes()[0];
    let (whole, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train_in(whole.path(), recipe, &inputs(recipe), &mut ());
    for (ranks, told, steps) in [(2, 1, 2), (3, 0, 4), (4, 3, 3)] {
        let outcomes = on_each(ranks, |rank| {
            let steps = (rank.rank() == told).then_some(steps);
            part(dir.path(), recipe, &rank, steps).unwrap()
        });
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Stopped), "{outcomes:?}");
    }
    run(dir.path(), recipe, 2);
    assert_same("stopped thrice", dir.path(), whole.path(), &FILES);
}

#[test]
fn a_rank_with_something_else_stops_all_before_the_first_step_and_is_named() {
    let check = |other: &Recipe, what: &str| {
        let dir = tempfile::tempdir().unwrap();
        let errors = on_each(3, |rank| {
            let recipe = if rank.rank() == 1 { other } else { &micro(&[]) };
            part(dir.path(), recipe, &rank, None).unwrap_err().to_string()
        });
        for error in errors {
            assert!(error.contains(&format!("rank 1 of 3 differ in {what}")), "{error}");
        }
        assert!(!dir.path().join("metrics.jsonl").exists());
    };
    check(&micro(&[("seed", "8")]), "recipe");
    let dir = tempfile::tempdir().unwrap();
    let errors = on_each(2, |rank| {
        let recipe = micro(&[]);
        let mut inputs = inputs(&recipe);
        if rank.rank() == 1 {
            inputs.train = inputs.train.limit(79).unwrap();
        }
        let held = (rank.rank() == 0).then(|| RunDir::open(dir.path(), &recipe).unwrap());
        let stop = AtomicBool::new(false);
        train_together(&recipe, &inputs, held.as_ref(), &mut (), &stop, &rank).unwrap_err().to_string()
    });
    assert!(errors.iter().all(|error| error.contains("rank 1 of 2 differ in training images")), "{errors:?}");
}

#[test]
fn without_fixed_shards_a_run_goes_on_by_as_many_ranks_only() {
    let (dir, recipe) = (tempfile::tempdir().unwrap(), micro(&[]));
    on_each(2, |rank| part(dir.path(), &recipe, &rank, Some(2)).unwrap());
    let error = on_each(3, |rank| part(dir.path(), &recipe, &rank, None).unwrap_err().to_string());
    assert!(error[2].contains("begun by 2 processes and these are 3"), "{error:?}");
    run(dir.path(), &recipe, 2);
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let fails = |recipe: &Recipe, ranks: usize| {
        let dir = tempfile::tempdir().unwrap();
        on_each(ranks, |rank| part(dir.path(), recipe, &rank, None).unwrap_err().to_string()).remove(0)
    };
    let two = micro(&[("parallel", "{ shards = 2, running = 'first' }")]);
    assert!(fails(&two, 3).contains("3 ranks for 2 shards"));
    let many = micro(&[("parallel", "{ shards = 9, running = 'first' }")]);
    let message = fails(&many, 1);
    assert!(message.contains("smallest batch of an epoch has 16 of 80 images"), "{message}");
    let awp = micro(&[("awp", "{ gamma = 0.005, warmup = 0 }")]);
    assert!(fails(&awp, 2).contains("`[awp]` perturbs the weights once"));
}

#[test]
fn a_rank_that_is_gone_ends_the_others() {
    let (dir, recipe) = (tempfile::tempdir().unwrap(), micro(&[]));
    let errors = on_each(3, |rank| match rank.rank() {
        2 => "gone".to_string(),
        _ => part(dir.path(), &recipe, &rank, None).unwrap_err().to_string(),
    });
    assert_eq!(errors, ["a rank is gone", "a rank is gone", "gone"]);
}
