//! Evaluation: the same questions to every image, in the same way for every model.
//!
//! Each attack of each column runs over all examples that it concerns, `lanes` at a time: one that is
//! done leaves and the next takes its lane. Verdicts are per example and final, so that they can be
//! written down as they come ([`Ledger`]), and an evaluation goes on where it was interrupted.

mod stage;

use crate::attack::{Judged, judge};
use crate::ball::Ball;
use crate::error::{Error, Result};
use crate::linf::Linf;
use crate::problem::{Draws, Problem};
use crate::suite::{Column, Suite};
use candle_core::Tensor;
use rslad_models::Classifier;
use std::collections::HashMap;
use std::time::Instant;

pub use stage::{Place, Verdict};

/// A batch of examples to evaluate.
#[derive(Clone, Debug)]
pub struct Examples {
    /// The ids, one per image, unique in the data set.
    pub ids: Vec<u64>,
    /// The images, `[N, C, H, W]`, f32 in [0, 1].
    pub x: Tensor,
    /// The labels, `[N]`, u32.
    pub y: Tensor,
}

/// Where examples come from, any of them at any time.
pub trait Source {
    /// The ids of all examples, in the order of their rows.
    fn ids(&self) -> Vec<u64>;

    /// The examples of these rows, in this order.
    ///
    /// # Errors
    /// When they cannot be read.
    fn examples(&self, rows: &[usize]) -> Result<Examples>;
}

/// Batches that are in memory, one after another.
impl Source for Vec<Examples> {
    fn ids(&self) -> Vec<u64> {
        self.iter().flat_map(|batch| batch.ids.clone()).collect()
    }

    fn examples(&self, rows: &[usize]) -> Result<Examples> {
        let (mut ids, mut x, mut y) = (Vec::new(), Vec::new(), Vec::new());
        for &row in rows {
            let mut row = row;
            let mut batches = self.iter();
            let batch = batches.find(|batch| {
                let here = row < batch.ids.len();
                row -= if here { 0 } else { batch.ids.len() };
                here
            });
            let Some(batch) = batch else { continue };
            ids.push(batch.ids[row]);
            x.push(batch.x.get(row)?);
            y.push(batch.y.get(row)?);
        }
        Ok(Examples { ids, x: Tensor::stack(&x, 0)?, y: Tensor::stack(&y, 0)? })
    }
}

/// How to evaluate.
#[derive(Clone, Copy)]
pub struct Protocol<'a> {
    /// The attacks.
    pub suite: &'a Suite,
    /// The radius.
    pub eps: Linf,
    /// The seed of the attacks' random numbers.
    pub seed: u64,
    /// How many examples are attacked at a time: a matter of speed and memory, never of a result.
    pub lanes: usize,
}

/// Keeps verdicts, so that an evaluation can go on after an interruption.
pub trait Ledger {
    /// The verdict on an example that was added here, in this process or in one before.
    fn find(&self, _place: &Place<'_>, _id: u64) -> Option<Verdict> {
        None
    }

    /// Writes down verdicts.
    ///
    /// # Errors
    /// When they cannot be kept.
    fn add(&mut self, _place: &Place<'_>, _verdicts: &[Verdict]) -> Result<()> {
        Ok(())
    }
}

/// Keeps nothing.
impl Ledger for () {}

/// Watches an evaluation: first `clean` for each batch, then for each attack of each column `stage`, and
/// while it runs `advanced` and `verdicts`.
pub trait Observer {
    /// The clean images of a batch have been classified.
    fn clean(&mut self, _ids: &[u64], _predictions: &[u32]) {}
    /// An attack begins on so many examples that stand, of which some were decided before.
    fn stage(&mut self, _place: &Place<'_>, _standing: usize, _known: usize) {}
    /// One iteration of so many examples is done.
    fn advanced(&mut self, _place: &Place<'_>, _lanes: usize) {}
    /// Examples are decided.
    fn verdicts(&mut self, _place: &Place<'_>, _verdicts: &[Verdict]) {}
}

/// Watches nothing.
impl Observer for () {}

/// What happened to each example, rows sorted by id.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The radius.
    pub eps: Linf,
    /// The seed of the attacks' random numbers.
    pub seed: u64,
    /// The examples.
    pub ids: Vec<u64>,
    /// Their labels.
    pub labels: Vec<u32>,
    /// The classes of the clean images.
    pub clean_predictions: Vec<u32>,
    /// Whether the clean image is classified correctly; false where a logit is not finite.
    pub clean_correct: Vec<bool>,
    /// How many clean images have a logit that is not finite.
    pub clean_non_finite: usize,
    /// The columns of the suite.
    pub columns: Vec<ColumnOutcome>,
}

/// What one column did to each example.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnOutcome {
    /// The column's name.
    pub name: String,
    /// The attack's name.
    pub attack: String,
    /// Its attacks in turn where it is an ensemble; empty for a single one.
    pub stages: Vec<String>,
    /// Whether the attack gets gradients, or logits only.
    pub access: crate::attack::Access,
    /// How it was adapted to the model, where it was.
    pub adapted: Option<String>,
    /// Whether the label held; false for an image that is misclassified clean.
    pub robust: Vec<bool>,
    /// The class at the point that was found, and that of the clean image where no attack was run; none of
    /// an evaluation that was written before this was kept.
    pub predictions: Option<Vec<u32>>,
    /// How far the attack went; 0 where it was not run, and of examples that an ensemble left standing.
    pub linf: Vec<f32>,
    /// Which of the stages felled the example, from 1; 0 where none did.
    pub fell_to: Vec<u8>,
    /// How many attacked images ended with a logit that is not finite.
    pub non_finite: usize,
    /// How many of the fallen are still misclassified after rounding to 8 bits.
    pub eight_bit: usize,
    /// The wall-clock time of the attack.
    pub seconds: f64,
}

/// Attacks each example with each column of a suite; what [`Protocol::run`] does, for examples that are in
/// memory and an evaluation that is short.
///
/// # Errors
/// When images, labels or ids are not as they should be, or the classifier fails.
pub fn evaluate(
    f: &dyn Classifier,
    examples: impl IntoIterator<Item = Examples>,
    suite: &Suite,
    eps: Linf,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    let source: Vec<Examples> = examples.into_iter().collect();
    let lanes = source.iter().map(|batch| batch.ids.len()).max().unwrap_or(1);
    Protocol { suite, eps, seed, lanes }.run(f, &source, &mut (), observer)
}

impl Protocol<'_> {
    /// Attacks each example with each column of the suite.
    ///
    /// An example that is misclassified clean is not attacked: whatever an attack does there, it is not
    /// robust. The result does not depend on the order of the examples, on how many are attacked at a
    /// time or on what the ledger knew (timings aside), provided the classifier's rows do not depend on
    /// each other.
    ///
    /// # Errors
    /// When images, labels or ids are not as they should be, or the classifier or the ledger fails.
    #[tracing::instrument(name = "evaluate", skip_all, fields(suite = self.suite.name, eps = %self.eps, self.seed))]
    pub fn run(
        &self,
        f: &dyn Classifier,
        source: &dyn Source,
        ledger: &mut dyn Ledger,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation> {
        let ids = source.ids();
        check_ids(&ids)?;
        let mut all = self.clean(f, source, ids, observer)?;
        let n = all.ids.len();
        for column in &self.suite.columns {
            let before = Instant::now();
            let mut outcome = ColumnOutcome::new(column, f.n_classes(), &all.clean_predictions);
            let alone = stage::alone(column);
            let stages = column.attack.stages(f.n_classes()).map_or(alone, stage::of_ensemble);
            let mut standing: Vec<usize> = (0..n).filter(|&row| all.clean_correct[row]).collect();
            for (number, (name, attack)) in stages.iter().enumerate() {
                let place = Place { column: &column.name, attack: name, number, of: stages.len() };
                let run = stage::Run { protocol: self, f, source, ids: &all.ids, place, attack: *attack };
                let verdicts = run.go(&standing, ledger, observer)?;
                standing.retain(|&row| outcome.take(row, &all.ids, &place, &verdicts));
            }
            outcome.seconds = before.elapsed().as_secs_f64();
            all.columns.push(outcome);
        }
        all.sort_by_id();
        Ok(all)
    }

    /// The clean images.
    fn clean(
        &self,
        f: &dyn Classifier,
        source: &dyn Source,
        ids: Vec<u64>,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation> {
        let mut all = Evaluation {
            eps: self.eps,
            seed: self.seed,
            labels: Vec::with_capacity(ids.len()),
            clean_predictions: Vec::with_capacity(ids.len()),
            clean_correct: Vec::with_capacity(ids.len()),
            clean_non_finite: 0,
            columns: Vec::new(),
            ids,
        };
        let rows: Vec<usize> = (0..all.ids.len()).collect();
        for rows in rows.chunks(self.lanes.max(1)) {
            let problem = self.problem(f, source, rows)?;
            let labels = problem.y().to_vec1::<u32>()?;
            check_labels(&labels, f.n_classes())?;
            let Judged { predictions, correct, non_finite, .. } =
                judge(f, problem.ball().x_nat(), problem.y())?;
            observer.clean(problem.ids(), &predictions);
            all.labels.extend(labels);
            all.clean_predictions.extend(predictions);
            all.clean_correct.extend(correct);
            all.clean_non_finite += non_finite;
        }
        Ok(all)
    }

    /// Examples as a problem to attack, where the classifier computes.
    fn problem(&self, f: &dyn Classifier, source: &dyn Source, rows: &[usize]) -> Result<Problem> {
        let Examples { ids, x, y } = source.examples(rows)?;
        let (x, y) = (x.to_device(&f.device())?, y.to_device(&f.device())?);
        Problem::new(Ball::new(&x, self.eps)?, &y, ids, Draws::Keyed { seed: self.seed, epoch: 0 })
    }
}

impl Evaluation {
    fn sort_by_id(&mut self) {
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        order.sort_unstable_by_key(|&row| self.ids[row]);
        reorder(&mut self.ids, &order);
        reorder(&mut self.labels, &order);
        reorder(&mut self.clean_predictions, &order);
        reorder(&mut self.clean_correct, &order);
        for column in &mut self.columns {
            reorder(&mut column.robust, &order);
            column.predictions.iter_mut().for_each(|predictions| reorder(predictions, &order));
            reorder(&mut column.linf, &order);
            reorder(&mut column.fell_to, &order);
        }
    }
}

impl ColumnOutcome {
    /// Of examples with these classes, none of them attacked yet.
    fn new(column: &Column, n_classes: usize, clean: &[u32]) -> Self {
        let n = clean.len();
        let stages = column.attack.stages(n_classes).unwrap_or_default();
        Self {
            name: column.name.clone(),
            attack: column.attack.name().to_owned(),
            stages: stages.iter().map(|stage| stage.name.clone()).collect(),
            access: column.attack.access(),
            adapted: column.attack.adapted(n_classes),
            robust: vec![false; n],
            predictions: Some(clean.to_vec()),
            linf: vec![0.0; n],
            fell_to: vec![0; n],
            non_finite: 0,
            eight_bit: 0,
            seconds: 0.0,
        }
    }

    /// Takes the verdict on a row; whether it still stands, for the next stage.
    fn take(&mut self, row: usize, ids: &[u64], place: &Place<'_>, verdicts: &HashMap<u64, Verdict>) -> bool {
        let Some(verdict) = verdicts.get(&ids[row]) else { return false };
        if !verdict.robust {
            self.fell_to[row] = place.number as u8 + 1;
            self.non_finite += usize::from(!verdict.finite);
            self.eight_bit += usize::from(verdict.survives_8_bit);
        }
        if !verdict.robust || place.is_last() {
            self.linf[row] = verdict.linf;
            self.predictions.iter_mut().for_each(|predictions| predictions[row] = verdict.prediction);
        }
        self.robust[row] = verdict.robust && place.is_last();
        verdict.robust
    }
}

fn reorder<T: Copy>(values: &mut Vec<T>, order: &[usize]) {
    *values = order.iter().map(|&row| values[row]).collect();
}

fn check_ids(ids: &[u64]) -> Result<()> {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    match sorted.windows(2).find(|w| w[0] == w[1]) {
        None => Ok(()),
        Some(w) => {
            let value = format!("a list with {} twice", w[0]);
            let expected = "ids that are unique in the data set".to_owned();
            Err(Error::Value { what: "ids", value, expected })
        }
    }
}

fn check_labels(labels: &[u32], n_classes: usize) -> Result<()> {
    match labels.iter().find(|y| **y as usize >= n_classes) {
        None => Ok(()),
        Some(y) => Err(Error::Value {
            what: "a label",
            value: y.to_string(),
            expected: format!("a class below {n_classes}, as many as the model has"),
        }),
    }
}
