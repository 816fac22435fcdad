//! APGD: projected gradient ascent whose step size adapts, after Croce and Hein.
//!
//! This is what the registered `apgd_ce`, `apgd_dlr`, `apgd_margin` and `apgd_t` share. The released code is followed
//! to the letter, its quirks included; each is named where it stands. Released: fra31/auto-attack a392200.

use crate::aim::{Aim, Loss, holds, ranked};
use crate::ball::sign;
use crate::error::{Error, Result};
use crate::walk::{Answer, Ask, Draw, Leave, Next, Site, Slope, Tape, Walk};
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// The share of an ascent's step that the new gradient decides; the rest is momentum.
pub(crate) const NEW_SHARE: f32 = 0.75;
/// The first step in radii.
pub(crate) const FIRST_STEP: f64 = 2.0;
/// The first window between checkpoints, by how much it shrinks and where it ends, in iterations of 100.
pub(crate) const WINDOW: [f64; 3] = [0.22, 0.03, 0.06];

/// How an ascent with an adaptive step size runs, whatever it ascends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveAscent {
    /// The number of iterations.
    pub iterations: NonZeroUsize,
    /// How many random starts (for each target, where there are targets), while an example stands.
    pub restarts: NonZeroUsize,
    /// The share of iterations between two checkpoints that must raise the loss.
    pub rho: f64,
    /// How many gradients are averaged at a point (expectation over transformation): 1 but for
    /// randomized classifiers.
    pub eot: NonZeroUsize,
}

/// As the released code sets them.
pub(crate) const USUAL: &str = "iterations = 100\nrestarts = 1\nrho = 0.75\neot = 1";

impl AdaptiveAscent {
    pub(crate) fn walk(&self, purpose: Purpose, loss: Rise, leave: Leave) -> Apgd {
        Apgd {
            purpose,
            loss,
            iterations: self.iterations.get(),
            restarts: self.restarts.get(),
            rho: self.rho,
            eot: self.eot.get(),
            leave,
        }
    }
}

/// An ascent on every example: once for each target and restart until one of them succeeds.
#[derive(Clone, Debug)]
pub(crate) struct Apgd {
    pub(crate) purpose: Purpose,
    pub(crate) loss: Rise,
    pub(crate) iterations: usize,
    pub(crate) restarts: usize,
    /// The share of a window's iterations that must raise the loss, or the step is halved.
    pub(crate) rho: f64,
    /// How many gradients are averaged (expectation over transformation).
    pub(crate) eot: usize,
    pub(crate) leave: Leave,
}

/// What is ascended.
#[derive(Clone, Debug)]
pub(crate) enum Rise {
    Untargeted(Loss),
    /// The targeted difference-of-logits ratio, toward the classes of these ranks in the logits of the
    /// clean image (the label has rank 1). Ranks that the model's classes do not reach are left out.
    Targeted(std::ops::Range<usize>),
}

/// Where an example is.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    /// Counts targets and, within each, restarts.
    run: usize,
    /// The target classes once the clean image has told them, and how many of them there are.
    targets: Vec<u64>,
    n_targets: usize,
    asked: bool,
    /// Iterations of this run that are done; the start is not one.
    iteration: usize,
    started: bool,
    x: Vec<f32>,
    x_old: Vec<f32>,
    x_best: Vec<f32>,
    gradient: Vec<f32>,
    gradient_best: Vec<f32>,
    /// Of the gradients at the present point, and how many they are.
    sum: Vec<f32>,
    summed: usize,
    step_size: f32,
    loss_best: f32,
    loss_best_at_checkpoint: f32,
    loss_before: f32,
    /// Iterations since the checkpoint that raised the loss, and all of them.
    rises: usize,
    since: usize,
    window: usize,
    halved: bool,
    fallen: bool,
    x_fallen: Vec<f32>,
}

impl Apgd {
    /// The targets' ranks, none for an untargeted ascent.
    pub(crate) fn ranks(&self) -> std::ops::Range<usize> {
        match &self.loss {
            Rise::Untargeted(_) => 0..0,
            Rise::Targeted(ranks) => ranks.clone(),
        }
    }

    pub(crate) fn iterations_of(&self, share: f64) -> usize {
        ((share * self.iterations as f64) as usize).max(1)
    }

    /// The place of the present target among them.
    fn target(&self, here: &Here) -> Option<usize> {
        matches!(self.loss, Rise::Targeted(_)).then(|| here.run / self.restarts)
    }

    /// A new start: uniform, scaled so that some pixel lies on the ball's border.
    fn begin_run(&self, site: &Site, here: &mut Here) -> Result<()> {
        let purpose = match self.target(here) {
            None => self.purpose,
            Some(target) => self.purpose.within(&(self.ranks().start + target).to_string()),
        };
        let draw = Draw { restart: (here.run % self.restarts) as u64, step: 0 };
        let t = site.uniform(purpose, draw, site.x_nat.len())?;
        let largest = t.iter().fold(0f32, |m, t| m.max(t.abs())) + 1e-12;
        let eps = site.eps.get() as f32;
        let start = |(i, t): (usize, &f32)| site.clip(i, site.x_nat[i] + eps * (t / largest));
        here.x = t.iter().enumerate().map(start).collect();
        here.x_old.copy_from_slice(&here.x);
        here.sum.fill(0.0);
        here.summed = 0;
        here.started = false;
        here.iteration = 0;
        here.step_size = (FIRST_STEP * site.eps.get()) as f32;
        here.rises = 0;
        here.since = 0;
        here.window = self.iterations_of(WINDOW[0]);
        // Quirk: the first checkpoint takes the step for reduced, so that only oscillation can halve it.
        here.halved = true;
        // Quirk: the first iteration's loss is compared with 0, not with the start's: the released code
        // looks one row before the first of a buffer of zeros, and finds the last.
        here.loss_before = 0.0;
        Ok(())
    }

    /// The next iterate into `x`.
    fn step(&self, site: &Site, here: &mut Here) {
        let new_share = if here.iteration == 0 { 1.0 } else { NEW_SHARE };
        let step_size = here.step_size;
        let points = here.x.iter_mut().zip(&mut here.x_old).zip(&here.gradient);
        for (((x, x_old), gradient), room) in points.zip(site.rooms()) {
            let momentum = *x - *x_old;
            *x_old = *x;
            let along = room.clip(*x + step_size * sign(*gradient));
            *x = room.clip(*x + (along - *x) * new_share + momentum * (1.0 - new_share));
        }
    }

    /// Halves the step of an ascent that oscillates or stands still, and goes back to its best point.
    fn checkpoint(&self, here: &mut Here) {
        let oscillates = here.rises as f64 <= self.rho * here.since as f64;
        let stands = !here.halved && here.loss_best_at_checkpoint >= here.loss_best;
        here.halved = oscillates || stands;
        here.loss_best_at_checkpoint = here.loss_best;
        if here.halved {
            here.step_size /= 2.0;
            // Quirk: the next momentum is from the iterate that is left to this point, a jump.
            here.x.copy_from_slice(&here.x_best);
            here.gradient.copy_from_slice(&here.gradient_best);
        }
        here.window = self.next_window(here.window);
        here.rises = 0;
        here.since = 0;
    }

    /// The window after one of this length.
    pub(crate) fn next_window(&self, window: usize) -> usize {
        let [_, shrink, least] = WINDOW;
        window.saturating_sub(self.iterations_of(shrink)).max(self.iterations_of(least))
    }

    /// Takes in the loss and gradient at the present point.
    fn evaluate(&self, here: &mut Here, loss: f32) {
        let count = self.eot as f32;
        if self.eot == 1 {
            here.gradient.copy_from_slice(&here.sum);
        } else {
            here.gradient.iter_mut().zip(&here.sum).for_each(|(g, sum)| *g = sum / count);
        }
        here.sum.fill(0.0);
        here.summed = 0;
        if !here.started {
            here.started = true;
            here.x_best.copy_from_slice(&here.x);
            here.gradient_best.copy_from_slice(&here.gradient);
            here.loss_best = loss;
            here.loss_best_at_checkpoint = loss;
            return;
        }
        here.iteration += 1;
        let before = if self.iterations == 1 { loss } else { here.loss_before };
        here.rises += usize::from(loss > before);
        here.loss_before = loss;
        if loss > here.loss_best {
            here.loss_best = loss;
            here.x_best.copy_from_slice(&here.x);
            here.gradient_best.copy_from_slice(&here.gradient);
        }
        here.since += 1;
        if here.since == here.window {
            self.checkpoint(here);
        }
    }

    /// How many runs there are on a model that has so many classes.
    fn runs(&self, here: &Here) -> usize {
        self.restarts * here.n_targets.max(1)
    }
}

impl Walk for Apgd {
    type Here = Here;

    fn start(&self, site: &Site) -> Result<Here> {
        let zeros = || vec![0.0; site.x_nat.len()];
        let mut here = Here {
            run: 0,
            targets: vec![0; self.ranks().len()],
            n_targets: 0,
            asked: false,
            iteration: 0,
            started: false,
            x: site.x_nat.clone(),
            x_old: zeros(),
            x_best: zeros(),
            gradient: zeros(),
            gradient_best: zeros(),
            sum: zeros(),
            summed: 0,
            step_size: 0.0,
            loss_best: 0.0,
            loss_best_at_checkpoint: 0.0,
            loss_before: 0.0,
            rises: 0,
            since: 0,
            window: 0,
            halved: true,
            fallen: false,
            x_fallen: site.x_nat.clone(),
        };
        if here.targets.is_empty() {
            here.asked = true;
            self.begin_run(site, &mut here)?;
        }
        Ok(here)
    }

    fn ask<'a>(&self, site: &'a Site, here: &'a Here) -> Ask<'a> {
        let loss = match &self.loss {
            _ if !here.asked => return Ask::Logits(&site.x_nat),
            Rise::Untargeted(loss) => *loss,
            Rise::Targeted(_) => Loss::DlrTargeted(here.targets[here.run / self.restarts] as u32),
        };
        Ask::Gradients(&here.x, vec![Aim { y: site.y, loss }])
    }

    fn hear(&self, site: &Site, here: &mut Here, answer: Answer) -> Result<Next> {
        if !here.asked {
            return self.choose_targets(site, here, &answer.logits);
        }
        let [Slope { loss, dx }] = &answer.slopes[..] else {
            return Err(Error::Search(format!(
                "{} gradients, expected the one asked for",
                answer.slopes.len()
            )));
        };
        let first = here.summed == 0;
        here.sum.iter_mut().zip(dx).for_each(|(sum, dx)| *sum = if first { *dx } else { *sum + dx });
        here.summed += 1;
        if here.summed < self.eot {
            return Ok(Next::Ask);
        }
        if !holds(&answer.logits, site.y) {
            if self.leave == Leave::AtOnce {
                return Ok(Next::Done(std::mem::take(&mut here.x)));
            }
            here.fallen = true;
            here.x_fallen.copy_from_slice(&here.x);
        }
        self.evaluate(here, *loss);
        if here.iteration < self.iterations {
            self.step(site, here);
            return Ok(Next::Ask);
        }
        here.run += 1;
        if here.fallen || here.run == self.runs(here) {
            return Ok(Next::Done(std::mem::take(&mut here.x_fallen))); // the image where nothing fell
        }
        self.begin_run(site, here)?;
        Ok(Next::Ask)
    }

    fn tape(&self, here: &mut Here, tape: &mut Tape) {
        tape.count("run", &mut here.run);
        tape.words("targets", &mut here.targets);
        tape.count("n_targets", &mut here.n_targets);
        tape.flag("asked", &mut here.asked);
        tape.count("iteration", &mut here.iteration);
        tape.flag("started", &mut here.started);
        tape.floats("x", &mut here.x);
        tape.floats("x_old", &mut here.x_old);
        tape.floats("x_best", &mut here.x_best);
        tape.floats("gradient", &mut here.gradient);
        tape.floats("gradient_best", &mut here.gradient_best);
        tape.floats("sum", &mut here.sum);
        tape.count("summed", &mut here.summed);
        tape.float("step_size", &mut here.step_size);
        tape.float("loss_best", &mut here.loss_best);
        tape.float("loss_best_at_checkpoint", &mut here.loss_best_at_checkpoint);
        tape.float("loss_before", &mut here.loss_before);
        tape.count("rises", &mut here.rises);
        tape.count("since", &mut here.since);
        tape.count("window", &mut here.window);
        tape.flag("halved", &mut here.halved);
        tape.flag("fallen", &mut here.fallen);
        tape.floats("x_fallen", &mut here.x_fallen);
    }
}

impl Apgd {
    /// The clean image is misclassified, or tells its targets.
    fn choose_targets(&self, site: &Site, here: &mut Here, logits: &[f64]) -> Result<Next> {
        if !holds(logits, site.y) && self.leave == Leave::AtOnce {
            return Ok(Next::Done(site.x_nat.clone()));
        }
        let classes = ranked(logits);
        for (target, rank) in here.targets.iter_mut().zip(self.ranks().take_while(|r| *r <= classes.len())) {
            *target = classes[rank - 1].into();
            here.n_targets += 1;
        }
        here.asked = true;
        self.begin_run(site, here)?;
        Ok(Next::Ask)
    }
}
