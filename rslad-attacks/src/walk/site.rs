//! What does not change while an example is searched: its image, ball, label and random numbers.

use crate::attack::State;
use crate::ball::Ball;
use crate::error::{Error, Result};
use crate::linf::Linf;
use crate::problem::{Draws, Problem};
use candle_core::{Device, Tensor};
use rslad_models::randomness::{Key, Purpose};
use std::collections::BTreeMap;

/// One example.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) id: u64,
    pub(crate) y: u32,
    pub(crate) eps: Linf,
    /// Channels, height, width.
    pub(crate) shape: [usize; 3],
    pub(crate) x_nat: Vec<f32>,
    lower: Vec<f32>,
    upper: Vec<f32>,
    draws: Drawn,
}

/// What a pixel may be: its part of the ball, cut by [0, 1].
#[derive(Clone, Copy)]
pub(crate) struct Room {
    x_nat: f32,
    lower: f32,
    upper: f32,
}

impl Room {
    /// The nearest value inside; the image's where `x` is NaN.
    pub(crate) fn clip(self, x: f32) -> f32 {
        if x.is_nan() { self.x_nat } else { x.max(self.lower).min(self.upper) }
    }
}

/// Where the example's random numbers come from.
#[derive(Clone, Debug)]
enum Drawn {
    Keyed { seed: u64, epoch: u64 },
    Steps(Vec<Vec<f32>>),
}

/// Which draws: those of a restart, or of one step of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Draw {
    pub(crate) restart: u64,
    pub(crate) step: u64,
}

impl Draw {
    /// Its number in the keyed streams.
    pub(crate) fn key(self) -> u64 {
        self.restart << 32 | self.step
    }
}

impl Site {
    pub(crate) fn all(problem: &Problem) -> Result<Vec<Self>> {
        let ball = problem.ball();
        let draws: Vec<Drawn> = match problem.draws() {
            Draws::Keyed { seed, epoch } => {
                vec![Drawn::Keyed { seed: *seed, epoch: *epoch }; problem.ids().len()]
            }
            Draws::Scripted { uniform, .. } => {
                let rows = uniform.flatten_from(1)?.to_vec2::<f32>()?;
                rows.into_iter().map(|row| Drawn::Steps(vec![row])).collect()
            }
            Draws::Steps(steps) => {
                let steps: Vec<Vec<Vec<f32>>> =
                    steps.iter().map(|step| step.to_vec2()).collect::<candle_core::Result<_>>()?;
                let of = |row: usize| steps.iter().map(|step| step[row].clone()).collect();
                (0..problem.ids().len()).map(|row| Drawn::Steps(of(row))).collect()
            }
        };
        let ids = problem.ids().iter().zip(problem.y().to_vec1::<u32>()?);
        let sites = Self::of_ball(ball, ids.map(|(&id, y)| (id, y)).collect())?;
        Ok(sites.into_iter().zip(draws).map(|(site, draws)| Self { draws, ..site }).collect())
    }

    /// Examples without random numbers.
    fn of_ball(ball: &Ball, ids: Vec<(u64, u32)>) -> Result<Vec<Self>> {
        let (_, c, h, w) = ball.x_nat().dims4()?;
        let (eps, shape) = (ball.eps(), [c, h, w]);
        let images = ball.x_nat().flatten_from(1)?.to_vec2::<f32>()?;
        let parts = ids.into_iter().zip(images).zip(ball.bounds()?);
        let site = |(((id, y), x_nat), (lower, upper))| Self {
            id,
            y,
            eps,
            shape,
            x_nat,
            lower,
            upper,
            draws: Drawn::Steps(Vec::new()),
        };
        Ok(parts.map(site).collect())
    }

    /// `n` draws from (-1, 1).
    pub(crate) fn uniform(&self, purpose: Purpose, draw: Draw, n: usize) -> Result<Vec<f32>> {
        match &self.draws {
            Drawn::Keyed { seed, epoch } => {
                let mut stream = Key::new(*seed, purpose).epoch(*epoch).restart(draw.key()).stream(self.id);
                Ok(std::iter::repeat_with(|| stream.symmetric()).take(n).collect())
            }
            Drawn::Steps(steps) => match steps.get(draw.step as usize) {
                Some(given) if given.len() == n => Ok(given.clone()),
                given => Err(Error::Tensor {
                    what: "a scripted draw",
                    got: format!("{:?} numbers for step {}", given.map(Vec::len), draw.step),
                    expected: format!("{n}"),
                }),
            },
        }
    }

    /// The nearest value of pixel `i` that is in the ball and in [0, 1]; the image's where `x` is NaN.
    pub(crate) fn clip(&self, i: usize, x: f32) -> f32 {
        Room { x_nat: self.x_nat[i], lower: self.lower[i], upper: self.upper[i] }.clip(x)
    }

    /// What every pixel may be.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = Room> {
        let pixels = self.x_nat.iter().zip(&self.lower).zip(&self.upper);
        pixels.map(|((&x_nat, &lower), &upper)| Room { x_nat, lower, upper })
    }

    /// The smallest and the largest values of the pixels.
    pub(crate) fn bounds(&self) -> impl Iterator<Item = (f32, f32)> {
        self.lower.iter().copied().zip(self.upper.iter().copied())
    }

    /// Whether a point is in the ball and in [0, 1].
    pub(crate) fn contains(&self, x: &[f32]) -> bool {
        x.iter().zip(self.bounds()).all(|(&x, (lower, upper))| (lower..=upper).contains(&x))
    }

    pub(crate) fn check_joins(&self, other: &Self) -> Result<()> {
        let shown = |site: &Self| format!("{:?} at radius {}", site.shape, site.eps);
        match self.shape == other.shape && self.eps == other.eps {
            true => Ok(()),
            false => {
                let expected = format!("{}, as the images they join", shown(self));
                Err(Error::Value { what: "an image", value: shown(other), expected })
            }
        }
    }

    /// The sites of a search with open lanes.
    pub(crate) fn save<'a>(sites: impl Iterator<Item = &'a Self>) -> Result<State> {
        let sites: Vec<&Self> = sites.collect();
        let n = sites.len();
        let rows = |rows: Vec<&[f32]>| {
            let width = rows.first().map_or(0, |row| row.len());
            Tensor::from_vec(rows.concat(), (n, width), &Device::Cpu)
        };
        let ([c, h, w], eps) = (sites[0].shape, sites[0].eps.get());
        let x_nat = rows(sites.iter().map(|site| &site.x_nat[..]).collect())?.reshape((n, c, h, w))?;
        let y: Vec<u32> = sites.iter().map(|site| site.y).collect();
        let mut tensors = BTreeMap::from([
            ("x_nat".to_owned(), x_nat),
            ("y".to_owned(), Tensor::from_vec(y, n, &Device::Cpu)?),
            ("eps".to_owned(), Tensor::new(eps, &Device::Cpu)?),
        ]);
        let (mut seeds, mut epochs, mut scripts) = (vec![], vec![], vec![]);
        for site in &sites {
            match &site.draws {
                Drawn::Keyed { seed, epoch } => {
                    seeds.push(*seed);
                    epochs.push(*epoch);
                }
                Drawn::Steps(steps) => scripts.push(steps),
            }
        }
        for step in 0..scripts.first().map_or(0, |steps| steps.len()) {
            let drawn = scripts.iter().map(|steps| &steps[step][..]).collect();
            tensors.insert(format!("draws/{step}"), rows(drawn)?);
        }
        let ids: Vec<u64> = sites.iter().map(|site| site.id).collect();
        Ok(State { tensors, json: serde_json::json!({ "ids": ids, "seeds": seeds, "epochs": epochs }) })
    }

    pub(crate) fn restore(state: &State) -> Result<Vec<Self>> {
        let ball = Ball::new(state.tensor("x_nat")?, state.eps()?)?;
        let [ids, seeds, epochs] = [state.list("ids")?, state.list("seeds")?, state.list("epochs")?];
        let y = state.tensor("y")?.to_vec1::<u32>()?;
        let n = ball.n();
        let uneven = || {
            let message =
                format!("the saved search has parts of different sizes, expected {n} lanes in each");
            Error::Search(message)
        };
        let mut scripts = vec![Vec::new(); n];
        for step in 0.. {
            let Ok(drawn) = state.tensor(&format!("draws/{step}")) else { break };
            let rows = drawn.to_vec2::<f32>()?;
            scripts.iter_mut().zip(rows).for_each(|(steps, row)| steps.push(row));
        }
        let scripted = seeds.is_empty() && epochs.is_empty() && scripts.iter().all(|steps| !steps.is_empty());
        if [ids.len(), y.len()] != [n; 2] || !scripted && [seeds.len(), epochs.len()] != [n; 2] {
            return Err(uneven());
        }
        let draws: Vec<Drawn> = match scripted {
            true => scripts.into_iter().map(Drawn::Steps).collect(),
            false => {
                seeds.into_iter().zip(epochs).map(|(seed, epoch)| Drawn::Keyed { seed, epoch }).collect()
            }
        };
        let sites = Self::of_ball(&ball, ids.into_iter().zip(y).collect())?;
        Ok(sites.into_iter().zip(draws).map(|(site, draws)| Self { draws, ..site }).collect())
    }
}
