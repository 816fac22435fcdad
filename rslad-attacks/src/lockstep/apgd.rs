//! APGD on a batch: see [`apgd`](crate::apgd), whose names these are.

use super::loss::{self, Together};
use super::masks::{and, holds, largest, not, or, over, pick};
use super::{Fields, Program};
use crate::aim::Loss;
use crate::apgd::{Apgd, FIRST_STEP, NEW_SHARE, Rise, WINDOW};
use crate::error::Result;
use crate::pixels::sign;
use crate::problem::Problem;
use candle_core::{DType, Tensor};
use rslad_models::Classifier;

/// Where the batch is.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    run: usize,
    asked: usize,
    /// `[n, targets]`, u32, once the clean images have told them.
    targets: Tensor,
    n_targets: usize,
    iteration: usize,
    started: usize,
    since: usize,
    window: usize,
    x: Tensor,
    x_old: Tensor,
    x_best: Tensor,
    gradient: Tensor,
    gradient_best: Tensor,
    // One number for each example.
    step_size: Tensor,
    loss_best: Tensor,
    loss_best_at_checkpoint: Tensor,
    loss_before: Tensor,
    rises: Tensor,
    halved: Tensor,
    fallen: Tensor,
    x_fallen: Tensor,
}

impl Apgd {
    fn begin_together(&self, problem: &Problem, here: &mut Here) -> Result<()> {
        let purpose = match &self.loss {
            Rise::Untargeted(_) => self.purpose,
            Rise::Targeted(ranks) => {
                self.purpose.within(&(ranks.start + here.run / self.restarts).to_string())
            }
        };
        let ball = problem.ball();
        let t = problem.uniform(purpose, ((here.run % self.restarts) as u64) << 32)?;
        let t = t.broadcast_div(&over(&(largest(&t)? + 1e-12)?, 4)?)?;
        here.x = ball.nearest((ball.x_nat() + (t * ball.eps().get())?)?)?;
        here.x_old = here.x.clone();
        here.started = 0;
        here.iteration = 0;
        here.since = 0;
        here.window = self.iterations_of(WINDOW[0]);
        let each = |value: f64| Tensor::full(value as f32, problem.ids().len(), here.x.device());
        here.step_size = each(FIRST_STEP * ball.eps().get())?;
        here.rises = each(0.0)?;
        here.halved = each(1.0)?.to_dtype(DType::U8)?;
        here.loss_before = each(0.0)?;
        Ok(())
    }

    fn objective(&self, problem: &Problem, here: &Here) -> Result<Together> {
        let y = problem.y().clone();
        Ok(match &self.loss {
            Rise::Untargeted(loss) => Together { loss: *loss, y, class: None },
            Rise::Targeted(_) => {
                let class = here.targets.narrow(1, here.run / self.restarts, 1)?.squeeze(1)?.contiguous()?;
                Together { loss: Loss::DlrTargeted(0), y, class: Some(class) }
            }
        })
    }

    /// Takes in the losses and gradients at the present points.
    fn evaluate_together(&self, here: &mut Here, loss: Tensor, gradient: Tensor) -> Result<()> {
        here.gradient = gradient;
        if here.started == 0 {
            here.started = 1;
            here.x_best = here.x.clone();
            here.gradient_best = here.gradient.clone();
            here.loss_best = loss.clone();
            here.loss_best_at_checkpoint = loss;
            return Ok(());
        }
        here.iteration += 1;
        let before = if self.iterations == 1 { &loss } else { &here.loss_before };
        here.rises = (&here.rises + loss.gt(before)?.to_dtype(DType::F32)?)?;
        let better = loss.gt(&here.loss_best)?;
        here.loss_best = better.where_cond(&loss, &here.loss_best)?;
        here.x_best = pick(&better, &here.x, &here.x_best)?;
        here.gradient_best = pick(&better, &here.gradient, &here.gradient_best)?;
        here.loss_before = loss;
        here.since += 1;
        if here.since == here.window {
            self.checkpoint_together(here)?;
        }
        Ok(())
    }

    fn checkpoint_together(&self, here: &mut Here) -> Result<()> {
        // Rises are whole numbers, so the bound may be one too.
        let oscillates = here.rises.le((self.rho * here.since as f64).floor() as f32)?;
        let stands = and(&not(&here.halved)?, &here.loss_best_at_checkpoint.ge(&here.loss_best)?)?;
        here.halved = or(&oscillates, &stands)?;
        here.loss_best_at_checkpoint = here.loss_best.clone();
        here.step_size = here.halved.where_cond(&(&here.step_size * 0.5)?, &here.step_size)?;
        here.x = pick(&here.halved, &here.x_best, &here.x)?;
        here.gradient = pick(&here.halved, &here.gradient_best, &here.gradient)?;
        here.window = self.next_window(here.window);
        here.rises = here.rises.zeros_like()?;
        here.since = 0;
        Ok(())
    }

    /// The next iterates into `x`.
    fn step_together(&self, problem: &Problem, here: &mut Here) -> Result<()> {
        let ball = problem.ball();
        let new_share = f64::from(if here.iteration == 0 { 1.0 } else { NEW_SHARE });
        let momentum = (&here.x - &here.x_old)?;
        let along = sign(&here.gradient)?.broadcast_mul(&over(&here.step_size, 4)?)?;
        let along = ball.nearest((&here.x + along)?)?;
        let moved = ((&here.x + ((along - &here.x)? * new_share)?)? + (momentum * (1.0 - new_share))?)?;
        here.x_old = std::mem::replace(&mut here.x, ball.nearest(moved)?);
        Ok(())
    }
}

impl Program for Apgd {
    type Here = Here;

    fn start(&self, problem: &Problem) -> Result<Here> {
        let (x_nat, n) = (problem.ball().x_nat(), problem.ids().len());
        let each = Tensor::zeros(n, DType::F32, x_nat.device())?;
        let none = each.to_dtype(DType::U8)?;
        let targets = Tensor::zeros((n, self.ranks().len().max(1)), DType::U32, x_nat.device())?;
        let mut here = Here {
            run: 0,
            asked: 0,
            targets,
            n_targets: 0,
            iteration: 0,
            started: 0,
            since: 0,
            window: 0,
            x: x_nat.clone(),
            x_old: x_nat.clone(),
            x_best: x_nat.clone(),
            gradient: x_nat.clone(),
            gradient_best: x_nat.clone(),
            step_size: each.clone(),
            loss_best: each.clone(),
            loss_best_at_checkpoint: each.clone(),
            loss_before: each.clone(),
            rises: each,
            halved: none.clone(),
            fallen: none,
            x_fallen: x_nat.clone(),
        };
        if let Rise::Untargeted(_) = self.loss {
            self.begin_together(problem, &mut here)?;
        }
        Ok(here)
    }

    fn step(&self, problem: &Problem, here: &mut Here, f: &dyn Classifier) -> Result<Option<Tensor>> {
        let y = problem.y();
        if here.asked == 0 {
            here.asked = 1;
            let objective = match &self.loss {
                Rise::Untargeted(loss) => *loss,
                Rise::Targeted(_) => Loss::DlrTargeted(0),
            };
            loss::check(objective, y, f.n_classes())?;
            if let Rise::Targeted(ranks) = &self.loss {
                let logits = f.logits(problem.ball().x_nat())?;
                here.fallen = not(&holds(&logits, y)?)?;
                (here.targets, here.n_targets) = super::targets(&logits, ranks)?;
                self.begin_together(problem, here)?;
                return Ok(None);
            }
        }
        let objective = self.objective(problem, here)?;
        let mut found = f.gradient(&here.x, &objective)?;
        for _ in 1..self.eot {
            let next = f.gradient(&here.x, &objective)?;
            found = rslad_models::Gradient { dx: (found.dx + &next.dx)?, ..next };
        }
        if self.eot > 1 {
            found.dx = found.dx.broadcast_div(&Tensor::new(self.eot as f32, here.x.device())?)?;
        }
        let falls = and(&not(&holds(&found.logits, y)?)?, &not(&here.fallen)?)?;
        here.x_fallen = pick(&falls, &here.x, &here.x_fallen)?;
        here.fallen = or(&here.fallen, &falls)?;
        self.evaluate_together(here, found.loss.to_dtype(DType::F32)?, found.dx.to_dtype(DType::F32)?)?;
        if here.iteration < self.iterations {
            self.step_together(problem, here)?;
            return Ok(None);
        }
        here.run += 1;
        if here.run == self.restarts * here.n_targets.max(1) {
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
            ("started", &mut here.started),
            ("since", &mut here.since),
            ("window", &mut here.window),
        ] {
            fields.count(name, count);
        }
        for (name, tensor) in [
            ("targets", &mut here.targets),
            ("x", &mut here.x),
            ("x_old", &mut here.x_old),
            ("x_best", &mut here.x_best),
            ("gradient", &mut here.gradient),
            ("gradient_best", &mut here.gradient_best),
            ("step_size", &mut here.step_size),
            ("loss_best", &mut here.loss_best),
            ("loss_best_at_checkpoint", &mut here.loss_best_at_checkpoint),
            ("loss_before", &mut here.loss_before),
            ("rises", &mut here.rises),
            ("halved", &mut here.halved),
            ("fallen", &mut here.fallen),
            ("x_fallen", &mut here.x_fallen),
        ] {
            fields.tensor(name, tensor);
        }
    }
}
