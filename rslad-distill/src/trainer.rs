//! A run from its recipe to its checkpoints: epochs of steps, evaluations, saves; stopped at any step
//! and continued, it ends with the same bytes.

use crate::averaging::{Average, Averages};
use crate::checks;
use crate::dump;
use crate::error::{Error, Result};
use crate::guard::{GuardConfig, Verdict, scaled};
use crate::method::{Method, Progress};
use crate::observer::{Beginning, EpochEvent, EvalEvent, Event, Observer, SavedEvent, StepEvent, Update};
use crate::optim::{Sgd, global_norm};
use crate::recipe::{Recipe, SelectBy, SelectOn};
use crate::run_dir::{Metrics, RunDir};
use crate::soft_labels::SoftLabels;
use crate::state::{self, Best, Position, Sums};
use crate::step::{Players, StepInput, StepOutput, judge, step};
use crate::stoppable::Stoppable;
use crate::times::Times;
use candle_core::Tensor;
use rslad_attacks::suite::Suite;
use rslad_attacks::{Draws, Evaluation, Examples, evaluate};
use rslad_data::{Batch, Dataset, Loader, in_order};
use rslad_models::checkpoint::Provenance;
use rslad_models::{Classifier, Frozen, Network};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
    checks::fit(recipe, inputs)?;
    let student = Network::new(&recipe.student, recipe.seed)?;
    let fresh = Sgd::new(recipe.optim.momentum, recipe.optim.weight_decay);
    let averages = Averages::new(recipe.average.as_ref());
    let resumed = state::resume(dir, &student, fresh.clone(), averages.clone())?;
    let (position, sgd, averages) = resumed.unwrap_or_else(|| (Position::start(), fresh, averages));
    if position.epoch > recipe.schedule.epochs {
        return Ok(Outcome::AlreadyFinished);
    }
    let run = Run {
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
        metrics: Metrics::open(dir.file("metrics.jsonl"), position.metrics)?,
        position,
        saved: Instant::now(),
        times: Times::default(),
    };
    run.follow(observer, stop)
}

/// A state is saved at least this often, however long an epoch is: what a crash can cost.
const SAVE_EVERY: Duration = Duration::from_secs(600);

struct Run<'r> {
    recipe: &'r Recipe,
    inputs: &'r Inputs,
    dir: &'r RunDir,
    student: &'r Network,
    method: Box<dyn Method>,
    loader: Loader<'r>,
    suite: Suite,
    players: Players<'r>,
    sgd: Sgd,
    averages: Averages,
    metrics: Metrics,
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
            self.step(&batch?, observer)?;
            let stopped = stop.load(Ordering::Relaxed);
            if stopped || self.saved.elapsed() >= SAVE_EVERY {
                self.save()?;
            }
            if stopped {
                return Ok(Outcome::Stopped);
            }
        }
        self.end_epoch(observer, stop)
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
        let before = self.buffers()?;
        let clock = Instant::now();
        let out = step(self.method.as_ref(), &self.recipe.step(), &mut self.players, &input)?;
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
                    self.restore(&before)?;
                    self.position.skipped += 1;
                    Update::Skipped
                }
                Verdict::Stop(what) => {
                    self.restore(&before)?;
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

    /// Copies of the running statistics, which the forwards of a step change.
    fn buffers(&self) -> Result<Vec<Tensor>> {
        let copies = self.student.params().buffers().map(|(_, buffer)| buffer.as_detached_tensor().copy());
        Ok(copies.collect::<candle_core::Result<_>>()?)
    }

    fn restore(&self, buffers: &[Tensor]) -> Result<()> {
        for ((_, buffer), before) in self.student.params().buffers().zip(buffers) {
            buffer.set(before)?;
        }
        Ok(())
    }

    /// Writes a step down that is not finite; the error that it ends the run with.
    fn not_finite(&mut self, what: &str, bad: &dump::Step<'_>) -> Error {
        let path = self.dir.file(&dump::file_name(bad.epoch, bad.step));
        if let Err(error) = dump::write(&path, self.recipe, self.student, bad) {
            tracing::warn!("the step cannot be written down: {error}");
        }
        let (epoch, step, dump) = (bad.epoch, bad.step, path.display().to_string());
        Error::NotFinite { what: what.into(), epoch, step, dump }
    }

    fn end_epoch(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let (epoch, epochs) = (self.position.epoch, self.recipe.schedule.epochs);
        let before = (self.position.clone(), self.averages.clone());
        self.averages.after_epoch(self.student, epoch)?;
        let evals = match epoch % self.recipe.select.every == 0 || epoch == epochs {
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
        let stopped = stop.load(Ordering::Relaxed) && epoch < epochs;
        Ok(if stopped { Outcome::Stopped } else { Outcome::Finished })
    }

    /// Saves what resume needs: the run goes on from here.
    fn save(&mut self) -> Result<()> {
        let clock = Instant::now();
        self.position.metrics = self.metrics.sync()?;
        state::save(self.dir, self.student, &self.sgd, &self.averages, &mut self.position)?;
        self.times.saving += clock.elapsed();
        self.saved = Instant::now();
        Ok(())
    }

    /// Evaluates the student, and its averages beside it; nothing when told to stop meanwhile.
    fn evaluate(&mut self, stop: &AtomicBool) -> Result<Option<Vec<EvalEvent>>> {
        let mut events = Vec::new();
        events.extend(self.evaluate_one(None, self.student, stop)?);
        let averages: Vec<Average> = self.averages.begun().cloned().collect();
        for average in averages {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let images =
                self.loader.epoch(self.position.epoch).map(|batch| Ok::<_, Error>(batch?.x().clone()));
            let network = average.network(self.student, images)?;
            events.extend(self.evaluate_one(Some(average.name()), &network, stop)?);
        }
        let all = 1 + self.averages.begun().count();
        Ok((events.len() == all).then_some(events))
    }

    /// Evaluates weights and keeps them if they are the best of their kind so far, or the last; nothing
    /// when told to stop meanwhile.
    fn evaluate_one(
        &mut self,
        average: Option<&'static str>,
        network: &Network,
        stop: &AtomicBool,
    ) -> Result<Option<EvalEvent>> {
        let select = &self.recipe.select;
        let frozen = network.freeze()?;
        let (f, data) = (Stoppable::new(&frozen, stop), &self.inputs.selection);
        let result = evaluate_on(&f, data, &self.suite, select.eps, self.recipe.seed, &mut ());
        if result.is_err() && stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let result = result?;
        let column = result.columns.last().ok_or_else(|| Error::Mismatch("a suite has columns".into()))?;
        let epoch = self.position.epoch;
        let now = Best {
            epoch,
            clean: result.clean().share(),
            robust: column.accuracy().share(),
            loss: match select.by {
                SelectBy::Robust => None,
                SelectBy::Loss => Some(self.selection_loss(network)?),
            },
        };
        let kept = match average {
            None => &mut self.position.best,
            Some(name) => self.position.best_averages.entry(name.into()).or_default(),
        };
        let best = kept.is_none_or(|kept| now.beats(&kept));
        if best {
            *kept = Some(now);
            let of = average.map_or(String::new(), |name| format!(", {name}"));
            let rule = format!("best {} on {}{of}", select.rule(), on_name(select.on));
            network.save(&self.file("best", average), &self.provenance(&rule, epoch))?;
        }
        if epoch == self.recipe.schedule.epochs {
            let rule = average.map_or("last".into(), |name| format!("last, {name}"));
            network.save(&self.file("last", average), &self.provenance(&rule, epoch))?;
        }
        let (n, on) = (self.inputs.selection.len(), on_name(select.on));
        let Best { clean, robust, loss, .. } = now;
        let weights = average.unwrap_or("raw");
        Ok(Some(EvalEvent { epoch, weights, on, n, clean, robust, loss, best }))
    }

    /// The method's mean loss on the images to select on, in eval mode: the same attack starts each time.
    fn selection_loss(&self, network: &Network) -> Result<f64> {
        let Inputs { teacher, second_teacher, selection, .. } = self.inputs;
        let mut players = Players::new(network, teacher.as_ref(), second_teacher.as_ref())?;
        let mut sum = 0.0;
        for batch in in_order(selection, self.recipe.data.batch)? {
            let batch = batch?;
            let input = StepInput {
                x: batch.x(),
                y: batch.y(),
                ids: batch.ids(),
                soft_labels: None,
                draws: Draws::Keyed { seed: self.recipe.seed, epoch: 0 },
                progress: Progress { epoch: self.position.epoch, epochs: self.recipe.schedule.epochs },
            };
            let terms = judge(self.method.as_ref(), &self.recipe.step(), &mut players, &input)?;
            sum += terms.value()? * batch.len() as f64;
        }
        Ok(sum / selection.len() as f64)
    }

    /// `best.safetensors`, or `best-ema.safetensors`.
    fn file(&self, which: &str, average: Option<&str>) -> std::path::PathBuf {
        let suffix = average.map_or(String::new(), |name| format!("-{name}"));
        self.dir.file(&format!("{which}{suffix}.safetensors"))
    }

    fn provenance(&self, selection: &str, epoch: u64) -> Provenance {
        let mut provenance = Provenance::new();
        let mut note = |key: &str, value: serde_json::Value| provenance.insert(key.to_string(), value);
        note("recipe_sha256", self.recipe.hash().into());
        note("method", self.recipe.method["name"].as_str().into());
        note("data", self.recipe.data.set.as_str().into());
        note("seed", self.recipe.seed.into());
        note("epoch", epoch.into());
        note("selection", selection.into());
        note("train_eps", self.recipe.inner.as_ref().map(|inner| inner.eps.to_string()).into());
        note("eval_eps", self.recipe.select.eps.to_string().into());
        note("rslad_version", env!("CARGO_PKG_VERSION").into());
        provenance
    }

    fn emit(&mut self, event: Event, observer: &mut dyn Observer) -> Result<()> {
        self.metrics.append(&event)?;
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

fn on_name(on: SelectOn) -> &'static str {
    match on {
        SelectOn::Validation => "validation",
        SelectOn::Test => "test",
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
        let batch = batch?;
        let predicted: Tensor = f.logits(batch.x())?.argmax(1)?;
        let hits = predicted.eq(batch.y())?.to_dtype(candle_core::DType::U32)?.sum_all()?;
        correct += hits.to_scalar::<u32>()?;
    }
    Ok(f64::from(correct) / data.len() as f64)
}
