//! Searches in which all examples take each step together, by tensor operations: what walks are on a GPU.
//!
//! A [walk](crate::walk) looks at every answer on the processor before it asks again. On another device that would be a
//! wait, and a way for all images across the bus, at each step. Here the same attack is a program of tensor operations
//! on the whole batch. What an example decides is a mask; counters that all share stay on the processor; an example
//! that has fallen goes on with the others and keeps the point at which it fell. Nothing is read back before the last
//! step, but for the classes of the clean images where an attack takes its targets from them.
//!
//! Tensor operations are the same on every device, so tests hold these programs against the walks on the processor.

mod apgd;
mod fab;
mod loss;
mod masks;
mod square;

use crate::aim::ranked;
use crate::attack::{Finished, Search, State};
use crate::error::{Error, Result};
use crate::problem::Problem;
use candle_core::{DType, Tensor};
use rslad_models::Classifier;
use std::ops::Range;

/// An attack on a batch.
pub(crate) trait Program: Clone {
    /// Where the batch is.
    type Here: Clone;

    /// Before the first step.
    fn start(&self, problem: &Problem) -> Result<Self::Here>;

    /// A step of all examples. After the last the points found: the image where an example stands.
    fn step(&self, problem: &Problem, here: &mut Self::Here, f: &dyn Classifier) -> Result<Option<Tensor>>;

    /// Writes down or reads back where the batch is.
    fn fields(&self, here: &mut Self::Here, fields: &mut Fields);
}

/// The named parts of a batch's state: the same calls write them down and read them back, so they cannot differ.
pub(crate) struct Fields {
    state: State,
    reading: bool,
    failed: Option<Error>,
}

impl Fields {
    pub(crate) fn tensor(&mut self, name: &str, value: &mut Tensor) {
        match self.reading {
            false => drop(self.state.tensors.insert(name.to_owned(), value.clone())),
            true => match self.state.tensor(name) {
                Ok(saved) if saved.dims() == value.dims() => *value = saved.clone(),
                Ok(_) => self.failed = Some(State::uneven()),
                Err(error) => self.failed = Some(error),
            },
        }
    }

    pub(crate) fn count(&mut self, name: &str, value: &mut usize) {
        match self.reading {
            false => self.state.json[name] = (*value).into(),
            true => match self.state.number(name) {
                Ok(count) => *value = count as usize,
                Err(error) => self.failed = Some(error),
            },
        }
    }
}

/// The classes of these ranks in the logits of the clean images, the label of a correctly classified one having rank 1:
/// `[n, targets]` and how many targets a model of so many classes has. The one time that logits are waited for.
fn targets(logits: &Tensor, ranks: &Range<usize>) -> Result<(Tensor, usize)> {
    let (n, classes) = logits.dims2()?;
    let own: Vec<usize> = ranks.clone().take_while(|rank| *rank <= classes).collect();
    let mut targets = Vec::with_capacity(n * ranks.len());
    for row in logits.to_dtype(DType::F64)?.to_vec2::<f64>()? {
        let ranked = ranked(&row);
        targets.extend(own.iter().map(|rank| ranked[rank - 1]));
        targets.extend(vec![0; ranks.len().max(1) - own.len()]); // never gone to
    }
    Ok((Tensor::from_vec(targets, (n, ranks.len().max(1)), logits.device())?, own.len()))
}

/// The search of a program. Examples that are admitted on the way wait for the batch before them.
pub(crate) struct Lockstep<P: Program> {
    program: P,
    batch: Option<(Problem, P::Here)>,
    waiting: Option<Problem>,
}

/// What a saved search of this kind says of itself.
const MARK: &str = "lockstep";

impl<P: Program> Lockstep<P> {
    pub(crate) fn begin(program: P, problem: &Problem) -> Result<Self> {
        let here = program.start(problem)?;
        Ok(Self { program, batch: Some((problem.clone(), here)), waiting: None })
    }

    /// Whether a state is of such a search.
    pub(crate) fn saved(state: &State) -> bool {
        state.json.get(MARK).is_some()
    }

    pub(crate) fn restore(program: P, state: &State) -> Result<Self> {
        let problem = Problem::restore(state)?;
        let mut here = program.start(&problem)?;
        let mut fields = Fields { state: state.clone(), reading: true, failed: None };
        program.fields(&mut here, &mut fields);
        match fields.failed {
            Some(error) => Err(error),
            None => Ok(Self { program, batch: Some((problem, here)), waiting: None }),
        }
    }
}

impl<P: Program> Search for Lockstep<P> {
    fn lanes(&self) -> usize {
        let marching = self.batch.as_ref().map(|(problem, _)| problem);
        marching.into_iter().chain(&self.waiting).map(|problem| problem.ids().len()).sum()
    }

    fn advance(&mut self, f: &dyn Classifier) -> Result<Vec<Finished>> {
        if self.batch.is_none() {
            let Some(problem) = self.waiting.take() else { return Ok(Vec::new()) };
            let here = self.program.start(&problem)?;
            self.batch = Some((problem, here));
        }
        let Some((problem, here)) = &mut self.batch else { return Ok(Vec::new()) };
        let Some(points) = self.program.step(problem, here, f)? else { return Ok(Vec::new()) };
        let finish = |(row, &id)| Ok(Finished { id, x_adv: points.get(row)? });
        let finished = problem.ids().iter().enumerate().map(finish).collect::<Result<_>>()?;
        self.batch = None;
        Ok(finished)
    }

    fn admit(&mut self, problem: &Problem) -> Result<()> {
        let marching = self.batch.as_ref().map(|(problem, _)| problem);
        for open in marching.into_iter().chain(&self.waiting) {
            open.join(problem)?; // refuses another radius, another shape and an example twice
        }
        self.waiting = Some(match &self.waiting {
            Some(waiting) => waiting.join(problem)?,
            None => problem.clone(),
        });
        Ok(())
    }

    fn save(&self) -> Result<State> {
        let (problem, here) = match (&self.batch, &self.waiting) {
            (Some((problem, here)), None) => (problem, here),
            (Some(_), Some(_)) => {
                let message =
                    "examples wait for the batch before them, expected to save before they are admitted";
                return Err(Error::Search(message.to_owned()));
            }
            (None, waiting) => {
                return Self::begin(self.program.clone(), waiting.as_ref().ok_or_else(over)?)?.save();
            }
        };
        let mut state = problem.save()?;
        state.json[MARK] = true.into();
        let mut fields = Fields { state, reading: false, failed: None };
        self.program.fields(&mut here.clone(), &mut fields); // reading needs `mut`, writing only looks
        Ok(fields.state)
    }
}

fn over() -> Error {
    Error::Search("the search is over, expected open lanes to save".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::ascend;
    use crate::attacks::{ApgdCe, ApgdDlr, ApgdT, Fab, FabT, Square};
    use crate::ball::Ball;
    use crate::problem::Draws;
    use crate::walk::{Leave, Walk, WalkAttack, Walkers};
    use candle_core::Device;
    use rslad_models::arch::ArchSpec;
    use rslad_models::{Frozen, Network};
    use std::collections::BTreeMap;

    const N: usize = 24;
    const ASCENT: &str = "iterations = 30\nrestarts = 2\nrho = 0.75\neot = 1\n";
    const BOUNDARY: &str = "iterations = 8\nrestarts = 2\nalpha_max = 0.1\neta = 1.05\nbeta = 0.9\n";

    fn network(seed: u64) -> Frozen {
        let options = "classes = 5\nin_channels = 2\nnorm = 'none'\nwidth = 4";
        let spec = ArchSpec::parse("tiny_cnn", options).unwrap();
        Network::new(&spec, seed).unwrap().freeze().unwrap()
    }

    /// Images that are mostly labelled as the network has them, at a radius that most of them fall at.
    fn problem(f: &Frozen, seed: u64) -> Problem {
        let value = |i: usize| ((i as u64 * 7919 + seed * 104_729) % 1009) as f32 / 1008.0;
        let pixels: Vec<f32> = (0..N * 2 * 64).map(value).collect();
        let x = Tensor::from_vec(pixels, (N, 2, 8, 8), &Device::Cpu).unwrap();
        let mut y = f.logits(&x).unwrap().argmax(1).unwrap().to_vec1::<u32>().unwrap();
        y[3] = (y[3] + 1) % 5;
        let y = Tensor::from_vec(y, N, &Device::Cpu).unwrap();
        let ball = Ball::new(&x, "0.1".parse().unwrap()).unwrap();
        Problem::new(ball, &y, (10..10 + N as u64).collect(), Draws::Keyed { seed, epoch: 0 }).unwrap()
    }

    fn attack<A: WalkAttack + serde::de::DeserializeOwned>(keys: &str) -> A {
        toml::from_str(keys).unwrap()
    }

    /// The worst difference of two batches of points.
    fn apart(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    /// The points that the walks of an attack and its program find, and how many fell.
    fn compare<A: WalkAttack>(attack: &A, tolerance: f32) -> usize
    where
        A::Walk: Walk + Program,
    {
        let mut fell = 0;
        for seed in 0..6 {
            let f = network(seed);
            let p = problem(&f, seed);
            let run = |search: &mut dyn Search| ascend(&f, search, p.ball(), p.ids()).unwrap();
            let walked = run(&mut Walkers::begin(attack.walk(Leave::AtOnce), &p).unwrap());
            let marched = run(&mut Lockstep::begin(attack.walk(Leave::AtOnce), &p).unwrap());
            let worst = apart(&walked, &marched);
            assert!(worst <= tolerance, "{} with seed {seed}: points are {worst:e} apart", A::NAME);
            let held = masks::holds(&f.logits(&marched).unwrap(), p.y()).unwrap();
            fell += held.to_vec1::<u8>().unwrap().iter().filter(|holds| **holds == 0).count();
        }
        fell
    }

    #[test]
    fn batches_find_what_walks_find() {
        let targeted = |keys: &str| format!("{keys}targets = 3\n");
        for (fell, name) in [
            (compare::<ApgdCe>(&attack(ASCENT), 0.0), "apgd_ce"),
            (compare::<ApgdCe>(&attack(&ASCENT.replace("eot = 1", "eot = 3")), 0.0), "apgd_ce with eot"),
            (compare::<ApgdDlr>(&attack(ASCENT), 0.0), "apgd_dlr"),
            (compare::<ApgdT>(&attack(&targeted(ASCENT)), 0.0), "apgd_t"),
            (compare::<Fab>(&attack(BOUNDARY), 1e-6), "fab"),
            (compare::<FabT>(&attack(&targeted(BOUNDARY)), 1e-6), "fab_t"),
            (
                compare::<Square>(
                    &attack("queries = 300\nrestarts = 2\np_init = 0.8\nschedule = 'rescaled'"),
                    0.0,
                ),
                "square",
            ),
        ] {
            assert!((12..6 * N).contains(&fell), "{name}: {fell} of {} fell, too few or all", 6 * N);
        }
    }

    fn finish(mut search: impl Search, f: &Frozen) -> BTreeMap<u64, Vec<f32>> {
        let mut found = BTreeMap::new();
        while search.lanes() > 0 {
            for done in search.advance(f).unwrap() {
                found.insert(done.id, done.x_adv.flatten_all().unwrap().to_vec1().unwrap());
            }
        }
        found
    }

    fn saved_at_any_step<A: WalkAttack>(attack: &A)
    where
        A::Walk: Walk + Program,
    {
        let f = network(1);
        let p = problem(&f, 1);
        let walk = || attack.walk(Leave::AtOnce);
        let whole = finish(Lockstep::begin(walk(), &p).unwrap(), &f);
        let mut search = Lockstep::begin(walk(), &p).unwrap();
        loop {
            let state = search.save().unwrap();
            assert!(Lockstep::<A::Walk>::saved(&state));
            assert!(finish(Lockstep::restore(walk(), &state).unwrap(), &f) == whole, "{}", A::NAME);
            if !search.advance(&f).unwrap().is_empty() {
                break;
            }
        }
        assert!(search.save().is_err());
        let state = Lockstep::begin(walk(), &p).unwrap().save().unwrap();
        for name in state.tensors.keys() {
            let mut lacking = state.clone();
            lacking.tensors.remove(name);
            assert!(Lockstep::restore(walk(), &lacking).is_err(), "{} without {name}", A::NAME);
        }
    }

    #[test]
    fn a_saved_batch_goes_on_to_the_same_bits() {
        saved_at_any_step::<ApgdCe>(&attack(ASCENT));
        saved_at_any_step::<ApgdT>(&attack("iterations = 6\nrestarts = 1\nrho = 0.75\neot = 1\ntargets = 2"));
        saved_at_any_step::<FabT>(&attack(&format!("{BOUNDARY}targets = 2")));
        saved_at_any_step::<Square>(&attack("queries = 30\nrestarts = 2\np_init = 0.8\nschedule = 'fixed'"));
    }

    #[test]
    fn who_is_admitted_waits_and_ends_where_it_would_have_alone() {
        let f = network(2);
        let p = problem(&f, 2);
        let attack = attack::<ApgdCe>(ASCENT);
        let begin = |p: &Problem| Lockstep::begin(attack.walk(Leave::AtOnce), p).unwrap();
        let whole = finish(begin(&p), &f);
        let [early, late] = [0..10, 10..N as u32].map(|rows| p.rows(&rows.collect::<Vec<_>>()).unwrap());
        let mut search = begin(&early);
        assert!(search.advance(&f).unwrap().is_empty());
        assert!(search.admit(&early).unwrap_err().to_string().contains("twice"));
        search.admit(&late).unwrap();
        assert_eq!(search.lanes(), N);
        assert!(search.save().unwrap_err().to_string().contains("wait"));
        assert!(finish(search, &f) == whole);
    }
}
