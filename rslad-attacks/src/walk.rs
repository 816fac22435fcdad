//! Searches in which every example goes its own way.
//!
//! APGD, FAB and Square keep state beside the point, and their examples part company: one is at its
//! third target while another takes its first step. Here an attack is written for one example, as a walk:
//! a question to the classifier, and what its answer leads to. The search gathers the questions of all
//! lanes into batches. So an example's bits cannot depend on its neighbors, one that is done leaves at
//! once, and its lane can be refilled.

mod attack;
mod site;
mod tape;

pub(crate) use attack::WalkAttack;
pub(crate) use site::{Draw, Site};
pub(crate) use tape::Tape;

use crate::aim::{Aim, Aims};
use crate::attack::{Finished, Search, State};
use crate::error::{Error, Result};
use crate::problem::Problem;
use candle_core::{DType, Device, Tensor};
use rslad_models::{Classifier, Engine, Gradient, Memory, Objective};
use std::collections::{BTreeMap, HashSet};

/// An attack on one example.
pub(crate) trait Walk: Clone + Sync {
    /// Where one example is.
    type Here: Clone + Send;

    /// Whether a question is the one before, or the one that it came from, with few pixels changed.
    const LOCAL: bool = false;

    /// Before the first question.
    fn start(&self, site: &Site) -> Result<Self::Here>;

    /// The present question: always the same one until it is answered.
    fn ask<'a>(&self, site: &'a Site, here: &'a Self::Here) -> Ask<'a>;

    /// What the answer leads to.
    fn hear(&self, site: &Site, here: &mut Self::Here, answer: Answer) -> Result<Next>;

    /// Writes down or reads back where an example is.
    fn tape(&self, here: &mut Self::Here, tape: &mut Tape);
}

/// A question about a point.
pub(crate) enum Ask<'a> {
    Logits(&'a [f32]),
    /// A gradient for each aim.
    Gradients(&'a [f32], Vec<Aim>),
}

/// A row of an answer.
pub(crate) struct Answer {
    pub(crate) logits: Vec<f64>,
    /// What each aim came to, in order.
    pub(crate) slopes: Vec<Slope>,
}

/// A loss at a point and its gradient there.
pub(crate) struct Slope {
    pub(crate) loss: f32,
    pub(crate) dx: Vec<f32>,
}

/// After an answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Another question.
    Ask,
    /// The walk ends at this point.
    Done(Vec<f32>),
}

/// When an example that has been misclassified inside the ball ends its search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// At once: the verdict cannot change any more.
    AtOnce,
    /// After all iterations; APGD and FAB return the points that their released codes return.
    AtEnd,
}

struct Lane<H> {
    site: Site,
    here: H,
}

/// The search of a walk. Each iteration answers one question of every lane.
pub(crate) struct Walkers<W: Walk> {
    walk: W,
    lanes: Vec<Lane<W::Here>>,
    /// What the classifier remembers of the questions, where that helps.
    memory: Memory,
}

impl<W: Walk> Walkers<W> {
    pub(crate) fn begin(walk: W, problem: &Problem) -> Result<Self> {
        let mut walkers = Self { walk, lanes: Vec::new(), memory: Memory::default() };
        walkers.open(Site::all(problem)?)?;
        Ok(walkers)
    }

    pub(crate) fn restore(walk: W, state: &State) -> Result<Self> {
        let mut walkers = Self { walk, lanes: Vec::new(), memory: Memory::default() };
        walkers.open(Site::restore(state)?)?;
        let mut tape = Tape::reading(state, walkers.lanes.len())?;
        for lane in &mut walkers.lanes {
            walkers.walk.tape(&mut lane.here, &mut tape);
        }
        tape.check()?;
        Ok(walkers)
    }

    fn open(&mut self, sites: Vec<Site>) -> Result<()> {
        for site in sites {
            let here = self.walk.start(&site)?;
            self.lanes.push(Lane { site, here });
        }
        Ok(())
    }

    /// The lanes by how many gradients they ask for, with the aims of each.
    fn questions(&self) -> BTreeMap<usize, Vec<(usize, Vec<Aim>)>> {
        let mut questions: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for (i, lane) in self.lanes.iter().enumerate() {
            let aims = match self.walk.ask(&lane.site, &lane.here) {
                Ask::Logits(_) => Vec::new(),
                Ask::Gradients(_, aims) => aims,
            };
            questions.entry(aims.len()).or_default().push((i, aims));
        }
        questions
    }

    /// The points that these lanes ask about, `[n, C, H, W]`.
    fn points(&self, lanes: &[usize]) -> Result<Tensor> {
        let mut pixels = Vec::with_capacity(lanes.len() * self.lanes[0].site.x_nat.len());
        for &i in lanes {
            let Lane { site, here } = &self.lanes[i];
            match self.walk.ask(site, here) {
                Ask::Logits(x) | Ask::Gradients(x, _) => pixels.extend_from_slice(x),
            }
        }
        let [c, h, w] = self.lanes[0].site.shape;
        Ok(Tensor::from_vec(pixels, (lanes.len(), c, h, w), &Device::Cpu)?)
    }

    /// What each lane does next.
    fn answer(&mut self, f: &dyn Classifier) -> Result<Vec<Next>> {
        let mut answers = Vec::with_capacity(self.lanes.len());
        for (count, asking) in self.questions() {
            let (lanes, aims): (Vec<usize>, Vec<Vec<Aim>>) = asking.into_iter().unzip();
            let x = self.points(&lanes)?;
            let found = match count {
                0 if W::LOCAL => {
                    let ids: Vec<u64> = lanes.iter().map(|&i| self.lanes[i].site.id).collect();
                    answers_of(&f.logits_again(&ids, &x, &mut self.memory)?, lanes.len())?
                }
                0 => answers_of(&f.logits(&x)?, lanes.len())?,
                _ => slopes(f, &x, count, &aims)?,
            };
            answers.extend(lanes.into_iter().zip(found));
        }
        answers.sort_by_key(|(i, _)| *i); // every lane has asked
        let pixels: usize = self.lanes.iter().map(|lane| lane.site.x_nat.len()).sum();
        let hearing =
            self.lanes.iter_mut().zip(answers).map(|(lane, (_, answer))| (lane, Some(answer), Ok(Next::Ask)));
        let mut hearing: Vec<(_, _, Result<Next>)> = hearing.collect();
        let walk = &self.walk;
        Engine::from_environment()?.share(
            PER_PIXEL * pixels as u64,
            &mut hearing,
            |(lane, answer, next)| {
                if let Some(answer) = answer.take() {
                    *next = walk.hear(&lane.site, &mut lane.here, answer);
                }
            },
        )?;
        hearing.into_iter().map(|(_, _, next)| next).collect()
    }
}

/// Elementary operations that hearing an answer takes for each pixel, about: more than one thread pays for
/// a hundred small images.
const PER_PIXEL: u64 = 64;

fn answers_of(logits: &Tensor, n: usize) -> Result<Vec<Answer>> {
    Ok(rows(logits, n)?.into_iter().map(|logits| Answer { logits, slopes: Vec::new() }).collect())
}

/// One forward and `count` ways back.
fn slopes(f: &dyn Classifier, x: &Tensor, count: usize, aims: &[Vec<Aim>]) -> Result<Vec<Answer>> {
    let of = |nth: usize| Aims(aims.iter().map(|aims| aims[nth]).collect());
    let objectives: Vec<Aims> = (0..count).map(of).collect();
    let found = match &objectives[..] {
        [one] => vec![f.gradient(x, one)?],
        several => {
            let several: Vec<&dyn Objective> = several.iter().map(|aims| aims as &dyn Objective).collect();
            f.gradients(x, &several)?
        }
    };
    let mut answers: Vec<Answer> = Vec::new();
    for Gradient { logits, loss, dx } in found {
        if answers.is_empty() {
            answers = answers_of(&logits, aims.len())?;
        }
        let loss = loss.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let dx = dx.to_dtype(DType::F32)?.flatten_from(1)?.to_vec2::<f32>()?;
        for (answer, (loss, dx)) in answers.iter_mut().zip(loss.into_iter().zip(dx)) {
            answer.slopes.push(Slope { loss, dx });
        }
    }
    Ok(answers)
}

/// Logits as rows of numbers.
fn rows(logits: &Tensor, n: usize) -> Result<Vec<Vec<f64>>> {
    let rows = logits.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    match rows.len() == n {
        true => Ok(rows),
        false => Err(Error::Tensor {
            what: "the model's output",
            got: format!("{:?}", logits.dims()),
            expected: format!("{n} rows, one per image"),
        }),
    }
}

impl<W: Walk> Search for Walkers<W> {
    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn advance(&mut self, f: &dyn Classifier) -> Result<Vec<Finished>> {
        if self.lanes.is_empty() {
            return Ok(Vec::new());
        }
        let done = self.answer(f)?.into_iter().enumerate().filter_map(|(i, next)| match next {
            Next::Done(x) => Some((i, x)),
            Next::Ask => None,
        });
        let done: Vec<(usize, Vec<f32>)> = done.collect();
        let leaving: HashSet<usize> = done.iter().map(|(i, _)| *i).collect();
        let finish = |(i, x): (usize, Vec<f32>)| {
            let Site { id, shape, .. } = &self.lanes[i].site;
            Ok(Finished { id: *id, x_adv: Tensor::from_vec(x, &shape[..], &Device::Cpu)? })
        };
        let finished = done.into_iter().map(finish).collect::<Result<_>>()?;
        let mut lane = 0..;
        self.lanes.retain(|_| lane.next().is_none_or(|i| !leaving.contains(&i)));
        Ok(finished)
    }

    fn admit(&mut self, problem: &Problem) -> Result<()> {
        let sites = Site::all(problem)?;
        for site in &sites {
            if let Some(lane) = self.lanes.first() {
                lane.site.check_joins(site)?;
            }
            if self.lanes.iter().any(|lane| lane.site.id == site.id) {
                let message = format!("example {} is being searched, expected to admit others", site.id);
                return Err(Error::Search(message));
            }
        }
        self.open(sites)
    }

    fn save(&self) -> Result<State> {
        if self.lanes.is_empty() {
            return Err(Error::Search("the search is over, expected open lanes to save".to_owned()));
        }
        let mut state = Site::save(self.lanes.iter().map(|lane| &lane.site))?;
        let mut tape = Tape::writing();
        for lane in &self.lanes {
            self.walk.tape(&mut lane.here.clone(), &mut tape); // reading needs `mut`, writing only looks
        }
        tape.write(self.lanes.len(), &mut state)?;
        Ok(state)
    }
}
