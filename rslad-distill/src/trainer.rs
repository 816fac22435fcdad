//! A run from its recipe to its checkpoints: epochs of steps, evaluations, saves; stopped at any step
//! and continued, it ends with the same bytes.

use crate::averaging::{Average, Averages};
use crate::error::{Error, Result};
use crate::method::{Labels, Method, Progress};
use crate::observer::{Beginning, EpochEvent, EvalEvent, Event, Observer, SavedEvent, StepEvent};
use crate::optim::{Sgd, global_norm};
use crate::recipe::{DataConfig, Recipe, SelectBy, SelectOn};
use crate::run_dir::{Metrics, RunDir};
use crate::soft_labels::SoftLabels;
use crate::state::{self, Best, Position, Sums};
use crate::step::{Players, StepInput, judge, step};
use candle_core::Tensor;
use rslad_attacks::suite::Suite;
use rslad_attacks::{Draws, Evaluation, Examples, evaluate};
use rslad_data::{Batch, Dataset, Loader, in_order};
use rslad_models::checkpoint::Provenance;
use rslad_models::{Classifier, Frozen, Network};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

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
/// `stop` is looked at after every step.
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
    check(recipe, inputs)?;
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
    };
    run.follow(observer, stop)
}

/// Whether data, teachers and student fit each other: what [`train`] looks at first, for callers that
/// want to know before they make a directory.
///
/// # Errors
/// When they differ in classes or channels, the images are too small, or the last batch of an epoch is.
pub fn check(recipe: &Recipe, inputs: &Inputs) -> Result<()> {
    let (classes, [channels, height, width]) = (inputs.train.n_classes(), inputs.train.shape());
    let graph = recipe.student.graph()?;
    let teachers = [("teacher", &inputs.teacher), ("second teacher", &inputs.second_teacher)];
    let mut counts = vec![("data", classes), ("student", graph.n_classes())];
    counts.extend(teachers.iter().filter_map(|(name, t)| Some((*name, t.as_ref()?.n_classes()))));
    if counts.iter().any(|(_, n)| *n != classes) {
        let list: Vec<String> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
        return Err(Error::Mismatch(format!(
            "class counts differ: {}; set `student.classes`",
            list.join(", ")
        )));
    }
    if graph.in_channels() != channels {
        let got = graph.in_channels();
        return Err(Error::Mismatch(format!(
            "`student.in_channels` is {got}, but the images of `{}` have {channels}",
            recipe.data.set
        )));
    }
    let unlabeled = inputs.train.n_unlabeled();
    if unlabeled > 0 && recipe.method()?.plan().labels == Labels::Read {
        return Err(Error::Mismatch(format!(
            "method {} reads labels, but {unlabeled} images of `data.extra` have none; remove `[[data.extra]]`, or \
             take a method that reads none, such as rslad",
            recipe.method["name"].as_str().unwrap_or_default()
        )));
    }
    batches_suffice(recipe, inputs.train.len())?;
    graph.shapes(height, width)?;
    let method = recipe.method["name"].as_str().unwrap_or_default();
    match inputs.soft_labels.as_ref().and_then(|_| SoftLabels::refusal(method, &recipe.method().ok()?.plan()))
    {
        Some(refusal) => Err(Error::Mismatch(refusal)),
        None => Ok(()),
    }
}

/// No batch of an epoch, and no micro-batch of one, is a single image.
fn batches_suffice(recipe: &Recipe, n: usize) -> Result<()> {
    let DataConfig { batch, micro_batch, .. } = recipe.data;
    let mut cuts = vec![("batch", n, batch)];
    cuts.extend(micro_batch.map(|micro| ("micro_batch", batch, micro)));
    cuts.extend(micro_batch.map(|micro| ("micro_batch", n % batch, micro)));
    match cuts.into_iter().find(|(_, whole, part)| *part == 1 || whole % part == 1) {
        Some((what, whole, part)) => Err(Error::Mismatch(format!(
            "the last {what} of {whole} images in steps of {part} has one image, too few for batch statistics; change `data.{what}`"
        ))),
        None => Ok(()),
    }
}

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
}

impl Run<'_> {
    fn follow(mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        observer.begin(&Beginning {
            epochs: self.recipe.schedule.epochs,
            steps_per_epoch: self.loader.batches_per_epoch() as u64,
            epoch: self.position.epoch,
            steps_done: self.position.steps_done,
        });
        while self.position.epoch <= self.recipe.schedule.epochs {
            let epoch = self.position.epoch;
            let _span = tracing::info_span!("epoch", epoch).entered();
            for batch in
                self.loader.epoch(epoch).from_batch(self.position.steps_done as usize).prefetched(AHEAD)
            {
                self.step(&batch?, observer)?;
                if stop.load(Ordering::Relaxed) {
                    self.position.metrics = self.metrics.sync()?;
                    self.save()?;
                    return Ok(Outcome::Stopped);
                }
            }
            self.end_epoch(observer)?;
        }
        Ok(Outcome::Finished)
    }

    fn step(&mut self, batch: &Batch, observer: &mut dyn Observer) -> Result<()> {
        let (epoch, number) = (self.position.epoch, self.position.steps_done + 1);
        let known = match (&self.inputs.soft_labels, &self.inputs.teacher) {
            (Some(soft_labels), Some(teacher)) => Some(soft_labels.logits(teacher, batch)?),
            _ => None,
        };
        let input = StepInput {
            x: batch.x(),
            y: batch.y(),
            ids: batch.ids(),
            soft_labels: known.as_ref(),
            draws: Draws::Keyed { seed: self.recipe.seed, epoch },
            progress: Progress { epoch, epochs: self.recipe.schedule.epochs },
        };
        let out = step(self.method.as_ref(), &self.recipe.step(), &mut self.players, &input)?;

        let loss = out.terms.value()?;
        let grad_norm = global_norm(&out.gradients)?;
        for (what, value) in [("the loss", loss), ("the gradient", grad_norm)] {
            if !value.is_finite() {
                return Err(Error::NotFinite { what: what.into(), epoch, step: number });
            }
        }
        let steps = self.loader.batches_per_epoch() as u64;
        let lr = self.recipe.schedule.lr(self.recipe.optim.lr, epoch, number, steps);
        self.sgd.step(self.student.parameters(), &out.gradients, lr)?;
        self.averages.after_step(self.student)?;

        let terms: BTreeMap<String, f64> =
            out.terms.means()?.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
        self.position.sums.add(batch.len() as f64, loss, &terms);
        self.position.steps_done = number;
        self.emit(Event::Step(StepEvent { epoch, step: number, lr, loss, terms, grad_norm }), observer)
    }

    fn end_epoch(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let (epoch, epochs) = (self.position.epoch, self.recipe.schedule.epochs);
        let (loss, terms) = std::mem::take(&mut self.position.sums).means();
        self.emit(Event::Epoch(EpochEvent { epoch, loss, terms }), observer)?;
        self.averages.after_epoch(self.student, epoch)?;
        if epoch % self.recipe.select.every == 0 || epoch == epochs {
            self.evaluate(observer)?;
        }
        self.position.epoch += 1;
        self.position.steps_done = 0;
        let file = state::file_name(&self.position);
        self.emit(Event::Saved(SavedEvent { epoch, file }), observer)?;
        self.position.metrics = self.metrics.sync()?;
        self.save()
    }

    fn save(&mut self) -> Result<()> {
        state::save(self.dir, self.student, &self.sgd, &self.averages, &mut self.position)?;
        Ok(())
    }

    /// Evaluates the student, and its averages beside it.
    fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.evaluate_one(None, self.student, observer)?;
        let averages: Vec<Average> = self.averages.begun().cloned().collect();
        for average in averages {
            let images =
                self.loader.epoch(self.position.epoch).map(|batch| Ok::<_, Error>(batch?.x().clone()));
            let network = average.network(self.student, images)?;
            self.evaluate_one(Some(average.name()), &network, observer)?;
        }
        Ok(())
    }

    /// Evaluates weights and keeps them if they are the best of their kind so far, or the last.
    fn evaluate_one(
        &mut self,
        average: Option<&'static str>,
        network: &Network,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let select = &self.recipe.select;
        let frozen = network.freeze()?;
        let result =
            evaluate_on(&frozen, &self.inputs.selection, &self.suite, select.eps, self.recipe.seed, &mut ())?;
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
        self.emit(Event::Eval(EvalEvent { epoch, weights, on, n, clean, robust, loss, best }), observer)
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
        let mean = |sum: f64| sum / self.images;
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
