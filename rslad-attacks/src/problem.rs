//! What an attack is asked to solve: images, their balls, labels and a source of random numbers.

use crate::attack::State;
use crate::ball::Ball;
use crate::error::{Error, Result};
use crate::rows;
use crate::walk::Draw;
use candle_core::{DType, Device, Tensor};
use rslad_models::randomness::{Key, Purpose, Stream};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A batch of examples to attack.
#[derive(Clone, Debug)]
pub struct Problem {
    ball: Ball,
    y: Tensor,
    ids: Vec<u64>,
    draws: Draws,
}

/// Where an attack's random numbers come from.
#[derive(Clone, Debug)]
pub enum Draws {
    /// From the keyed streams: a function of seed, epoch, the attack and the example's id, never of its
    /// place in the batch.
    Keyed {
        /// The seed of the run.
        seed: u64,
        /// The epoch, from 1; 0 outside training.
        epoch: u64,
    },
    /// Given draws, the same for every purpose: how tests replay the random start of another program.
    Scripted {
        /// Draws from (-1, 1), shaped like x_nat.
        uniform: Tensor,
        /// Standard normal draws, shaped like x_nat.
        normal: Tensor,
    },
    /// Given draws from (-1, 1) for each step of an attack, `[N, what the step takes]`: how tests replay
    /// an attack that draws at every step.
    Steps(Arc<Vec<Tensor>>),
}

impl Draws {
    /// Those of some of the examples.
    ///
    /// # Errors
    /// When a row is out of range of given draws.
    pub fn rows(&self, rows: &[u32]) -> Result<Self> {
        let take = |t: &Tensor| rows::take(t, rows);
        Ok(match self {
            Self::Keyed { .. } => self.clone(),
            Self::Scripted { uniform, normal } => {
                Self::Scripted { uniform: take(uniform)?, normal: take(normal)? }
            }
            Self::Steps(steps) => {
                Self::Steps(Arc::new(steps.iter().map(take).collect::<candle_core::Result<_>>()?))
            }
        })
    }
}

impl Problem {
    /// A batch of examples.
    ///
    /// # Shapes
    /// `y`: `[N]`, u32; `ids`: one per image, all different, the same whenever the image comes up.
    ///
    /// # Errors
    /// When sizes do not match or an id occurs twice.
    pub fn new(ball: Ball, y: &Tensor, ids: Vec<u64>, draws: Draws) -> Result<Self> {
        let n = ball.n();
        if y.dtype() != DType::U32 || y.dims() != [n] {
            let got = format!("{:?} {:?}", y.dtype(), y.dims());
            return Err(Error::Tensor { what: "y", got, expected: format!("U32 [{n}], a label per image") });
        }
        let mut seen = HashSet::new();
        let twice = ids.iter().find(|id| !seen.insert(**id));
        if ids.len() != n || twice.is_some() {
            let value = match twice {
                Some(id) => format!("a list with {id} twice"),
                None => format!("a list of {}", ids.len()),
            };
            return Err(Error::Value {
                what: "ids",
                value,
                expected: format!("{n} different ids, one per image"),
            });
        }
        Ok(Self { ball, y: y.clone(), ids, draws })
    }

    /// The images and their balls.
    pub fn ball(&self) -> &Ball {
        &self.ball
    }

    /// The labels, `[N]`.
    pub fn y(&self) -> &Tensor {
        &self.y
    }

    /// The examples' ids.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Uniform draws from (-1, 1), shaped like x_nat.
    ///
    /// # Errors
    /// When scripted draws are not shaped like x_nat.
    pub fn uniform(&self, purpose: Purpose, restart: u64) -> Result<Tensor> {
        match &self.draws {
            Draws::Keyed { seed, epoch } => {
                self.keyed(Key::new(*seed, purpose).epoch(*epoch).restart(restart), Stream::symmetric)
            }
            Draws::Scripted { uniform, .. } => self.scripted(uniform),
            Draws::Steps(_) => Err(Self::only_steps()),
        }
    }

    /// Standard normal draws, shaped like x_nat.
    ///
    /// # Errors
    /// When scripted draws are not shaped like x_nat.
    pub fn normal(&self, purpose: Purpose, restart: u64) -> Result<Tensor> {
        match &self.draws {
            Draws::Keyed { seed, epoch } => {
                self.keyed(Key::new(*seed, purpose).epoch(*epoch).restart(restart), Stream::normal)
            }
            Draws::Scripted { normal, .. } => self.scripted(normal),
            Draws::Steps(_) => Err(Self::only_steps()),
        }
    }

    /// Draws from (-1, 1) for each example, as many as are asked for.
    ///
    /// # Errors
    /// When the draws are scripted for something else.
    pub(crate) fn numbers(&self, purpose: Purpose, draw: Draw, count: usize) -> Result<Vec<Vec<f32>>> {
        match &self.draws {
            Draws::Keyed { seed, epoch } => {
                let key = Key::new(*seed, purpose).epoch(*epoch).restart(draw.key());
                let of = |&id: &u64| {
                    let mut stream = key.stream(id);
                    std::iter::repeat_with(|| stream.symmetric()).take(count).collect()
                };
                Ok(self.ids.iter().map(of).collect())
            }
            _ => Err(Error::Search("scripted draws are for searches on the processor".to_owned())),
        }
    }

    /// The examples, written down.
    pub(crate) fn save(&self) -> Result<State> {
        let Draws::Keyed { seed, epoch } = &self.draws else {
            let message = "a search with scripted draws cannot be saved; begin a new search instead";
            return Err(Error::Search(message.to_owned()));
        };
        let eps = Tensor::new(self.ball.eps().get(), &Device::Cpu)?;
        let named = [("x_nat", self.ball.x_nat()), ("y", &self.y), ("eps", &eps)];
        let tensors = named.map(|(name, t)| (name.to_owned(), t.clone())).into();
        Ok(State { tensors, json: serde_json::json!({ "ids": self.ids, "seed": seed, "epoch": epoch }) })
    }

    /// What [`Problem::save`] wrote down.
    pub(crate) fn restore(state: &State) -> Result<Self> {
        let ball = Ball::new(state.tensor("x_nat")?, state.eps()?)?;
        let draws = Draws::Keyed { seed: state.number("seed")?, epoch: state.number("epoch")? };
        let (y, ids) = (state.tensor("y")?, state.list("ids")?);
        if ids.len() != ball.n() || y.dims() != [ball.n()] {
            return Err(State::uneven());
        }
        Self::new(ball, y, ids, draws)
    }

    /// Some of the examples, as a problem of their own.
    ///
    /// # Errors
    /// When a row is out of range or there is none.
    pub fn rows(&self, rows: &[u32]) -> Result<Self> {
        let ball = self.ball.rows(rows)?;
        let ids = rows.iter().map(|&row| self.ids[row as usize]).collect();
        Self::new(ball, &rows::take(&self.y, rows)?, ids, self.draws.rows(rows)?)
    }

    /// These examples and then those of another problem with the same draws.
    pub(crate) fn join(&self, other: &Self) -> Result<Self> {
        let (Draws::Keyed { seed, epoch }, Draws::Keyed { seed: same, epoch: alike }) =
            (&self.draws, &other.draws)
        else {
            return Err(Error::Search("examples with scripted draws cannot join others".to_owned()));
        };
        if (seed, epoch) != (same, alike) {
            let value = format!("seed {same} in epoch {alike}");
            let expected = format!("seed {seed} in epoch {epoch}, as the examples they join");
            return Err(Error::Value { what: "the examples' key", value, expected });
        }
        let y = Tensor::cat(&[&self.y, &other.y], 0)?;
        let ids = [&self.ids[..], &other.ids].concat();
        Self::new(self.ball.join(&other.ball)?, &y, ids, self.draws.clone())
    }

    /// The examples with these ids.
    pub(crate) fn with_ids(&self, ids: &[u64]) -> Result<Self> {
        let place: HashMap<u64, u32> = self.ids.iter().copied().zip(0..).collect();
        let row = |id: &u64| {
            let missing = || Error::Search(format!("example {id} came back, expected one of those searched"));
            place.get(id).copied().ok_or_else(missing)
        };
        self.rows(&ids.iter().map(row).collect::<Result<Vec<u32>>>()?)
    }

    /// Where the random numbers come from.
    pub(crate) fn draws(&self) -> &Draws {
        &self.draws
    }

    fn only_steps() -> Error {
        let message = "the given draws are those of single steps, expected draws shaped like x_nat";
        Error::Search(message.to_owned())
    }

    fn keyed(&self, key: Key, draw: fn(&mut Stream) -> f32) -> Result<Tensor> {
        let x_nat = self.ball.x_nat();
        let per_image = x_nat.elem_count() / self.ids.len();
        let mut draws = Vec::with_capacity(x_nat.elem_count());
        for &id in &self.ids {
            let mut stream = key.stream(id);
            draws.extend(std::iter::repeat_with(|| draw(&mut stream)).take(per_image));
        }
        Ok(Tensor::from_vec(draws, x_nat.shape(), x_nat.device())?)
    }

    fn scripted(&self, draws: &Tensor) -> Result<Tensor> {
        match draws.shape() == self.ball.x_nat().shape() {
            true => Ok(draws.clone()),
            false => Err(Error::Tensor {
                what: "a scripted draw",
                got: format!("{:?} {:?}", draws.dtype(), draws.dims()),
                expected: format!("F32 {:?} like x_nat", self.ball.x_nat().dims()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linf::Linf;
    use candle_core::Device;

    fn problem(ids: &[u64]) -> Result<Problem> {
        let n = ids.len();
        let x = Tensor::full(0.5f32, (n, 1, 2, 2), &Device::Cpu)?;
        let y = Tensor::zeros(n, DType::U32, &Device::Cpu)?;
        Problem::new(Ball::new(&x, Linf::new(0.1)?)?, &y, ids.to_vec(), Draws::Keyed { seed: 1, epoch: 0 })
    }

    fn draws(p: &Problem) -> Vec<Vec<f32>> {
        p.uniform(Purpose::named("a test"), 0).unwrap().flatten_from(1).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn draws_belong_to_the_example_and_not_to_its_place() {
        let all = draws(&problem(&[3, 9, 4]).unwrap());
        assert_eq!(draws(&problem(&[9]).unwrap()), [all[1].clone()]);
        assert_eq!(draws(&problem(&[4, 3]).unwrap()), [all[2].clone(), all[0].clone()]);
        assert_ne!(all[0], all[1]);
    }

    #[test]
    fn purpose_restart_and_kind_change_the_draws() {
        let p = problem(&[3]).unwrap();
        let purpose = Purpose::named("a test");
        let one = |t: Result<Tensor>| t.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let base = one(p.uniform(purpose, 0));
        for other in [p.uniform(purpose, 1), p.uniform(Purpose::named("b"), 0), p.normal(purpose, 0)] {
            assert_ne!(one(other), base);
        }
    }

    #[test]
    fn repeated_or_missing_ids_are_refused() {
        assert!(problem(&[1, 1]).unwrap_err().to_string().contains("a list with 1 twice"));
        let p = problem(&[1, 2]).unwrap();
        let message = Problem::new(p.ball.clone(), &p.y, vec![1], p.draws.clone()).unwrap_err().to_string();
        assert!(message.contains("ids is a list of 1, expected 2 different ids"), "{message}");
    }
}
