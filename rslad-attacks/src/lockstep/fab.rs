//! FAB on a batch: see [`fab`](crate::fab), whose names these are.

use super::loss::{self, Together};
use super::masks::{and, between, holds, largest, not, or, over, pick, sum};
use super::{Fields, Program};
use crate::aim::Loss;
use crate::error::Result;
use crate::fab::{Boundary, FabWalk, TOGETHER};
use crate::problem::Problem;
use candle_core::{DType, Tensor};
use rslad_models::{Classifier, Gradient, Objective};

/// Where the batch is.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    run: usize,
    asked: usize,
    /// `[n, targets]`, u32, once the clean images have told them.
    targets: Tensor,
    n_targets: usize,
    iteration: usize,
    x: Tensor,
    /// The nearest misclassified points of this run, and how far they are, `[n]`.
    norm: Tensor,
    x_found: Tensor,
    fallen: Tensor,
    x_fallen: Tensor,
}

/// Hyperplanes `w . v = b`, one for each example: `[n, C, H, W]` in f32 and `[n]` in f64.
struct Planes {
    w: Tensor,
    b: Tensor,
}

/// Newton's iterations for the threshold of a projection. A walk stops when the set of pixels at their side does,
/// which takes two or three; one that is not there yet falls short of the plane, and no more.
const PASSES: usize = 12;

impl FabWalk {
    fn begin_together(&self, problem: &Problem, here: &mut Here) -> Result<()> {
        let ball = problem.ball();
        here.x = ball.x_nat().clone();
        let restart = here.run % self.restarts();
        if restart > 0 {
            let purpose = self.purpose.within(&(here.run / self.restarts()).to_string());
            let t = problem.uniform(purpose, (restart as u64) << 32)?;
            let away = (&t * ball.eps().get())?.broadcast_div(&over(&largest(&t)?, 4)?)?;
            here.x = (ball.x_nat() + (away * 0.5)?)?.clamp(0f32, 1f32)?;
        }
        here.iteration = 0;
        here.norm = Tensor::full(f32::INFINITY, here.norm.dims(), here.x.device())?;
        here.x_found = ball.x_nat().clone();
        Ok(())
    }

    /// The classes whose boundaries matter now, `[n]` each.
    fn faced_together(&self, problem: &Problem, here: &Here, n_classes: usize) -> Result<Vec<Tensor>> {
        let y = problem.y();
        match self.boundary {
            Boundary::Targeted(_) => {
                let class = here.targets.narrow(1, here.run / self.restarts(), 1)?.squeeze(1)?;
                Ok(vec![class.contiguous()?])
            }
            // All but the label, which has another place in each row.
            Boundary::Nearest => {
                let other = |nth: u32| -> Result<Tensor> {
                    let nths = Tensor::full(nth, y.dims(), y.device())?;
                    Ok((&nths + y.le(&nths)?.to_dtype(DType::U32)?)?)
                };
                (0..n_classes as u32 - 1).map(other).collect()
            }
        }
    }

    /// The nearest boundary of each example in the linear view.
    fn nearest_together(&self, problem: &Problem, here: &Here, f: &dyn Classifier) -> Result<Planes> {
        let mut nearest: Option<(Tensor, Tensor, Tensor)> = None;
        for classes in self.faced_together(problem, here, f.n_classes())?.chunks(TOGETHER) {
            let lead = |class: &Tensor| {
                let y = problem.y().clone();
                Together { loss: Loss::Lead(0), y, class: Some(class.clone()) }
            };
            let leads: Vec<Together> = classes.iter().map(lead).collect();
            let leads: Vec<&dyn Objective> = leads.iter().map(|lead| lead as &dyn Objective).collect();
            for Gradient { loss, dx, .. } in f.gradients(&here.x, &leads)? {
                let lead = loss.to_dtype(DType::F32)?;
                let size = (sum(&dx.abs()?)? + 1e-12)?;
                let distance = (lead.to_dtype(DType::F64)?.abs()? / size)?.to_dtype(DType::F32)?;
                nearest = Some(match nearest {
                    None => (distance, lead, dx),
                    Some((least, of_least, normal)) => {
                        let nearer = or(&distance.lt(&least)?, &least.eq(f32::INFINITY)?)?;
                        let normal = pick(&nearer, &dx, &normal)?;
                        (nearer.where_cond(&distance, &least)?, nearer.where_cond(&lead, &of_least)?, normal)
                    }
                });
            }
        }
        let (_, lead, w) = nearest.ok_or_else(|| {
            crate::Error::Search("a model of one class, expected another class to go to".to_owned())
        })?;
        let b = (dot(&w, &here.x)? - lead.to_dtype(DType::F64)?)?;
        Ok(Planes { w, b })
    }

    /// The next points: between the projections of the points and of the images, a little beyond them.
    fn step_together(&self, problem: &Problem, here: &mut Here, planes: &Planes) -> Result<()> {
        let x_nat = problem.ball().x_nat();
        let (here_to, image_to) = (planes.project(&here.x)?, planes.project(x_nat)?);
        let length = |d: &Tensor| largest(d)?.maximum(1e-8f32);
        let (a1, a2) = (length(&here_to)?, length(&image_to)?);
        let alpha = (&a1 / (&a1 + a2)?)?.clamp(0f32, self.search.alpha_max as f32)?;
        let eta = self.search.eta;
        let own = (&here.x + (here_to * eta)?)?.broadcast_mul(&over(&alpha.affine(-1.0, 1.0)?, 4)?)?;
        let image = (x_nat + (image_to * eta)?)?.broadcast_mul(&over(&alpha, 4)?)?;
        let mixed = (own + image)?;
        let finite = mixed.eq(&mixed)?.where_cond(&mixed, x_nat)?; // NaN equals nothing
        here.x = finite.clamp(0f32, 1f32)?;
        Ok(())
    }

    /// Takes in which points are misclassified.
    fn probe_together(&self, problem: &Problem, here: &mut Here, logits: &Tensor) -> Result<()> {
        let ball = problem.ball();
        let beyond = not(&holds(logits, problem.y())?)?;
        let away = (&here.x - ball.x_nat())?;
        let norm = largest(&away)?;
        let nearer = and(&beyond, &norm.lt(&here.norm)?)?;
        here.norm = nearer.where_cond(&norm, &here.norm)?;
        here.x_found = pick(&nearer, &here.x, &here.x_found)?;
        here.x = pick(&beyond, &(ball.x_nat() + (away * self.search.beta)?)?, &here.x)?;
        let [lower, _, upper] = ball.values();
        let inside = and(&beyond, &between(&here.x_found, lower, upper)?)?;
        let falls = and(&inside, &not(&here.fallen)?)?;
        here.x_fallen = pick(&falls, &here.x_found, &here.x_fallen)?;
        here.fallen = or(&here.fallen, &falls)?;
        Ok(())
    }
}

fn dot(a: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    sum(&(a.to_dtype(DType::F64)? * b.to_dtype(DType::F64)?)?)
}

impl Planes {
    /// As the walks' own [`project`](crate::fab::projection::project).
    fn project(&self, t: &Tensor) -> Result<Tensor> {
        let w = &self.w;
        let excess = (dot(w, t)? - &self.b)?;
        let up = excess.ge(0f64)?.to_dtype(DType::F32)?.affine(2.0, -1.0)?; // 1 or -1
        let side = w.broadcast_mul(&over(&up, 4)?)?.lt(0f32)?.to_dtype(DType::F32)?;
        let rooms = (&side - t)?.abs()?;
        let lambda = threshold(&w.abs()?, &rooms, &excess.abs()?)?.to_dtype(DType::F32)?;
        let lambda = over(&lambda, 4)?.broadcast_as(rooms.shape())?.contiguous()?;
        let moved = (side.affine(2.0, -1.0)? * rooms.minimum(&lambda)?)?;
        Ok(w.eq(0f32)?.where_cond(&moved.zeros_like()?, &moved)?)
    }
}

/// The smallest lambda of each example with `sum |w| min(lambda, room) >= need`; infinity where there is none.
fn threshold(w: &Tensor, rooms: &Tensor, need: &Tensor) -> candle_core::Result<Tensor> {
    let (w, rooms) = (w.to_dtype(DType::F64)?, rooms.to_dtype(DType::F64)?);
    let full = (&w * &rooms)?;
    let mut lambda = need.zeros_like()?;
    let infinity = Tensor::full(f64::INFINITY, need.dims(), need.device())?;
    for _ in 0..PASSES {
        let at_side = rooms.broadcast_le(&over(&lambda, 4)?)?;
        let moved = sum(&at_side.where_cond(&full, &full.zeros_like()?)?)?;
        let free = sum(&at_side.where_cond(&w.zeros_like()?, &w)?)?;
        let next = ((need - moved)? / &free)?;
        let next = next.eq(&next)?.where_cond(&next, &lambda)?.maximum(&lambda)?;
        lambda = free.le(0f64)?.where_cond(&infinity, &next)?;
    }
    Ok(lambda)
}

impl Program for FabWalk {
    type Here = Here;

    fn start(&self, problem: &Problem) -> Result<Here> {
        let (x_nat, n) = (problem.ball().x_nat(), problem.ids().len());
        let each = Tensor::zeros(n, DType::F32, x_nat.device())?;
        Ok(Here {
            run: 0,
            asked: 0,
            targets: Tensor::zeros((n, self.ranks().len().max(1)), DType::U32, x_nat.device())?,
            n_targets: 0,
            iteration: 0,
            x: x_nat.clone(),
            norm: each.clone(),
            x_found: x_nat.clone(),
            fallen: each.to_dtype(DType::U8)?,
            x_fallen: x_nat.clone(),
        })
    }

    fn step(&self, problem: &Problem, here: &mut Here, f: &dyn Classifier) -> Result<Option<Tensor>> {
        let runs = |here: &Here| match self.boundary {
            Boundary::Nearest => self.restarts(),
            Boundary::Targeted(_) => self.restarts() * here.n_targets,
        };
        if here.asked == 0 {
            here.asked = 1;
            loss::check(Loss::Lead(0), problem.y(), f.n_classes())?;
            let logits = f.logits(problem.ball().x_nat())?;
            here.fallen = not(&holds(&logits, problem.y())?)?;
            if let Boundary::Targeted(ranks) = &self.boundary {
                (here.targets, here.n_targets) = super::targets(&logits, ranks)?;
            }
            if runs(here) == 0 {
                return Ok(Some(here.x_fallen.clone()));
            }
            self.begin_together(problem, here)?;
            return Ok(None);
        }
        let planes = self.nearest_together(problem, here, f)?;
        self.step_together(problem, here, &planes)?;
        let logits = f.logits(&here.x)?;
        self.probe_together(problem, here, &logits)?;
        here.iteration += 1;
        if here.iteration < self.search.iterations.get() {
            return Ok(None);
        }
        here.run += 1;
        if here.run == runs(here) {
            return Ok(Some(here.x_fallen.clone()));
        }
        self.begin_together(problem, here)?;
        Ok(None)
    }

    fn fields(&self, here: &mut Here, fields: &mut Fields) {
        for (name, count) in [
            ("run", &mut here.run),
            ("asked", &mut here.asked),
            ("n_targets", &mut here.n_targets),
            ("iteration", &mut here.iteration),
        ] {
            fields.count(name, count);
        }
        for (name, tensor) in [
            ("targets", &mut here.targets),
            ("x", &mut here.x),
            ("norm", &mut here.norm),
            ("x_found", &mut here.x_found),
            ("fallen", &mut here.fallen),
            ("x_fallen", &mut here.x_fallen),
        ] {
            fields.tensor(name, tensor);
        }
    }
}
