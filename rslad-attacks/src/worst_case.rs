//! Ensembles: attacks that run one after another, each from the original image and only on what the ones
//! before have left standing. An example's verdict is its worst case over all of them.

use crate::attack::{Access, Attack, Finished, Judged, Search, Stage, State, judge};
use crate::ball::Order;
use crate::error::{Error, Result};
use crate::problem::Problem;
use candle_core::Tensor;
use rslad_models::Classifier;
use std::collections::HashMap;

/// An ensemble, whose stages may depend on how many classes the model has.
pub struct WorstCase {
    name: &'static str,
    /// The stages for models of at least so many classes; the first that fits is taken.
    variants: Vec<Variant>,
}

/// What an ensemble is for models of at least so many classes.
pub(crate) struct Variant {
    pub(crate) least: usize,
    pub(crate) stages: Vec<Stage>,
    /// How it differs from the ensemble of that name.
    pub(crate) adapted: Option<&'static str>,
}

impl WorstCase {
    pub(crate) fn new(name: &'static str, variants: Vec<Variant>) -> Self {
        Self { name, variants }
    }

    fn variant(&self, n_classes: usize) -> Result<&Variant> {
        self.variants.iter().find(|v| v.least <= n_classes).ok_or_else(|| Error::Value {
            what: "the number of classes",
            value: n_classes.to_string(),
            expected: "at least 2".to_owned(),
        })
    }
}

impl Attack for WorstCase {
    fn name(&self) -> &str {
        self.name
    }

    fn begin(&self, problem: &Problem) -> Result<Box<dyn Search + '_>> {
        let (open, fresh) = (Some(problem.clone()), problem.ids().to_vec());
        Ok(Box::new(InTurn { ensemble: self, n_classes: None, open, fresh, running: HashMap::new() }))
    }

    fn restore(&self, state: &State) -> Result<Box<dyn Search + '_>> {
        Ok(Box::new(InTurn::restore(self, state)?))
    }

    fn stages(&self, n_classes: usize) -> Option<&[Stage]> {
        self.variant(n_classes).ok().map(|variant| &variant.stages[..])
    }

    fn access(&self) -> Access {
        let mut stages = self.variants.iter().flat_map(|variant| &variant.stages);
        match stages.all(|stage| stage.attack.access() == Access::Logits) {
            true => Access::Logits,
            false => Access::Gradients,
        }
    }

    fn adapted(&self, n_classes: usize) -> Option<String> {
        let variant = self.variant(n_classes).ok()?;
        let own = variant.adapted.map(|how| format!("{} for {n_classes} classes: {how}", self.name));
        let of = |stage: &Stage| Some(format!("{} {}", stage.name, stage.attack.adapted(n_classes)?));
        let all: Vec<String> = own.into_iter().chain(variant.stages.iter().filter_map(of)).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// The searches of an ensemble, each with the examples that have come to it.
struct InTurn<'a> {
    ensemble: &'a WorstCase,
    n_classes: Option<usize>,
    /// All examples that have not come back.
    open: Option<Problem>,
    /// Those of them that are in no search yet.
    fresh: Vec<u64>,
    running: HashMap<usize, Box<dyn Search + 'a>>,
}

impl<'a> InTurn<'a> {
    fn enter(&mut self, stages: &'a [Stage], at: usize, examples: &Problem) -> Result<()> {
        match self.running.get_mut(&at) {
            Some(search) => search.admit(examples),
            None => {
                self.running.insert(at, stages[at].attack.begin(examples)?);
                Ok(())
            }
        }
    }

    /// Examples of which a stage has found these points: the fallen, or all after the last stage, come
    /// back, the others go on.
    fn sort(
        &mut self,
        f: &dyn Classifier,
        stages: &'a [Stage],
        at: usize,
        found: Vec<Finished>,
    ) -> Result<Vec<Finished>> {
        let Some(open) = self.open.as_ref().filter(|_| !found.is_empty()) else { return Ok(Vec::new()) };
        let (ids, points): (Vec<u64>, Vec<Tensor>) =
            found.into_iter().map(|done| (done.id, done.x_adv)).unzip();
        let examples = open.with_ids(&ids)?;
        let x_adv = examples.ball().project(&Tensor::stack(&points, 0)?, Order::ProjectClamp)?;
        let Judged { correct, .. } = judge(f, &x_adv, examples.y())?;
        let last = at + 1 == stages.len();
        let (mut back, mut standing) = (Vec::new(), Vec::new());
        for (row, (&id, stands)) in ids.iter().zip(&correct).enumerate() {
            match (stands, last) {
                (true, false) => standing.push(row as u32),
                (true, true) => back.push(Finished { id, x_adv: examples.ball().x_nat().get(row)? }),
                (false, _) => back.push(Finished { id, x_adv: x_adv.get(row)? }),
            }
        }
        if !standing.is_empty() {
            self.enter(stages, at + 1, &examples.rows(&standing)?)?;
        }
        self.forget(&back)?;
        Ok(back)
    }

    fn forget(&mut self, back: &[Finished]) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let leaves = |id: &&u64| !back.iter().any(|done| done.id == **id);
        let rest: Vec<u64> = open.ids().iter().filter(leaves).copied().collect();
        self.open = if rest.is_empty() { None } else { Some(open.with_ids(&rest)?) };
        Ok(())
    }

    fn restore(ensemble: &'a WorstCase, state: &State) -> Result<Self> {
        let open = Problem::restore(state)?;
        let fresh = state.list("fresh")?;
        let saved =
            state.json.get("running").and_then(|v| v.as_object()).ok_or_else(|| State::lacks("running"))?;
        let n_classes = match state.number("n_classes")? as usize {
            0 => None,
            n => Some(n),
        };
        let mut running: HashMap<usize, Box<dyn Search + '_>> = HashMap::new();
        for (at, json) in saved {
            let prefix = format!("{at}/");
            let own =
                |(name, t): (&String, &Tensor)| Some((name.strip_prefix(&prefix)?.to_owned(), t.clone()));
            let part = State { tensors: state.tensors.iter().filter_map(own).collect(), json: json.clone() };
            let stage = at.parse::<usize>().ok().zip(n_classes);
            let stage = stage.and_then(|(at, n)| Some((at, ensemble.stages(n)?.get(at)?)));
            let (at, stage) = stage.ok_or_else(|| State::lacks("a stage of this ensemble"))?;
            running.insert(at, stage.attack.restore(&part)?);
        }
        let lanes = fresh.len() + running.values().map(|search| search.lanes()).sum::<usize>();
        match lanes == open.ids().len() {
            true => Ok(Self { ensemble, n_classes, open: Some(open), fresh, running }),
            false => Err(State::uneven()),
        }
    }
}

impl Search for InTurn<'_> {
    fn lanes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.ids().len())
    }

    fn advance(&mut self, f: &dyn Classifier) -> Result<Vec<Finished>> {
        let Some(open) = &self.open else { return Ok(Vec::new()) };
        let stages = &self.ensemble.variant(f.n_classes())?.stages[..];
        self.n_classes = Some(f.n_classes());
        if !self.fresh.is_empty() {
            let fresh = open.with_ids(&std::mem::take(&mut self.fresh))?;
            self.enter(stages, 0, &fresh)?;
        }
        let mut back = Vec::new();
        // From the last: who goes on to the next stage has had its iteration.
        for at in (0..stages.len()).rev() {
            let Some(mut search) = self.running.remove(&at) else { continue };
            let found = search.advance(f)?;
            if search.lanes() > 0 {
                self.running.insert(at, search);
            }
            back.extend(self.sort(f, stages, at, found)?);
        }
        Ok(back)
    }

    fn admit(&mut self, problem: &Problem) -> Result<()> {
        let joined = match &self.open {
            Some(open) => open.join(problem)?,
            None => problem.clone(),
        };
        self.open = Some(joined);
        self.fresh.extend(problem.ids());
        Ok(())
    }

    fn save(&self) -> Result<State> {
        let Some(open) = &self.open else {
            return Err(Error::Search("the search is over, expected open lanes to save".to_owned()));
        };
        let mut state = open.save()?;
        let mut running = serde_json::Map::new();
        for (at, search) in &self.running {
            let part = search.save()?;
            let own = part.tensors.into_iter().map(|(name, t)| (format!("{at}/{name}"), t));
            state.tensors.extend(own);
            running.insert(at.to_string(), part.json);
        }
        state.json["fresh"] = serde_json::json!(self.fresh);
        state.json["n_classes"] = self.n_classes.unwrap_or(0).into();
        state.json["running"] = running.into();
        Ok(state)
    }
}
