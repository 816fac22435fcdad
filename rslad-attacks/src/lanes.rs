//! The examples of a search that are still open: points, balls, labels and counters, row by row.

use crate::attack::{Finished, State};
use crate::ball::Ball;
use crate::error::{Error, Result};
use crate::problem::Problem;
use crate::rows;
use candle_core::Tensor;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(crate) struct Lanes {
    pub(crate) ids: Vec<u64>,
    /// Iterations done, of each lane.
    pub(crate) iterations: Vec<usize>,
    pub(crate) ball: Ball,
    pub(crate) y: Tensor,
    pub(crate) x: Tensor,
}

impl Lanes {
    /// The lanes of a problem, starting at `x`.
    pub(crate) fn open(problem: &Problem, x: Tensor) -> Self {
        Self {
            ids: problem.ids().to_vec(),
            iterations: vec![0; problem.ids().len()],
            ball: problem.ball().clone(),
            y: problem.y().clone(),
            x,
        }
    }

    pub(crate) fn join(&self, other: &Self) -> Result<Self> {
        if let Some(id) = other.ids.iter().find(|id| self.ids.contains(id)) {
            return Err(Error::Search(format!("example {id} is being searched, expected to admit others")));
        }
        Ok(Self {
            ids: [&self.ids[..], &other.ids].concat(),
            iterations: [&self.iterations[..], &other.iterations].concat(),
            ball: self.ball.join(&other.ball)?,
            y: Tensor::cat(&[&self.y, &other.y], 0)?,
            x: Tensor::cat(&[&self.x, &other.x], 0)?,
        })
    }

    /// Splits off the lanes that have done `steps` iterations; the rest, if any, stays open.
    pub(crate) fn retire(&self, steps: usize) -> Result<(Vec<Finished>, Option<Self>)> {
        let all = 0..self.ids.len() as u32;
        let (done, open): (Vec<u32>, Vec<u32>) = all.partition(|&row| self.iterations[row as usize] >= steps);
        let finish =
            |&row: &u32| Ok(Finished { id: self.ids[row as usize], x_adv: self.x.get(row as usize)? });
        let finished = done.iter().map(finish).collect::<Result<_>>()?;
        Ok((finished, if open.is_empty() { None } else { Some(self.keep(&open)?) }))
    }

    fn keep(&self, open: &[u32]) -> Result<Self> {
        let at = |row: &u32| *row as usize;
        Ok(Self {
            ids: open.iter().map(|row| self.ids[at(row)]).collect(),
            iterations: open.iter().map(|row| self.iterations[at(row)]).collect(),
            ball: self.ball.rows(open)?,
            y: rows::take(&self.y, open)?,
            x: rows::take(&self.x, open)?,
        })
    }

    pub(crate) fn save(&self) -> Result<State> {
        let eps = Tensor::new(self.ball.eps().get(), self.x.device())?;
        let named = [("x", &self.x), ("x_nat", self.ball.x_nat()), ("y", &self.y), ("eps", &eps)];
        let tensors: BTreeMap<_, _> = named.map(|(name, t)| (name.to_owned(), t.clone())).into();
        Ok(State { tensors, json: serde_json::json!({ "ids": self.ids, "iterations": self.iterations }) })
    }

    pub(crate) fn restore(state: &State) -> Result<Self> {
        let lanes = Self {
            ids: state.list("ids")?,
            iterations: state.list("iterations")?.into_iter().map(|i| i as usize).collect(),
            ball: Ball::new(state.tensor("x_nat")?, state.eps()?)?,
            y: state.tensor("y")?.clone(),
            x: state.tensor("x")?.clone(),
        };
        let n = lanes.ball.n();
        let fits = lanes.ids.len() == n && lanes.iterations.len() == n && lanes.y.dims() == [n];
        match fits && lanes.x.shape() == lanes.ball.x_nat().shape() {
            true => Ok(lanes),
            false => Err(Error::Search(format!(
                "the saved search has parts of different sizes, expected {n} lanes in each"
            ))),
        }
    }
}
