//! Square on a batch: see [`square`](crate::attacks::square), whose names these are.

use super::loss;
use super::masks::{and, not, or, pick};
use super::{Fields, Program};
use crate::aim::Loss;
use crate::attacks::square::{PURPOSE, Squares};
use crate::error::Result;
use crate::losses;
use crate::problem::Problem;
use crate::walk::Draw;
use candle_core::{DType, Tensor};
use rslad_models::Classifier;

/// Where the batch is.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    restart: usize,
    tried: usize,
    started: usize,
    x: Tensor,
    x_best: Tensor,
    /// Of the best points, `[n]` in f64.
    margin: Tensor,
    fallen: Tensor,
    x_fallen: Tensor,
}

impl Squares {
    /// Vertical stripes of random color.
    fn begin_together(&self, problem: &Problem, here: &mut Here) -> Result<()> {
        let (n, c, _, w) = problem.ball().x_nat().dims4()?;
        let draw = Draw { restart: here.restart as u64, step: 0 };
        let colors = self.colors(problem, draw, c * w, 0, 1.0)?.reshape((n, c, 1, w))?;
        here.x = problem.ball().nearest(problem.ball().x_nat().broadcast_add(&colors)?)?;
        here.x_best = here.x.clone();
        here.tried = 0;
        here.started = 0;
        Ok(())
    }

    /// The signs of some draws behind the first `skip`, times so many radii: `[n, count]`.
    fn colors(&self, problem: &Problem, draw: Draw, count: usize, skip: usize, radii: f64) -> Result<Tensor> {
        let drawn = problem.numbers(PURPOSE, draw, skip + count)?;
        let size = (radii * problem.ball().eps().get()) as f32;
        let colors: Vec<f32> =
            drawn.iter().flat_map(|row| row[skip..].iter().map(|u| u.signum() * size)).collect();
        Ok(Tensor::from_vec(colors, (drawn.len(), count), problem.y().device())?)
    }

    /// The best points with another square on each.
    fn propose_together(&self, problem: &Problem, here: &mut Here) -> Result<()> {
        let (n, c, h, w) = problem.ball().x_nat().dims4()?;
        let side = self.square.side(here.tried, [c, h, w]);
        let draw = Draw { restart: here.restart as u64, step: here.tried as u64 + 1 };
        let colors = self.colors(problem, draw, c, 2, 2.0)?.reshape((n, c, 1, 1))?;
        let drawn = problem.numbers(PURPOSE, draw, 2)?;
        // Quirk: the last place is never drawn, so the last row and column are covered less often.
        let line = |which: usize, length: usize, shape: [usize; 4]| -> Result<Tensor> {
            let first = |row: &Vec<f32>| ((0.5 + 0.5 * row[which]) * (length - side) as f32) as usize;
            let covered = |row: &Vec<f32>| {
                let first = first(row);
                (0..length).map(move |i| f32::from(u8::from((first..first + side).contains(&i))))
            };
            let lines: Vec<f32> = drawn.iter().flat_map(covered).collect();
            Ok(Tensor::from_vec(lines, &shape[..], problem.y().device())?)
        };
        let square = line(0, h, [n, 1, h, 1])?.broadcast_mul(&line(1, w, [n, 1, 1, w])?)?; // [n, 1, h, w]
        let change = square.broadcast_mul(&colors)?; // [n, c, h, w]
        here.x = problem.ball().nearest((&here.x_best + change)?)?;
        Ok(())
    }
}

impl Program for Squares {
    type Here = Here;

    fn start(&self, problem: &Problem) -> Result<Here> {
        let (x_nat, n) = (problem.ball().x_nat(), problem.ids().len());
        let margin = Tensor::zeros(n, DType::F64, x_nat.device())?;
        let mut here = Here {
            restart: 0,
            tried: 0,
            started: 0,
            x: x_nat.clone(),
            x_best: x_nat.clone(),
            fallen: margin.to_dtype(DType::U8)?,
            margin,
            x_fallen: x_nat.clone(),
        };
        self.begin_together(problem, &mut here)?;
        Ok(here)
    }

    fn step(&self, problem: &Problem, here: &mut Here, f: &dyn Classifier) -> Result<Option<Tensor>> {
        if (here.restart, here.tried, here.started) == (0, 0, 0) {
            loss::check(Loss::Margin, problem.y(), f.n_classes())?;
        }
        let margin = losses::margin(&f.logits(&here.x)?.to_dtype(DType::F64)?, problem.y())?;
        if here.started == 0 {
            here.started = 1;
            here.margin = margin;
        } else {
            here.tried += 1;
            let better = or(&margin.lt(&here.margin)?, &margin.le(0f64)?)?;
            here.margin = better.where_cond(&margin, &here.margin)?;
            here.x_best = pick(&better, &here.x, &here.x_best)?;
        }
        let falls = and(&not(&here.margin.gt(0f64)?)?, &not(&here.fallen)?)?; // NaN is not above 0
        here.x_fallen = pick(&falls, &here.x_best, &here.x_fallen)?;
        here.fallen = or(&here.fallen, &falls)?;
        if here.tried < self.square.queries.get() {
            self.propose_together(problem, here)?;
            return Ok(None);
        }
        if here.restart + 1 < self.square.restarts.get() {
            here.restart += 1;
            self.begin_together(problem, here)?;
            return Ok(None);
        }
        // Those that stand come back with the best points of the last restart.
        Ok(Some(pick(&here.fallen, &here.x_fallen, &here.x_best)?))
    }

    fn fields(&self, here: &mut Here, fields: &mut Fields) {
        for (name, count) in
            [("restart", &mut here.restart), ("tried", &mut here.tried), ("started", &mut here.started)]
        {
            fields.count(name, count);
        }
        for (name, tensor) in [
            ("x", &mut here.x),
            ("x_best", &mut here.x_best),
            ("margin", &mut here.margin),
            ("fallen", &mut here.fallen),
            ("x_fallen", &mut here.x_fallen),
        ] {
            fields.tensor(name, tensor);
        }
    }
}
