//! A run from its recipe to its checkpoints: epochs of steps, evaluations, saves; stopped at any step
//! and continued, it ends with the same bytes.

use crate::averaging::Averages;
use crate::checks;
use crate::dump;
use crate::error::{Error, Result};
use crate::guard::{GuardConfig, Verdict, scaled};
use crate::method::{Method, Progress};
use crate::observer::{Beginning, EpochEvent, Event, Observer, SavedEvent, StepEvent, Update};
use crate::optim::{Sgd, global_norm};
use crate::ranks::{self, Alone, Reduce};
use crate::recipe::Recipe;
use crate::run_dir::{Metrics, RunDir};
use crate::soft_labels::SoftLabels;
use crate::state::{self, Position, Sums};
use crate::step::{Players, StepInput, StepOutput};
use crate::times::Times;
use crate::together::{ParallelConfig, Running, Shards, Together, buffers, restore};
use candle_core::{Device, Tensor};
use rslad_attacks::suite::Suite;
use rslad_attacks::{Draws, Evaluation, Examples, evaluate};
use rslad_data::{Batch, Dataset, Loader, in_order};
use rslad_models::{Classifier, Frozen, Network};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

mod selection;

/// What a run learns from.
pub struct Inputs {
    /// The images to train on.
    pub train: Dataset,
    /// The images that choose the best checkpoint.
    pub selection: Dataset,
    /// The teacher.
    pub teacher: Option<Frozen>,
    /// The second teacher.
    pub second_teacher: Option<Frozen>,
    /// The teacher's answers on disk; without them it is asked every time, to the same bits.
    pub soft_labels: Option<SoftLabels>,
    /// Where the student is trained; the teachers are there already.
    pub device: Device,
}

/// How a call of [`train`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done and `last.safetensors` is there.
    Finished,
    /// All epochs had been done before.
    AlreadyFinished,
    /// Told to stop: the state is saved, and another call continues.
    Stopped,
}

/// Trains the student of a recipe in its directory, from the beginning or from where it was stopped.
///
/// `stop` is looked at after every step and during evaluations: the state is saved within a step.
///
/// # Errors
/// When data, teacher and student do not fit, a loss or gradient is not finite, or a file cannot be
/// read or written.
pub fn train(
    recipe: &Recipe,
    inputs: &Inputs,
    dir: &RunDir,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome> {
    train_together(recipe, inputs, Some(dir), observer, stop, &Alone)
}

/// The same by several processes, which all call this alike: each takes its part of every batch, and rank 0,
/// which alone has the directory, writes. Any of them can be told to stop.
///
/// # Errors
/// As [`train`]; and when the ranks differ in what they were given, are more than the recipe's shards, or
/// their number is not that of the run's beginning. Where one rank alone fails, its caller must end the
/// others.
pub fn train_together(
    recipe: &Recipe,
    inputs: &Inputs,
    dir: Option<&RunDir>,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
    ranks: &dyn Reduce,
) -> Result<Outcome> {
    let together = Together::new(recipe.parallel.as_ref(), ranks)?;
    if ranks.ranks() > 1 {
        ranks::agree(ranks, &identity(recipe, inputs))?;
    }
    checks::fit(recipe, inputs)?;
    checks::shards_suffice(recipe, inputs.train.len(), together.shards())?;
    let [precision, _] = recipe.precisions();
    let student =
        Network::new(&recipe.student, recipe.seed)?.moved_to(&inputs.device)?.in_precision(precision);
    let fresh = Sgd::new(recipe.optim.momentum, recipe.optim.weight_decay);
    let averages = Averages::new(recipe.average.as_ref());
    let fixed = recipe.parallel.as_ref().is_some_and(ParallelConfig::is_fixed);
    let begun_by = if fixed { 1 } else { ranks.ranks() };
    let (position, sgd, averages) = match newest(dir, ranks)? {
        Some((file, bytes)) => state::restore(&file, &bytes, &student, fresh, averages)?,
        None => (Position::start(begun_by), fresh, averages),
    };
    if position.epoch > recipe.schedule.epochs {
        return Ok(Outcome::AlreadyFinished);
    }
    if position.ranks != begun_by {
        return Err(Error::Ranks(format!(
            "the run was begun by {} processes and these are {begun_by}, which would go on to other bits; start \
             as many, or begin a run with `parallel.shards`, whose result depends on no number of processes",
            position.ranks
        )));
    }
    ranks::same_weights(ranks, &student)?;
    let metrics = dir.map(|dir| Metrics::open(dir.file("metrics.jsonl"), position.metrics)).transpose()?;
    let run = Run {
        ranks,
        together,
        recipe,
        inputs,
        dir,
        student: &student,
        method: recipe.method()?,
        loader: Loader::new(&inputs.train, recipe.data.batch, recipe.data.augment, recipe.seed)?,
        suite: Suite::load(&recipe.select.suite)?,
        players: Players::new(&student, inputs.teacher.as_ref(), inputs.second_teacher.as_ref())?,
        sgd,
        averages,
        metrics,
        position,
        saved: Instant::now(),
        times: Times::default(),
    };
    run.follow(observer, stop)
}

/// What all ranks must have alike.
fn identity(recipe: &Recipe, inputs: &Inputs) -> [(&'static str, String); 4] {
    [
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("recipe", recipe.hash()),
        ("training images", inputs.train.sha256()),
        ("images to select on", inputs.selection.sha256()),
    ]
}

/// The state that rank 0's directory holds, on all ranks.
fn newest(dir: Option<&RunDir>, ranks: &dyn Reduce) -> Result<Option<(PathBuf, Vec<u8>)>> {
    let own =
        dir.map(|dir| Ok::<_, Error>(state::newest(dir)?.map(|(name, bytes)| (dir.file(&name), bytes))));
    let (file, own) = own.transpose()?.flatten().unwrap_or_default();
    let bytes = if ranks.ranks() == 1 { own } else { ranks::of_first(ranks, &own)? };
    Ok((!bytes.is_empty()).then_some((file, bytes)))
}

/// A state is saved at least this often, however long an epoch is: what a crash can cost.
const SAVE_EVERY: Duration = Duration::from_secs(600);

struct Run<'r> {
    recipe: &'r Recipe,
    inputs: &'r Inputs,
    ranks: &'r dyn Reduce,
    together: Together<'r>,
    dir: Option<&'r RunDir>, // of rank 0
    student: &'r Network,
    method: Box<dyn Method>,
    loader: Loader<'r>,
    suite: Suite,
    players: Players<'r>,
    sgd: Sgd,
    averages: Averages,
    metrics: Option<Metrics>, // of rank 0
    position: Position,
    saved: Instant,
    times: Times,
}

impl Run<'_> {
    fn follow(mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        observer.begin(&Beginning {
            epochs: self.recipe.schedule.epochs,
            steps_per_epoch: self.loader.batches_per_epoch() as u64,
            epoch: self.position.epoch,
            steps_done: self.position.steps_done,
        });
        let outcome = loop {
            if self.position.epoch > self.recipe.schedule.epochs {
                break Outcome::Finished;
            }
            if self.epoch(observer, stop)? == Outcome::Stopped {
                break Outcome::Stopped;
            }
        };
        observer.times(&self.times);
        Ok(outcome)
    }

    /// The rest of the present epoch.
    fn epoch(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let epoch = self.position.epoch;
        let _span = tracing::info_span!("epoch", epoch).entered();
        let mut batches =
            self.loader.epoch(epoch).from_batch(self.position.steps_done as usize).prefetched(AHEAD);
        loop {
            let clock = Instant::now();
            let Some(batch) = batches.next() else { break };
            self.times.data += clock.elapsed();
            self.step(&batch?.to_device(&self.inputs.device)?, observer)?;
            let stopped = self.told(stop)?;
            if stopped || ranks::any(self.ranks, self.saved.elapsed() >= SAVE_EVERY)? {
                self.save()?;
            }
            if stopped {
                return Ok(Outcome::Stopped);
            }
        }
        self.end_epoch(observer, stop)
    }

    /// Whether any rank was told to stop.
    fn told(&self, stop: &AtomicBool) -> Result<bool> {
        ranks::any(self.ranks, stop.load(Ordering::Relaxed))
    }

    fn step(&mut self, batch: &Batch, observer: &mut dyn Observer) -> Result<()> {
        let (epoch, number) = (self.position.epoch, self.position.steps_done + 1);
        let clock = Instant::now();
        let known = match (&self.inputs.soft_labels, &self.inputs.teacher) {
            (Some(soft_labels), Some(teacher)) => Some(soft_labels.logits(teacher, batch)?),
            _ => None,
        };
        self.times.teacher += clock.elapsed();
        let input = StepInput {
            x: batch.x(),
            y: batch.y(),
            ids: batch.ids(),
            soft_labels: known.as_ref(),
            draws: Draws::Keyed { seed: self.recipe.seed, epoch },
            progress: Progress { epoch, epochs: self.recipe.schedule.epochs },
        };
        let before = buffers(self.student)?;
        let clock = Instant::now();
        let config = self.recipe.step();
        let mut out = self.together.step(self.method.as_ref(), &config, &mut self.players, &input)?;
        self.times.add_step(clock.elapsed(), &self.players.take_spent(), batch.len());

        let (loss, grad_norm) = (out.terms.value()?, global_norm(&out.gradients)?);
        let steps = self.loader.batches_per_epoch() as u64;
        let lr = self.recipe.schedule.lr(self.recipe.optim.lr, epoch, number, steps);
        let terms: BTreeMap<String, f64> =
            out.terms.means()?.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
        let update =
            match GuardConfig::judge(self.recipe.guard.as_ref(), loss, grad_norm, self.position.skipped) {
                Verdict::Take(factor) => {
                    self.descend(out, factor, lr)?;
                    self.position.sums.add(batch.len() as f64, loss, &terms);
                    self.position.skipped = 0;
                    if factor == 1.0 { Update::Taken } else { Update::Clipped }
                }
                Verdict::Skip => {
                    restore(self.student, &before)?;
                    self.position.skipped += 1;
                    Update::Skipped
                }
                Verdict::Stop(what) => {
                    restore(self.student, &before)?;
                    out.x_adv = self.together.all_points(&out.x_adv)?;
                    let dump = dump::Step { epoch, step: number, lr, input: &input, out: &out };
                    return Err(self.not_finite(what, &dump));
                }
            };
        self.position.steps_done = number;
        self.emit(
            Event::Step(StepEvent { epoch, step: number, lr, loss, terms, grad_norm, update }),
            observer,
        )
    }

    fn descend(&mut self, out: StepOutput, factor: f64, lr: f64) -> Result<()> {
        let gradients = scaled(out.gradients, factor)?;
        let clock = Instant::now();
        self.sgd.step(self.student.parameters(), &gradients, lr)?;
        self.times.optimizer += clock.elapsed();
        self.averages.after_step(self.student)
    }

    /// Writes a step down that is not finite; the error that it ends the run with.
    fn not_finite(&mut self, what: &str, bad: &dump::Step<'_>) -> Error {
        let name = dump::file_name(bad.epoch, bad.step);
        let path = self.dir.map_or_else(|| PathBuf::from(&name), |dir| dir.file(&name));
        if self.dir.is_some()
            && let Err(error) = dump::write(&path, &self.as_taken(), self.student, bad)
        {
            tracing::warn!("the step cannot be written down: {error}");
        }
        let (epoch, step, dump) = (bad.epoch, bad.step, path.display().to_string());
        Error::NotFinite { what: what.into(), epoch, step, dump }
    }

    /// The recipe with the shards that its steps are taken in: one process takes them alike.
    fn as_taken(&self) -> Recipe {
        let mut recipe = self.recipe.clone();
        if self.together.shards() > 1 && recipe.parallel.is_none() {
            let shards = Shards { shards: self.together.shards(), running: Running::First };
            recipe.parallel = Some(ParallelConfig::Shards(shards));
        }
        recipe
    }

    fn end_epoch(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let (epoch, epochs) = (self.position.epoch, self.recipe.schedule.epochs);
        let before = (self.position.clone(), self.averages.clone());
        self.averages.after_epoch(self.student, epoch)?;
        let evals = match self.recipe.select.every.has(epoch) || epoch == epochs {
            false => None,
            true => {
                let clock = Instant::now();
                let evals = self.evaluate(stop)?;
                self.times.evaluation += clock.elapsed();
                if evals.is_none() {
                    (self.position, self.averages) = before; // after the last step, before the evaluation
                    self.save()?;
                    return Ok(Outcome::Stopped);
                }
                evals
            }
        };
        let (loss, terms) = std::mem::take(&mut self.position.sums).means();
        observer.times(&self.times);
        self.emit(Event::Epoch(EpochEvent { epoch, loss, terms }), observer)?;
        for eval in evals.into_iter().flatten() {
            self.emit(Event::Eval(eval), observer)?;
        }
        self.position.epoch += 1;
        self.position.steps_done = 0;
        let file = state::file_name(&self.position);
        self.emit(Event::Saved(SavedEvent { epoch, file }), observer)?;
        self.save()?;
        let stopped = self.told(stop)? && epoch < epochs;
        Ok(if stopped { Outcome::Stopped } else { Outcome::Finished })
    }

    /// Saves what resume needs: the run goes on from here.
    fn save(&mut self) -> Result<()> {
        let clock = Instant::now();
        ranks::same_weights(self.ranks, self.student)?;
        if let (Some(dir), Some(metrics)) = (self.dir, &mut self.metrics) {
            self.position.metrics = metrics.sync()?;
            state::save(dir, self.student, &self.sgd, &self.averages, &mut self.position)?;
        }
        self.times.saving += clock.elapsed();
        self.saved = Instant::now();
        Ok(())
    }

    fn emit(&mut self, event: Event, observer: &mut dyn Observer) -> Result<()> {
        if let Some(metrics) = &mut self.metrics {
            metrics.append(&event)?;
        }
        event.tell(observer);
        Ok(())
    }
}

impl Sums {
    fn add(&mut self, images: f64, loss: f64, terms: &BTreeMap<String, f64>) {
        self.images += images;
        self.loss += images * loss;
        for (name, value) in terms {
            *self.terms.entry(name.clone()).or_default() += images * value;
        }
    }

    fn means(self) -> (f64, BTreeMap<String, f64>) {
        let mean = |sum: f64| sum / self.images; // NaN where all steps were skipped
        (mean(self.loss), self.terms.into_iter().map(|(name, sum)| (name, mean(sum))).collect())
    }
}

/// Batches made ahead of the step that trains on them.
const AHEAD: usize = 2;

/// The images of an evaluation at a time; the result does not depend on it.
const EVAL_BATCH: usize = 256;

/// Evaluates a classifier on a data set.
///
/// # Errors
/// When the images do not fit the classifier, or an attack fails.
pub fn evaluate_on(
    f: &dyn Classifier,
    data: &Dataset,
    suite: &Suite,
    eps: rslad_attacks::Linf,
    seed: u64,
    observer: &mut dyn rslad_attacks::Observer,
) -> Result<Evaluation> {
    let mut failed = None; // the harness takes examples, so a batch that fails ends them
    let examples = in_order(data, EVAL_BATCH)?
        .map_while(|batch| batch.map_err(|error| failed = Some(error)).ok())
        .map(|b| Examples { ids: b.ids().to_vec(), x: b.x().clone(), y: b.y().clone() });
    let evaluation = evaluate(f, examples, suite, eps, seed, observer)?;
    failed.map_or(Ok(evaluation), |error| Err(error.into()))
}

/// A teacher's clean accuracy on a data set.
///
/// # Errors
/// When the images do not fit.
pub fn clean_accuracy(f: &dyn Classifier, data: &Dataset) -> Result<f64> {
    let mut correct = 0;
    for batch in in_order(data, EVAL_BATCH)? {
        let batch = batch?.to_device(&f.device())?;
        let predicted: Tensor = f.logits(batch.x())?.argmax(1)?;
        let hits = predicted.eq(batch.y())?.to_dtype(candle_core::DType::U32)?.sum_all()?;
        correct += hits.to_scalar::<u32>()?;
    }
    Ok(f64::from(correct) / data.len() as f64)
}
