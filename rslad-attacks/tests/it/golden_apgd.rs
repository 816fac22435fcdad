//! APGD iteration by iteration, as the released code ran it from the same start.

use crate::golden_attacks::{Record, resnet, tiny};
use crate::goldens::{Goldens, Twin, flat};
use candle_core::Tensor;
use rslad_attacks::attacks::{ApgdCe, ApgdDlr, ApgdT};
use rslad_attacks::{Attack, Leave, Problem, Search};
use rslad_models::{Classifier, Gradient, Objective};
use std::sync::Mutex;

/// A classifier that notes the losses it is asked for, and whether the labels held.
struct Spy<'a> {
    f: &'a dyn Classifier,
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

fn run(f: &dyn Classifier, p: &Problem, mut search: Box<dyn Search + '_>) -> Run {
    let y = p.y().to_vec1::<u32>().unwrap();
    let spy = Spy { f, held: Mutex::new(vec![true; y.len()]), y, losses: Mutex::default() };
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

/// The recorded ascents.
#[derive(Clone, Copy)]
enum Rise {
    CrossEntropy {
        iterations: usize,
    },
    Ratio,
    /// Toward the class of this rank in the logits of the clean image.
    RatioToward(usize),
}

impl Rise {
    fn name(self) -> String {
        match self {
            Self::CrossEntropy { iterations } => format!("ce_{iterations}"),
            Self::Ratio => "dlr_100".to_owned(),
            Self::RatioToward(rank) => format!("t{rank}_100"),
        }
    }

    /// The whole ascent of every image, also past its fall.
    fn run(self, f: &dyn Classifier, r: &Record) -> Run {
        let p = r.with_recorded_start();
        let keys =
            |iterations: usize| format!("iterations = {iterations}\nrestarts = 1\nrho = 0.75\neot = 1");
        match self {
            Self::CrossEntropy { iterations } => {
                let attack: ApgdCe = toml::from_str(&keys(iterations)).unwrap();
                run(f, &p, attack.search(&p, Leave::AtEnd).unwrap())
            }
            Self::Ratio => {
                let attack: ApgdDlr = toml::from_str(&keys(100)).unwrap();
                run(f, &p, attack.search(&p, Leave::AtEnd).unwrap())
            }
            Self::RatioToward(rank) => {
                let attack: ApgdT = toml::from_str(&format!("{}\ntargets = 9", keys(100))).unwrap();
                let mut search = attack.toward(rank, &p, Leave::AtEnd).unwrap();
                search.advance(f).unwrap();
                let state = search.save().unwrap();
                let targets = serde_json::from_value::<Vec<f64>>(state.json["targets"].clone()).unwrap();
                assert_eq!(targets, flat(&r.file.f64(&format!("apgd/{}/y_target", self.name()))));
                run(f, &p, search)
            }
        }
    }

    /// The images of which a pixel has a derivative of another sign than in double precision, in the first gradients.
    fn flipped(self, r: &Record, gradients: usize) -> Vec<usize> {
        let witness = Witness { f: &r.f, twin: r.twin(), until: gradients, seen: Mutex::default() };
        self.run(&witness, r);
        witness.seen.into_inner().unwrap().flips.into_iter().map(|(image, _)| image).collect()
    }
}

/// What a run is compared with: the recorded one, in double precision where that was recorded.
struct Truth {
    losses: Vec<f64>,
    best: Vec<f64>,
    step_sizes: Vec<f64>,
    stand: usize,
}

impl Truth {
    fn new(r: &Record, name: &str) -> Self {
        let read = |file: &Goldens, what: &str| flat(&file.f64(&format!("apgd/{name}/{what}")));
        let whole = r.double.has(&format!("apgd/{name}/loss"));
        let (file, robust) = if whole { (&r.double, "robust") } else { (&r.file, "robust64") };
        let (losses, stand) = (read(file, "loss"), read(file, robust));
        let n = stand.len();
        let largest = |image: usize| losses[image..].iter().step_by(n).copied().fold(f64::MIN, f64::max);
        let best = if whole { (0..n).map(largest).collect() } else { read(file, "loss_best64") };
        Self { best, step_sizes: read(file, "step_size"), stand: stand.iter().sum::<f64>() as usize, losses }
    }

    /// The images that take other steps, with the iteration from which they do.
    fn astray(&self, run: &Run) -> Vec<(usize, usize)> {
        let n = run.held.len();
        assert_eq!(run.step_sizes.len() * n, self.step_sizes.len());
        let other =
            |i: usize, image: usize| (run.step_sizes[i][image] - self.step_sizes[i * n + image]).abs() > 1e-7;
        (0..n)
            .filter_map(|image| Some((image, (0..run.step_sizes.len()).find(|&i| other(i, image))?)))
            .collect()
    }
}

/// What must agree: the limits of tests/goldens/README.md.
struct Limits {
    /// The share of images that take the recorded steps: a loss that only just rises, or does not, decides.
    steps: f64,
    /// Whether losses are compared beyond the start.
    losses: Losses,
}

#[derive(PartialEq)]
enum Losses {
    All,
    /// The ratio's denominator goes to 0 where an attack succeeds: later losses are no measure.
    OfTheStart,
}

const USUAL: Limits = Limits { steps: 0.9, losses: Losses::All };
const OF_THE_RATIO: Limits = Limits { steps: 0.75, losses: Losses::OfTheStart };

fn check(r: &Record, rise: Rise, limits: &Limits) {
    let (name, run) = (rise.name(), rise.run(&r.f, r));
    let truth = Truth::new(r, &name);
    let n = run.held.len();
    assert_eq!(truth.losses.len(), run.losses.len() * n);
    let (rows, within) = if limits.losses == Losses::All { (3, 1e-4) } else { (1, 1e-5) };
    // The first losses agree, but where a ReLU within rounding of zero turns pixels the other way.
    let off = |i: usize| (run.losses[i / n][i % n] - truth.losses[i]).abs();
    let far: Vec<usize> = (0..rows * n).filter(|&i| off(i) >= within).collect();
    let flipped = if far.is_empty() { Vec::new() } else { rise.flipped(r, rows - 1) };
    for i in far {
        let (row, image, off) = (i / n, i % n, off(i));
        eprintln!(
            "{name}: the loss of image {image} in iteration {row} is off by {off:.1e}, of {flipped:?} with a flip"
        );
        assert!(
            flipped.contains(&image),
            "{name}: the loss of image {image} in iteration {row} is off by {off:e}"
        );
    }
    if limits.losses == Losses::All {
        let best = |image: usize| run.losses.iter().map(|row| row[image]).fold(f64::NEG_INFINITY, f64::max);
        let off: Vec<f64> = truth.best.iter().enumerate().map(|(image, t)| (best(image) - t).abs()).collect();
        let near = share(off.iter().map(|off| *off < 1e-3));
        assert!(near >= 0.9, "{name}: the best losses of {near} of the images are within 1e-3, expected 0.9");
        let median = median(off);
        assert!(median < 1e-5, "{name}: the best losses are off by {median:e} in the median");
    }
    let astray = truth.astray(&run);
    let same = 1.0 - astray.len() as f64 / n as f64;
    eprintln!("{name}: {same} of the images take the recorded steps; the others from {astray:?}");
    assert!(same >= limits.steps, "{name}: {same} take the recorded steps, expected {}", limits.steps);
    let held = run.held.iter().filter(|held| **held).count();
    assert!(held.abs_diff(truth.stand) <= 1, "{name}: {held} stand, expected {}", truth.stand);
}

#[test]
fn ascent_matches_the_released_code_on_the_tiny_network() {
    let r = tiny();
    for iterations in [100, 50, 20] {
        check(&r, Rise::CrossEntropy { iterations }, &USUAL);
    }
    check(&r, Rise::Ratio, &OF_THE_RATIO);
    for rank in 2..=10 {
        check(&r, Rise::RatioToward(rank), &USUAL);
    }
}

/// Every limit but one is that of the README. Toward rank 3 ours takes the steps of 28 of 32 images where 29 were expected,
/// since rounding decides whether a loss has risen (`decisions_in_f32_are_those_of_double_precision`); so may rank 2 in
/// another order of the sums. PyTorch's f32 takes 30 and 32 of ranks 2 and 3; with channels last 27 and 32; and double
/// precision itself 27 and 27 once its points are moved by 1e-7.
#[test]
fn ascent_matches_the_released_code_on_the_resnet() {
    let r = resnet();
    for (iterations, steps) in [(20, 0.9), (50, 0.9), (100, 0.5)] {
        check(&r, Rise::CrossEntropy { iterations }, &Limits { steps, ..USUAL });
    }
    check(&r, Rise::Ratio, &OF_THE_RATIO);
    for (rank, steps) in [(2, 0.84), (3, 0.84), (10, 0.9)] {
        check(&r, Rise::RatioToward(rank), &Limits { steps, ..USUAL });
    }
}

/// A network that answers in f32 and has its twin asked the same: how small what they disagree on is.
struct Witness<'a> {
    f: &'a dyn Classifier,
    twin: Twin,
    /// After so many gradients the twin is not asked any more.
    until: usize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Losses in f32 and in double precision at the points before.
    before: Option<(Vec<f64>, Vec<f64>)>,
    /// Of the pixels whose derivatives have other signs, the largest derivative as a share of its image's largest, for
    /// each gradient that has one, and the image.
    flips: Vec<(usize, f64)>,
    /// Of the rises and falls of a loss that are falls and rises in double precision, their sizes there.
    rises: Vec<f64>,
    gradients: usize,
}

impl Classifier for Witness<'_> {
    fn n_classes(&self) -> usize {
        self.f.n_classes()
    }

    fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
        self.f.logits(x)
    }

    fn gradient(&self, x: &Tensor, objective: &dyn Objective) -> rslad_models::Result<Gradient> {
        let (ours, n) = (self.f.gradient(x, objective)?, x.dim(0)?);
        let mut seen = self.seen.lock().unwrap();
        if seen.gradients / n >= self.until {
            return Ok(ours);
        }
        let truth = self.twin.gradient(x, objective)?;
        for image in 0..n {
            let (a, b) = (flat(&ours.dx.get(image)?), flat(&truth.dx.get(image)?));
            let largest = b.iter().map(|b| b.abs()).fold(0.0, f64::max);
            let apart = a.iter().zip(&b).filter(|(a, b)| a.signum() != b.signum());
            let flip = apart.map(|(_, b)| b.abs() / largest).fold(0.0, f64::max);
            seen.gradients += 1;
            if flip > 0.0 {
                seen.flips.push((image, flip));
            }
        }
        let now = (flat(&ours.loss), flat(&truth.loss));
        if let Some((ours, truth)) = &seen.before {
            let other = |i: &usize| (now.0[*i] > ours[*i]) != (now.1[*i] > truth[*i]);
            let sizes: Vec<f64> = (0..n).filter(other).map(|i| (now.1[i] - truth[i]).abs()).collect();
            seen.rises.extend(sizes);
        }
        seen.before = Some(now);
        Ok(ours)
    }
}

/// Two hundred chaotic iterations cannot be compared, but each decision of theirs can, at the point where it is taken:
/// which way a pixel goes, and whether a loss has risen.
#[test]
fn decisions_in_f32_are_those_of_double_precision() {
    let r = resnet();
    let slow = std::env::var_os("RSLAD_SLOW_TESTS").is_some();
    let ascents: &[Rise] = match slow {
        true => &[Rise::RatioToward(2), Rise::RatioToward(3), Rise::CrossEntropy { iterations: 100 }],
        false => &[Rise::CrossEntropy { iterations: 20 }],
    };
    for &rise in ascents {
        let witness = Witness { f: &r.f, twin: r.twin(), until: usize::MAX, seen: Mutex::default() };
        rise.run(&witness, &r);
        let Seen { flips, rises, gradients, .. } = witness.seen.into_inner().unwrap();
        let mut flips: Vec<f64> = flips.into_iter().map(|(_, flip)| flip).collect();
        flips.sort_by(|a, b| b.total_cmp(a));
        let largest = rises.iter().copied().fold(0.0, f64::max);
        let kinks = flips.iter().filter(|flip| **flip > 1e-4).count();
        eprintln!(
            "{}: of {gradients} gradients {} have a pixel of another sign, its derivative at most {:?} of the image's \
             largest; {} losses rise or fall otherwise, by at most {largest:.1e}",
            rise.name(),
            flips.len(),
            &flips[..flips.len().min(8)],
            rises.len(),
        );
        // A ReLU whose input is within rounding of zero moves a few whole gradients.
        assert!(
            kinks * 100 <= gradients,
            "{kinks} of {gradients} gradients have large derivatives of another sign"
        );
        assert!(largest < 3e-6, "a loss that rises by {largest:e} was taken to fall");
    }
}
