//! APGD iteration by iteration, as the released code ran it from the same start.

use crate::golden_attacks::{EPS, Record, resnet, tiny};
use crate::goldens::flat;
use candle_core::Tensor;
use rslad_attacks::attacks::{ApgdCe, ApgdDlr, ApgdT};
use rslad_attacks::{Leave, Problem, Search};
use rslad_models::{Classifier, Frozen, Gradient, Objective};
use std::sync::Mutex;

/// A classifier that notes the losses it is asked for, and whether the labels held.
struct Spy<'a> {
    f: &'a Frozen,
    y: Vec<u32>,
    losses: Mutex<Vec<Vec<f64>>>,
    held: Mutex<Vec<bool>>,
}

impl Classifier for Spy<'_> {
    fn n_classes(&self) -> usize {
        self.f.n_classes()
    }

    fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
        self.f.logits(x)
    }

    fn gradient(&self, x: &Tensor, objective: &dyn Objective) -> rslad_models::Result<Gradient> {
        let gradient = self.f.gradient(x, objective)?;
        self.losses.lock().unwrap().push(flat(&gradient.loss));
        let predicted = gradient.logits.argmax(1)?.to_vec1::<u32>()?;
        let mut held = self.held.lock().unwrap();
        held.iter_mut().zip(predicted).zip(&self.y).for_each(|((held, p), y)| *held &= p == *y);
        Ok(gradient)
    }
}

/// What a run looked like, iteration by iteration and image by image.
struct Run {
    losses: Vec<Vec<f64>>,
    step_sizes: Vec<Vec<f64>>,
    held: Vec<bool>,
}

fn run(r: &Record, p: &Problem, mut search: Box<dyn Search + '_>) -> Run {
    let y = p.y().to_vec1::<u32>().unwrap();
    let spy = Spy { f: &r.f, held: Mutex::new(vec![true; y.len()]), y, losses: Mutex::default() };
    let mut step_sizes = Vec::new();
    while search.lanes() > 0 {
        let before = spy.losses.lock().unwrap().len();
        search.advance(&spy).unwrap();
        if search.lanes() > 0 && spy.losses.lock().unwrap().len() > before {
            step_sizes.push(flat(&search.save().unwrap().tensors["step_size"]));
        }
    }
    Run { losses: spy.losses.into_inner().unwrap(), step_sizes, held: spy.held.into_inner().unwrap() }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn share(flags: impl Iterator<Item = bool>) -> f64 {
    let flags: Vec<bool> = flags.collect();
    flags.iter().filter(|f| **f).count() as f64 / flags.len() as f64
}

/// The share of images whose sequence of step sizes is the recorded one.
fn same_steps(ours: &[Vec<f64>], theirs: &[f64]) -> f64 {
    let n = ours[0].len();
    assert_eq!(ours.len() * n, theirs.len());
    let same = |image: usize| (0..ours.len()).all(|i| (ours[i][image] - theirs[i * n + image]).abs() < 1e-7);
    share((0..n).map(same))
}

/// What must agree. The limits of the small network are what PyTorch's own f32 keeps of its f64, with some
/// room: a loss that only just rises, or does not, decides about a step size.
struct Limits {
    /// The share of images that take the recorded steps.
    steps: f64,
    /// How many images may start another way: a ReLU whose input is near zero flips under another order of
    /// summation, and one pixel's step goes the other way.
    astray: usize,
    /// The share of images whose best loss is the recorded one.
    near: f64,
}

fn recorded(r: &Record, name: &str, what: &str) -> Vec<f64> {
    flat(&r.file.f64(&format!("apgd/{name}/{what}")))
}

fn compare(r: &Record, name: &str, run: &Run, limits: &Limits) {
    let share = same_steps(&run.step_sizes, &recorded(r, name, "step_size"));
    eprintln!("{name}: {share} of the images take the recorded steps");
    assert!(share >= limits.steps, "{name}: {share} take the recorded steps, expected {}", limits.steps);
    let held = run.held.iter().filter(|held| **held).count();
    let expected = recorded(r, name, "robust64").into_iter().sum::<f64>() as usize;
    assert!(held.abs_diff(expected) <= 1, "{name}: {held} stand, expected {expected}");
}

fn compare_losses(r: &Record, name: &str, run: &Run, limits: &Limits) {
    let (n, losses) = (run.held.len(), recorded(r, name, "loss"));
    assert_eq!(losses.len(), run.losses.len() * n);
    for row in 0..3 {
        let theirs = losses[row * n..][..n].iter();
        let off = run.losses[row].iter().zip(theirs).map(|(a, b)| (a - b).abs());
        let off: Vec<(usize, f64)> = off.enumerate().filter(|(_, off)| *off >= 1e-4).collect();
        let allowed = if row == 0 { 0 } else { limits.astray };
        assert!(off.len() <= allowed, "{name}: losses of iteration {row} are off: {off:?}");
    }
    let best = |image: usize| run.losses.iter().map(|row| row[image]).fold(f64::NEG_INFINITY, f64::max);
    let off = |(image, truth): (usize, f64)| (best(image) - truth).abs();
    let off: Vec<f64> = recorded(r, name, "loss_best64").into_iter().enumerate().map(off).collect();
    let near = share(off.iter().map(|off| *off < 1e-3));
    let least = limits.near;
    assert!(
        near >= least,
        "{name}: the best losses of {near} of the images are within 1e-3, expected {least}"
    );
    let median = median(off);
    assert!(median < 1e-5, "{name}: the best losses are off by {median:e} in the median");
}

fn cross_entropy_matches(r: &Record, iterations: usize, limits: &Limits) {
    let p = r.problem(EPS);
    let name = format!("ce_{iterations}");
    let keys = format!("iterations = {iterations}\nrestarts = 1\nrho = 0.75\neot = 1");
    let attack: ApgdCe = toml::from_str(&keys).unwrap();
    let run = run(r, &p, attack.search(&p, Leave::AtEnd).unwrap());
    compare_losses(r, &name, &run, limits);
    compare(r, &name, &run, limits);
}

fn dlr_matches(r: &Record) {
    let p = r.problem(EPS);
    let attack: ApgdDlr = toml::from_str("iterations = 100\nrestarts = 1\nrho = 0.75\neot = 1").unwrap();
    let run = run(r, &p, attack.search(&p, Leave::AtEnd).unwrap());
    // Later losses are no measure: once the attack succeeds the ratio's denominator goes to 0.
    let theirs = recorded(r, "dlr_100", "loss");
    let worst = run.losses[0].iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-5, "dlr_100: the losses of the start are off by {worst:e}");
    compare(r, "dlr_100", &run, &Limits { steps: 0.75, astray: 0, near: 0.9 });
}

fn targeted_matches(r: &Record, rank: usize, limits: &Limits) {
    let p = r.problem(EPS);
    let keys = "iterations = 100\ntargets = 9\nrestarts = 1\nrho = 0.75\neot = 1";
    let attack: ApgdT = toml::from_str(keys).unwrap();
    let name = format!("t{rank}_100");
    let mut search = attack.toward(rank, &p, Leave::AtEnd).unwrap();
    search.advance(&r.f).unwrap();
    let targets = serde_json::from_value::<Vec<f64>>(search.save().unwrap().json["targets"].clone()).unwrap();
    assert_eq!(targets, recorded(r, &name, "y_target"), "{name}");
    let run = run(r, &p, search);
    compare_losses(r, &name, &run, limits);
    compare(r, &name, &run, limits);
}

const SMALL: Limits = Limits { steps: 0.9, astray: 0, near: 0.9 };

#[test]
fn ascent_matches_the_released_code_on_the_tiny_network() {
    let r = tiny();
    for iterations in [100, 50, 20] {
        cross_entropy_matches(&r, iterations, &SMALL);
    }
    dlr_matches(&r);
    for rank in 2..=10 {
        targeted_matches(&r, rank, &SMALL);
    }
}

/// PyTorch's own f32 keeps 59 % of its f64's step sequences in 100 iterations here. Ours keep 53 %, and 88 and 75 % in
/// 20 and 50 iterations, where the recorded runs are f32 too. That Winograd's order of summation flips ReLUs near zero is
/// likely and was not traced image by image: the limits are what was seen, with some room.
#[test]
fn ascent_matches_the_released_code_on_the_resnet() {
    let r = resnet();
    for (iterations, steps) in [(20, 0.8), (50, 0.7), (100, 0.5)] {
        cross_entropy_matches(&r, iterations, &Limits { steps, astray: 1, near: 0.9 });
    }
    dlr_matches(&r);
    for rank in [2, 3, 10] {
        // Ranks 3 and 10 were recorded in f32 only, so two roundings meet in 100 chaotic steps, one of them
        // Winograd's: 28 of 32 images end at the same loss.
        let near = if rank == 2 { 0.9 } else { 0.85 };
        targeted_matches(&r, rank, &Limits { steps: 0.75, astray: 1, near });
    }
}
