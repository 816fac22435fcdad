//! Evaluation: the same questions to every image, in the same way for every model.

use crate::attack::{Judged, Perturbed, judge, perturb};
use crate::ball::Ball;
use crate::error::{Error, Result};
use crate::linf::Linf;
use crate::problem::{Draws, Problem};
use crate::suite::Suite;
use candle_core::Tensor;
use rslad_models::Classifier;
use std::time::Instant;

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

/// What one attack did to each example.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnOutcome {
    /// The column's name.
    pub name: String,
    /// The attack's name.
    pub attack: String,
    /// Whether the label held; false for an image that is misclassified clean.
    pub robust: Vec<bool>,
    /// How far the attack went; 0 where it was not run.
    pub linf: Vec<f32>,
    /// How many attacked images ended with a logit that is not finite.
    pub non_finite: usize,
    /// The wall-clock time of the attack.
    pub seconds: f64,
}

/// Watches an evaluation. For each batch: `clean`, `column` for each column in order, `batch`.
pub trait Observer {
    /// The clean images of a batch have been classified.
    fn clean(&mut self, _ids: &[u64], _predictions: &[u32]) {}
    /// A column's attack on a batch is over; `ids` are the attacked examples (those classified
    /// correctly), row by row of `points`.
    fn column(&mut self, _name: &str, _ids: &[u64], _points: &Perturbed) {}
    /// All columns of a batch of `n` are done.
    fn batch(&mut self, _n: usize) {}
}

/// Watches nothing.
impl Observer for () {}

/// Attacks each example with each column of a suite.
///
/// An example that is misclassified clean is not attacked: whatever an attack does there, it is not
/// robust. The result does not depend on how the examples are cut into batches or ordered (timings
/// aside), provided the classifier's rows do not depend on each other.
///
/// # Errors
/// When images, labels or ids are not as they should be, or the classifier fails.
#[tracing::instrument(name = "evaluate", skip_all, fields(suite = suite.name, %eps, seed))]
pub fn evaluate(
    f: &dyn Classifier,
    examples: impl IntoIterator<Item = Examples>,
    suite: &Suite,
    eps: Linf,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    let mut all = Evaluation::empty(suite, eps, seed);
    for batch in examples {
        all.add(f, batch, suite, observer)?;
    }
    all.sort_by_id()?;
    Ok(all)
}

impl Evaluation {
    fn empty(suite: &Suite, eps: Linf, seed: u64) -> Self {
        let columns = suite.columns.iter().map(|column| ColumnOutcome {
            name: column.name.clone(),
            attack: column.attack.name().to_owned(),
            robust: Vec::new(),
            linf: Vec::new(),
            non_finite: 0,
            seconds: 0.0,
        });
        Self {
            eps,
            seed,
            ids: Vec::new(),
            labels: Vec::new(),
            clean_predictions: Vec::new(),
            clean_correct: Vec::new(),
            clean_non_finite: 0,
            columns: columns.collect(),
        }
    }

    fn add(
        &mut self,
        f: &dyn Classifier,
        batch: Examples,
        suite: &Suite,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let draws = Draws::Keyed { seed: self.seed, epoch: 0 };
        let problem = Problem::new(Ball::new(&batch.x, self.eps)?, &batch.y, batch.ids, draws)?;
        let labels = problem.y().to_vec1::<u32>()?;
        check_labels(&labels, f.n_classes())?;
        let Judged { predictions, correct, non_finite, .. } = judge(f, problem.ball().x_nat(), problem.y())?;
        observer.clean(problem.ids(), &predictions);

        let n = labels.len();
        let standing: Vec<u32> = (0..n as u32).filter(|&row| correct[row as usize]).collect();
        let attacked = if standing.is_empty() { None } else { Some(problem.rows(&standing)?) };
        for (column, outcome) in suite.columns.iter().zip(&mut self.columns) {
            let before = Instant::now();
            let points = attacked.as_ref().map(|p| perturb(f, column.attack.as_ref(), p)).transpose()?;
            outcome.seconds += before.elapsed().as_secs_f64();
            outcome.add(n, &standing, points.as_ref());
            if let (Some(p), Some(points)) = (&attacked, &points) {
                observer.column(&column.name, p.ids(), points);
            }
        }

        self.ids.extend(problem.ids());
        self.labels.extend(labels);
        self.clean_predictions.extend(predictions);
        self.clean_correct.extend(correct);
        self.clean_non_finite += non_finite;
        observer.batch(n);
        Ok(())
    }

    fn sort_by_id(&mut self) -> Result<()> {
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        order.sort_unstable_by_key(|&row| self.ids[row]);
        if let Some(w) = order.windows(2).find(|w| self.ids[w[0]] == self.ids[w[1]]) {
            let value = format!("a list with {} in two batches", self.ids[w[0]]);
            let expected = "ids that are unique in the data set".to_owned();
            return Err(Error::Value { what: "ids", value, expected });
        }
        reorder(&mut self.ids, &order);
        reorder(&mut self.labels, &order);
        reorder(&mut self.clean_predictions, &order);
        reorder(&mut self.clean_correct, &order);
        for column in &mut self.columns {
            reorder(&mut column.robust, &order);
            reorder(&mut column.linf, &order);
        }
        Ok(())
    }
}

impl ColumnOutcome {
    /// Appends a batch of `n`, of which the rows `standing` were attacked.
    fn add(&mut self, n: usize, standing: &[u32], points: Option<&Perturbed>) {
        let first = self.robust.len();
        self.robust.resize(first + n, false);
        self.linf.resize(first + n, 0.0);
        let Some(points) = points else { return };
        for (i, &row) in standing.iter().enumerate() {
            self.robust[first + row as usize] = points.robust[i];
            self.linf[first + row as usize] = points.linf[i];
        }
        self.non_finite += points.non_finite;
    }
}

fn reorder<T: Copy>(values: &mut Vec<T>, order: &[usize]) {
    *values = order.iter().map(|&row| values[row]).collect();
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
