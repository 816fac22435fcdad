//! FAB: the fast adaptive boundary attack, which looks for the nearest misclassified point.
//!
//! This is what the registered `fab` and `fab_t` share. Each iteration takes the classifier for linear,
//! projects the point and the image onto the decision boundary within [0, 1], and goes to a mixture of
//! both, a little too far. The projection is arithmetic on slices. Released: fra31/auto-attack a392200.

pub(crate) mod projection;

use crate::aim::{Aim, Loss, holds, ranked};
use crate::error::Result;
use crate::walk::{Answer, Ask, Draw, Leave, Next, Site, Slope, Tape, Walk};
use projection::{Plane, project};
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// How a search along the decision boundary runs, whichever boundary it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundarySearch {
    /// The number of iterations.
    pub iterations: NonZeroUsize,
    /// How many starts (for each target, where there are targets): the image, then random ones.
    pub restarts: NonZeroUsize,
    /// The largest weight of the image's own projection in an iteration.
    pub alpha_max: f64,
    /// By how much a projection overshoots, 1 being not at all.
    pub eta: f64,
    /// What share of the way from the image a misclassified point keeps before the next iteration.
    pub beta: f64,
}

impl BoundarySearch {
    pub(crate) fn walk(&self, purpose: Purpose, boundary: Boundary, leave: Leave) -> FabWalk {
        FabWalk { purpose, boundary, search: self.clone(), leave, reach: Reach::Ball }
    }
}

/// How many classes' boundaries are asked about at once: one forward serves so many ways back, and all of their
/// gradients are held until the answer is heard.
pub(crate) const TOGETHER: usize = 16;

/// A walk along the boundary for each target and restart, until one finds a point in the ball.
#[derive(Clone, Debug)]
pub(crate) struct FabWalk {
    pub(crate) purpose: Purpose,
    pub(crate) boundary: Boundary,
    pub(crate) search: BoundarySearch,
    pub(crate) leave: Leave,
    pub(crate) reach: Reach,
}

/// Which boundary of the label's region is walked along.
#[derive(Clone, Debug)]
pub(crate) enum Boundary {
    /// The nearest in the linear view, which takes a gradient for each class.
    Nearest,
    /// Those to the classes of these ranks in the logits of the clean image, one after another.
    Targeted(std::ops::Range<usize>),
}

/// Which points count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those in the ball.
    Ball,
    /// All: the nearest comes back, wherever it is.
    Anywhere,
}

/// Where an example is.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    run: usize,
    targets: Vec<u64>,
    n_targets: usize,
    stage: Stage,
    iteration: usize,
    /// How many classes the model has, once the clean image has told.
    n_classes: usize,
    /// The first class whose boundary is not known yet.
    class: usize,
    x: Vec<f32>,
    /// The nearest boundary so far: its distance, lead and gradient.
    distance: f32,
    lead: f32,
    normal: Vec<f32>,
    /// The nearest misclassified point of this run, and how far it is.
    norm: f32,
    x_found: Vec<f32>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Clean,
    Gradient,
    Probe,
}

impl FabWalk {
    pub(crate) fn ranks(&self) -> std::ops::Range<usize> {
        match &self.boundary {
            Boundary::Nearest => 0..0,
            Boundary::Targeted(ranks) => ranks.clone(),
        }
    }

    fn begin_run(&self, site: &Site, here: &mut Here) -> Result<()> {
        here.x.copy_from_slice(&site.x_nat);
        let restart = (here.run % self.restarts()) as u64;
        if restart > 0 {
            // The released code bounds this start by the nearest point found in this run: none so far.
            let target = here.run / self.restarts();
            let purpose = self.purpose.within(&target.to_string());
            let t = site.uniform(purpose, Draw { restart, step: 0 }, site.x_nat.len())?;
            let largest = t.iter().fold(0f32, |m, t| m.max(t.abs()));
            let eps = site.eps.get() as f32;
            let start = |(x, t): (&f32, f32)| (x + eps * t / largest * 0.5).clamp(0.0, 1.0);
            here.x = site.x_nat.iter().zip(t).map(start).collect();
        }
        here.iteration = 0;
        here.norm = f32::INFINITY;
        here.x_found.copy_from_slice(&site.x_nat);
        self.begin_iteration(here);
        Ok(())
    }

    fn begin_iteration(&self, here: &mut Here) {
        here.stage = Stage::Gradient;
        here.distance = f32::INFINITY;
        here.class = match &self.boundary {
            Boundary::Nearest => 0,
            Boundary::Targeted(_) => here.targets[here.run / self.restarts()] as usize,
        };
    }

    fn runs(&self, here: &Here) -> usize {
        match self.boundary {
            Boundary::Nearest => self.restarts(),
            Boundary::Targeted(_) => self.restarts() * here.n_targets,
        }
    }

    pub(crate) fn restarts(&self) -> usize {
        self.search.restarts.get()
    }

    /// The classes whose boundaries are asked about.
    fn faced(&self, site: &Site, here: &Here) -> Vec<usize> {
        match self.boundary {
            Boundary::Targeted(_) => vec![here.class],
            Boundary::Nearest => {
                let others = (here.class..here.n_classes).filter(|class| *class != site.y as usize);
                others.take(TOGETHER).collect()
            }
        }
    }

    /// Takes in the boundaries that were asked about; whether all that matter are known.
    fn boundaries(&self, site: &Site, here: &mut Here, slopes: Vec<Slope>) -> bool {
        here.class = self.faced(site, here).last().map_or(here.n_classes, |class| class + 1);
        for Slope { loss: lead, dx } in slopes {
            let size: f64 = dx.iter().map(|g| f64::from(g.abs())).sum();
            let distance = (f64::from(lead.abs()) / (1e-12 + size)) as f32;
            if distance < here.distance || here.distance == f32::INFINITY {
                (here.distance, here.lead, here.normal) = (distance, lead, dx);
            }
        }
        matches!(self.boundary, Boundary::Targeted(_)) || self.faced(site, here).is_empty()
    }

    /// The next point: between the projections of the point and of the image, a little beyond them.
    fn step(&self, site: &Site, here: &mut Here) {
        let w = &here.normal;
        let dot: f64 = w.iter().zip(&here.x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        let plane = Plane { w, b: dot - f64::from(here.lead) };
        let (here_to, image_to) = (project(&here.x, &plane), project(&site.x_nat, &plane));
        let length = |d: &[f32]| d.iter().fold(1e-8f32, |m, d| m.max(d.abs()));
        let (a1, a2) = (length(&here_to), length(&image_to));
        let alpha = (a1 / (a1 + a2)).clamp(0.0, self.search.alpha_max as f32);
        let eta = self.search.eta as f32;
        let moves = here_to.iter().zip(&image_to).zip(&site.x_nat);
        for (x, ((d1, d2), x_nat)) in here.x.iter_mut().zip(moves) {
            let mixed = (*x + eta * d1) * (1.0 - alpha) + (x_nat + d2 * eta) * alpha;
            *x = if mixed.is_nan() { *x_nat } else { mixed.clamp(0.0, 1.0) };
        }
        here.stage = Stage::Probe;
    }

    /// Takes in whether the point is misclassified. True where the search may end at once.
    fn probe(&self, site: &Site, here: &mut Here, logits: &[f64]) -> bool {
        here.iteration += 1;
        if holds(logits, site.y) {
            return false;
        }
        let far = |(x, x_nat): (&f32, &f32)| (x - x_nat).abs();
        let norm = here.x.iter().zip(&site.x_nat).map(far).fold(0f32, f32::max);
        if norm < here.norm {
            here.norm = norm;
            here.x_found.copy_from_slice(&here.x);
        }
        let beta = self.search.beta as f32;
        here.x.iter_mut().zip(&site.x_nat).for_each(|(x, x_nat)| *x = x_nat + (*x - x_nat) * beta);
        self.leave == Leave::AtOnce && self.reach == Reach::Ball && site.contains(&here.x_found)
    }

    /// The point that a run, or the search, comes back with.
    fn found(&self, site: &Site, here: &Here) -> Option<Vec<f32>> {
        let counts = here.norm.is_finite() && (self.reach == Reach::Anywhere || site.contains(&here.x_found));
        counts.then(|| here.x_found.clone())
    }

    fn choose_targets(&self, site: &Site, here: &mut Here, logits: &[f64]) -> Result<Next> {
        let classes = ranked(logits);
        here.n_classes = classes.len();
        for (target, rank) in here.targets.iter_mut().zip(self.ranks().take_while(|r| *r <= classes.len())) {
            *target = classes[rank - 1].into();
            here.n_targets += 1;
        }
        if !holds(logits, site.y) || self.runs(here) == 0 {
            return Ok(Next::Done(site.x_nat.clone()));
        }
        self.begin_run(site, here)?;
        Ok(Next::Ask)
    }
}

impl Walk for FabWalk {
    type Here = Here;

    fn start(&self, site: &Site) -> Result<Here> {
        Ok(Here {
            run: 0,
            targets: vec![0; self.ranks().len()],
            n_targets: 0,
            stage: Stage::Clean,
            iteration: 0,
            n_classes: 0,
            class: 0,
            x: site.x_nat.clone(),
            distance: f32::INFINITY,
            lead: 0.0,
            normal: vec![0.0; site.x_nat.len()],
            norm: f32::INFINITY,
            x_found: site.x_nat.clone(),
        })
    }

    fn ask<'a>(&self, site: &'a Site, here: &'a Here) -> Ask<'a> {
        match here.stage {
            Stage::Clean => Ask::Logits(&site.x_nat),
            Stage::Probe => Ask::Logits(&here.x),
            Stage::Gradient => {
                let aim = |class: usize| Aim { y: site.y, loss: Loss::Lead(class as u32) };
                Ask::Gradients(&here.x, self.faced(site, here).into_iter().map(aim).collect())
            }
        }
    }

    fn hear(&self, site: &Site, here: &mut Here, answer: Answer) -> Result<Next> {
        match here.stage {
            Stage::Clean => return self.choose_targets(site, here, &answer.logits),
            Stage::Gradient => {
                if self.boundaries(site, here, answer.slopes) {
                    self.step(site, here);
                }
                return Ok(Next::Ask);
            }
            Stage::Probe => {}
        }
        let at_once = self.probe(site, here, &answer.logits);
        if !at_once && here.iteration < self.search.iterations.get() {
            self.begin_iteration(here);
            return Ok(Next::Ask);
        }
        here.run += 1;
        match self.found(site, here) {
            Some(x) => return Ok(Next::Done(x)),
            None if here.run == self.runs(here) => return Ok(Next::Done(site.x_nat.clone())),
            None => self.begin_run(site, here)?,
        }
        Ok(Next::Ask)
    }

    fn tape(&self, here: &mut Here, tape: &mut Tape) {
        tape.count("run", &mut here.run);
        tape.words("targets", &mut here.targets);
        tape.count("n_targets", &mut here.n_targets);
        let mut stage = here.stage as usize;
        tape.count("stage", &mut stage);
        here.stage = [Stage::Clean, Stage::Gradient, Stage::Probe][stage.min(2)];
        tape.count("iteration", &mut here.iteration);
        tape.count("n_classes", &mut here.n_classes);
        tape.count("class", &mut here.class);
        tape.floats("x", &mut here.x);
        tape.float("distance", &mut here.distance);
        tape.float("lead", &mut here.lead);
        tape.floats("normal", &mut here.normal);
        tape.float("norm", &mut here.norm);
        tape.floats("x_found", &mut here.x_found);
    }
}
