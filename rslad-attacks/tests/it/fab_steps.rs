//! FAB step by step, beside the same arithmetic in double precision.
//!
//! A step moves every pixel as far as it can, this way or that by the sign of its derivative. Two walks that rounding keeps
//! within 1e-6 of each other part at once where a derivative changes sign between them.

use crate::golden_attacks::{EPS, Record, resnet};
use crate::golden_fab::fab_t;
use crate::goldens::{Twin, flat};
use candle_core::Tensor;
use rslad_attacks::losses;
use rslad_models::{Classifier, Gradient, Objective};
use std::sync::Mutex;

/// The linear view of a classifier from a point: what the target leads by, and the gradient of that.
struct View {
    lead: f64,
    w: Vec<f64>,
}

impl View {
    fn all(seen: &Gradient) -> Vec<Self> {
        flat(&seen.loss).into_iter().zip(rows(&seen.dx)).map(|(lead, w)| Self { lead, w }).collect()
    }

    /// The point after `x`.
    fn step(&self, x: &[f64], x_nat: &[f64]) -> Vec<f64> {
        let lead_nat = self.lead + (0..x.len()).map(|i| self.w[i] * (x_nat[i] - x[i])).sum::<f64>();
        let (here_to, image_to) = (self.projection(x, self.lead), self.projection(x_nat, lead_nat));
        let (a1, a2) = (largest(&here_to).max(1e-8), largest(&image_to).max(1e-8));
        let alpha = (a1 / (a1 + a2)).min(0.1);
        let mixed =
            |i: usize| (x[i] + 1.05 * here_to[i]) * (1.0 - alpha) + (x_nat[i] + 1.05 * image_to[i]) * alpha;
        (0..x.len()).map(|i| mixed(i).clamp(0.0, 1.0)).collect()
    }

    /// The way from `t` to the boundary within [0, 1]: by sorting, as in the paper, where the attack iterates.
    fn projection(&self, t: &[f64], lead: f64) -> Vec<f64> {
        let side = |w: f64| if w * lead < 0.0 { 1.0 } else { 0.0 };
        let rooms: Vec<f64> = self.w.iter().zip(t).map(|(w, t)| (side(*w) - t).abs()).collect();
        let mut order: Vec<usize> = (0..t.len()).collect();
        order.sort_by(|a, b| rooms[*a].total_cmp(&rooms[*b]));
        let (mut lambda, mut rest, mut free) = (0.0, lead.abs(), sum(&self.w));
        for i in order {
            let rise = (rest / free).min(rooms[i] - lambda);
            (lambda, rest, free) = (lambda + rise, rest - rise * free, free - self.w[i].abs());
            if rest <= 0.0 {
                break;
            }
        }
        let go =
            |(w, room): (&f64, &f64)| if *w == 0.0 { 0.0 } else { (2.0 * side(*w) - 1.0) * room.min(lambda) };
        self.w.iter().zip(&rooms).map(go).collect()
    }
}

fn rows(t: &Tensor) -> Vec<Vec<f64>> {
    (0..t.dim(0).unwrap()).map(|i| flat(&t.get(i).unwrap())).collect()
}

fn largest(d: &[f64]) -> f64 {
    d.iter().fold(0.0, |max, d| max.max(d.abs()))
}

fn sum(d: &[f64]) -> f64 {
    d.iter().map(|d| d.abs()).sum()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |max, (a, b)| max.max((a - b).abs()))
}

/// The point after a verdict: a misclassified one goes back toward the image.
fn back(x: &[f64], x_nat: &[f64], margin: f64) -> Vec<f64> {
    let beta = if margin > 0.0 { 1.0 } else { 0.9 };
    x.iter().zip(x_nat).map(|(x, x_nat)| x_nat + beta * (x - x_nat)).collect()
}

/// Where double precision has the next question asked.
struct Due {
    x: Vec<f64>,
    /// How far off the gradient in f32 is, as a share of it: every pixel moves by as much more or less.
    error: f64,
    /// The pixels whose derivatives have another sign in f32, which then move the other way.
    flipped: Vec<bool>,
    /// The largest of those derivatives, as a share of the image's largest.
    flip: f64,
}

impl Due {
    fn step(x: &[f64], x_nat: &[f64], ours: &View, truth: &View) -> Self {
        let pairs = ours.w.iter().zip(&truth.w);
        let off: f64 = pairs.clone().map(|(a, b)| (a - b).abs()).sum();
        let flipped: Vec<bool> = pairs.map(|(a, b)| a.signum() != b.signum()).collect();
        let derivatives = truth.w.iter().zip(&flipped).filter(|(_, flipped)| **flipped).map(|(w, _)| w.abs());
        Self {
            x: truth.step(x, x_nat),
            error: off / sum(&truth.w),
            flip: derivatives.fold(0.0, f64::max) / largest(&truth.w),
            flipped,
        }
    }

    /// After a verdict: a misclassified point goes back toward the image.
    fn verdict(x: &[f64], x_nat: &[f64], margin: f64) -> Self {
        Self { x: back(x, x_nat, margin), error: 0.0, flip: 0.0, flipped: vec![false; x.len()] }
    }

    fn check(&self, x: &[f64]) {
        let alike = (0..x.len()).filter(|&i| !self.flipped[i]);
        let off = alike.map(|i| (x[i] - self.x[i]).abs()).fold(0.0, f64::max);
        assert!(off < 5e-7 + self.error, "a pixel is off by {off:e}, the gradient by {:e}", self.error);
    }
}

/// Answers in f32, and sees that every question is asked where double precision has it asked, from the point before.
struct Witness<'a> {
    f: &'a dyn Classifier,
    twin: Twin,
    y: Tensor,
    /// The twin answers every so manieth time; else the answers in f32 are taken on in double precision.
    every: usize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    iteration: usize,
    x_nat: Vec<Vec<f64>>,
    due: Vec<Due>,
    /// The error and the flip of each gradient that the twin was asked for.
    gradients: Vec<(f64, f64)>,
}

impl Witness<'_> {
    fn twin_answers(&self, iteration: usize) -> bool {
        (iteration + 1).is_multiple_of(self.every)
    }

    fn margins(&self, logits: &Tensor) -> Vec<f64> {
        flat(&losses::margin(logits, &self.y).unwrap())
    }
}

impl Classifier for Witness<'_> {
    fn n_classes(&self) -> usize {
        self.f.n_classes()
    }

    fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
        let (logits, points) = (self.f.logits(x)?, rows(x));
        let mut seen = self.seen.lock().unwrap();
        if seen.due.is_empty() {
            return Ok(logits); // of the images
        }
        seen.due.iter().zip(&points).for_each(|(due, x)| due.check(x));
        let margins = self.margins(&logits);
        if self.twin_answers(seen.iteration) {
            for (ours, truth) in margins.iter().zip(self.margins(&self.twin.logits(x)?)) {
                let same = (*ours > 0.0) == (truth > 0.0);
                assert!(same || truth.abs() < 1e-5, "another verdict where the margin is {truth:e}");
            }
        }
        seen.due = (0..points.len()).map(|i| Due::verdict(&points[i], &seen.x_nat[i], margins[i])).collect();
        seen.iteration += 1;
        Ok(logits)
    }

    fn gradient(&self, x: &Tensor, objective: &dyn Objective) -> rslad_models::Result<Gradient> {
        let (gradient, points) = (self.f.gradient(x, objective)?, rows(x));
        let mut seen = self.seen.lock().unwrap();
        match seen.due.is_empty() {
            true => seen.x_nat.clone_from(&points), // where walks begin
            false => seen.due.iter().zip(&points).for_each(|(due, x)| due.check(x)),
        }
        let (asked, ours) = (self.twin_answers(seen.iteration), View::all(&gradient));
        let truth = if asked { View::all(&self.twin.gradient(x, objective)?) } else { View::all(&gradient) };
        let due = |i: usize| Due::step(&points[i], &seen.x_nat[i], &ours[i], &truth[i]);
        let due: Vec<Due> = (0..points.len()).map(due).collect();
        if asked {
            seen.gradients.extend(due.iter().map(|due| (due.error, due.flip)));
        }
        seen.due = due;
        Ok(gradient)
    }
}

#[test]
fn every_step_and_verdict_is_that_of_double_precision() {
    let r = resnet();
    let (p, attack) = (r.problem(EPS), fab_t());
    let every = if std::env::var_os("RSLAD_SLOW_TESTS").is_some() { 1 } else { 33 };
    for rank in [6, 10] {
        let witness = Witness { f: &r.f, twin: r.twin(), y: p.y().clone(), every, seen: Mutex::default() };
        let mut search = attack.nearest(rank, &p).unwrap();
        while search.lanes() > 0 {
            search.advance(&witness).unwrap();
        }
        let gradients = witness.seen.into_inner().unwrap().gradients;
        // A ReLU whose input is within rounding of zero moves a whole gradient.
        let (kinks, smooth): (Vec<_>, Vec<_>) = gradients.iter().partition(|(error, _)| *error > 1e-5);
        let flips: Vec<f64> = smooth.iter().map(|(_, flip)| *flip).filter(|flip| *flip > 0.0).collect();
        eprintln!(
            "rank {rank}: of {} gradients {} are off by {:.1e} at most, the others by {:.1e}; of those {} have a derivative of \
             another sign, by {:.1e} of the largest at most",
            gradients.len(),
            kinks.len(),
            worst(&kinks),
            worst(&smooth),
            flips.len(),
            largest(&flips),
        );
        assert!(kinks.len() * 20 <= gradients.len(), "{kinks:?} are off by more than rounding");
        assert!(largest(&flips) < 1e-6, "derivatives of another sign: {flips:?}");
    }
}

fn worst(gradients: &[(f64, f64)]) -> f64 {
    gradients.iter().map(|(error, _)| *error).fold(0.0, f64::max)
}

/// Answers in f32 the walk of one image; a walk in double precision goes beside it until they part.
struct Beside<'a> {
    f: &'a dyn Classifier,
    twin: &'a Twin,
    y: Tensor,
    way: Mutex<Way>,
}

#[derive(Default)]
struct Way {
    iteration: usize,
    x_nat: Vec<f64>,
    /// Where the walk in double precision is.
    x: Vec<f64>,
    parting: Option<Parting>,
}

/// Where a walk in f32 leaves that in double precision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parting {
    /// In which iteration, from 0.
    pub(crate) iteration: usize,
    /// How far apart the points were.
    pub(crate) points: f64,
    /// How far apart the next ones are.
    pub(crate) next: f64,
    /// The largest derivative that has another sign in f32 than in double precision at the same point, as a share of the
    /// image's largest; 0 where double precision itself steps apart from the two points.
    pub(crate) flip: f64,
}

impl Beside<'_> {
    /// Both walks step; where they part, the one in f32 must step as double precision does from its point.
    fn step(
        &self,
        way: &mut Way,
        x: &Tensor,
        gradient: &Gradient,
        objective: &dyn Objective,
    ) -> rslad_models::Result<()> {
        let view = |seen: &Gradient| View::all(seen).remove(0);
        let (here, ours) = (flat(x), view(gradient));
        let beside = Tensor::from_slice(&way.x, x.dims(), x.device())?;
        let truth = view(&self.twin.gradient(&beside, objective)?).step(&way.x, &way.x_nat);
        let next = ours.step(&here, &way.x_nat);
        if apart(&next, &truth) > 1e-5 {
            let due = Due::step(&here, &way.x_nat, &ours, &view(&self.twin.gradient(x, objective)?));
            due.check(&next);
            let (points, next) = (apart(&here, &way.x), apart(&next, &truth));
            way.parting = Some(Parting { iteration: way.iteration, points, next, flip: due.flip });
        }
        way.x = truth;
        Ok(())
    }
}

impl Classifier for Beside<'_> {
    fn n_classes(&self) -> usize {
        self.f.n_classes()
    }

    fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
        let mut way = self.way.lock().unwrap();
        if !way.x.is_empty() && way.parting.is_none() {
            let logits = self.twin.logits(&Tensor::from_slice(&way.x, x.dims(), x.device())?)?;
            way.x = back(&way.x, &way.x_nat, flat(&losses::margin(&logits, &self.y).unwrap())[0]);
            way.iteration += 1;
        }
        self.f.logits(x)
    }

    fn gradient(&self, x: &Tensor, objective: &dyn Objective) -> rslad_models::Result<Gradient> {
        let gradient = self.f.gradient(x, objective)?;
        let mut way = self.way.lock().unwrap();
        if way.x.is_empty() {
            (way.x_nat, way.x) = (flat(x), flat(x));
        }
        if way.parting.is_none() {
            self.step(&mut way, x, &gradient, objective)?;
        }
        Ok(gradient)
    }
}

/// Where the walk of an image toward the class of this rank leaves that of double precision.
pub(crate) fn parting(r: &Record, twin: &Twin, rank: usize, image: usize) -> Option<Parting> {
    let (p, attack) = (r.problem(EPS).rows(&[image as u32]).unwrap(), fab_t());
    let beside = Beside { f: &r.f, twin, y: p.y().clone(), way: Mutex::default() };
    let mut search = attack.nearest(rank, &p).unwrap();
    let parting = || beside.way.lock().unwrap().parting;
    while search.lanes() > 0 && parting().is_none() {
        search.advance(&beside).unwrap();
    }
    parting()
}
