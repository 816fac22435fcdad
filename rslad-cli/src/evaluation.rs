//! An evaluation from a model and a data set to the files of its directory.
//!
//! | file | what |
//! |---|---|
//! | `suite.toml` | the attacks in full |
//! | `per_example.safetensors` | what became of each image |
//! | `result.json` | the numbers; written last, so where it is the evaluation is whole |

use crate::exit::Ended;
use crate::progress::{EvaluationProgress, Show};
use crate::result_file::{DataInfo, Question, ResultFile};
use crate::suite::Resolved;
use anyhow::{Context, Result};
use candle_core::Tensor;
use rslad_attacks::{Evaluation, Examples, Perturbed, evaluate};
use rslad_data::{Batch, Dataset, in_order};
use rslad_models::{Classifier, Error as ModelError, Gradient, Objective, durable};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the adversarial images are written too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaveAdversarial {
    Yes,
    No,
}

/// What to evaluate and how.
pub(crate) struct Job<'a> {
    /// What progress calls it.
    pub(crate) name: &'a str,
    pub(crate) f: &'a dyn Classifier,
    pub(crate) data: &'a Dataset,
    pub(crate) question: Question,
    pub(crate) suite: &'a Resolved,
    pub(crate) batch_size: usize,
    pub(crate) save: SaveAdversarial,
    /// What a reader must know before believing the numbers, known before they are.
    pub(crate) warnings: Vec<String>,
}

/// An evaluation that is whole, and not yet on disk.
pub(crate) struct Finished {
    pub(crate) result: ResultFile,
    tensors: BTreeMap<String, Tensor>,
    suite: String,
}

/// Attacks all images.
pub(crate) fn run(job: &Job<'_>, show: Show, stop: &AtomicBool) -> Result<Finished> {
    let mut watcher = Watcher {
        progress: EvaluationProgress::new(show, job.name, job.data.len()),
        save: job.save,
        points: BTreeMap::new(),
    };
    let f = Stoppable { f: job.f, stop };
    let mut failed = None;
    let examples = in_order(job.data, job.batch_size)?
        .map_while(|batch| batch.map(|b| examples(&b)).map_err(|e| failed = Some(e)).ok());
    let Question { eps, seed, .. } = job.question;
    let evaluation = match evaluate(&f, examples, &job.suite.suite, eps, seed, &mut watcher) {
        Err(_) if stop.load(Ordering::Relaxed) => return Err(Ended::EvaluationInterrupted.into()),
        outcome => outcome?,
    };
    if let Some(error) = failed {
        return Err(error.into());
    }
    let mut tensors = evaluation.per_example()?;
    tensors.extend(watcher.adversarial(&evaluation, job.data)?);
    Ok(Finished { result: result_file(job, &evaluation), tensors, suite: job.suite.text.clone() })
}

impl Finished {
    /// Writes the three files.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let bytes = safetensors::serialize(&self.tensors, None).context("per_example.safetensors")?;
        durable::write(&dir.join("per_example.safetensors"), &bytes)?; // first: the one a disk may not hold
        durable::write(&dir.join("suite.toml"), self.suite.as_bytes())?;
        let text = serde_json::to_string_pretty(&self.result).context("result.json")? + "\n";
        Ok(durable::write(&dir.join("result.json"), text.as_bytes())?)
    }
}

/// Whether a whole evaluation's directory holds its adversarial images.
pub(crate) fn has_adversarial(dir: &Path) -> bool {
    let Ok(bytes) = std::fs::read(dir.join("per_example.safetensors")) else { return false };
    let Ok(file) = safetensors::SafeTensors::deserialize(&bytes) else { return false };
    file.names().iter().any(|name| name.ends_with("/x_adv"))
}

/// A batch as the harness takes it.
pub(crate) fn examples(batch: &Batch) -> Examples {
    Examples { ids: batch.ids().to_vec(), x: batch.x().clone(), y: batch.y().clone() }
}

/// What `result.json` says of a data set.
pub(crate) fn data_info(data: &Dataset) -> DataInfo {
    DataInfo {
        name: data.name().into(),
        split: data.split().to_string(),
        n: data.len(),
        sha256: data.sha256(),
    }
}

fn result_file(job: &Job<'_>, evaluation: &Evaluation) -> ResultFile {
    let summary = evaluation.summary();
    ResultFile {
        schema: 1,
        model: job.question.model.clone(),
        data: job.question.data.clone(),
        eps: summary.eps,
        seed: summary.seed,
        version: env!("CARGO_PKG_VERSION").into(),
        clean: summary.clean,
        columns: summary.columns,
        warnings: [job.warnings.clone(), summary.warnings].concat(),
    }
}

/// A classifier that refuses to go on once it is told to stop, so that an attack of minutes ends within
/// one pass.
struct Stoppable<'a> {
    f: &'a dyn Classifier,
    stop: &'a AtomicBool,
}

impl Stoppable<'_> {
    fn check(&self) -> rslad_models::Result<()> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(ModelError::Other("told to stop".into())),
            false => Ok(()),
        }
    }
}

impl Classifier for Stoppable<'_> {
    fn n_classes(&self) -> usize {
        self.f.n_classes()
    }

    fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
        self.check()?;
        self.f.logits(x)
    }

    fn gradient(&self, x: &Tensor, objective: &dyn Objective) -> rslad_models::Result<Gradient> {
        self.check()?;
        self.f.gradient(x, objective)
    }
}

/// Shows progress and keeps the adversarial images where they are asked for.
struct Watcher {
    progress: EvaluationProgress,
    save: SaveAdversarial,
    points: BTreeMap<String, BTreeMap<u64, Tensor>>,
}

impl rslad_attacks::Observer for Watcher {
    fn column(&mut self, name: &str, ids: &[u64], points: &Perturbed) {
        self.progress.column(name, ids, points);
        if self.save == SaveAdversarial::Yes {
            let rows = ids.iter().enumerate().filter_map(|(i, &id)| Some((id, points.x_adv.get(i).ok()?)));
            self.points.entry(name.to_string()).or_default().extend(rows);
        }
    }

    fn batch(&mut self, n: usize) {
        self.progress.batch(n);
    }
}

impl Watcher {
    /// `<column>/x_adv` `[N, C, H, W]` of every column: the clean image where no attack was run.
    fn adversarial(&self, evaluation: &Evaluation, data: &Dataset) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        if self.save == SaveAdversarial::No {
            return Ok(tensors);
        }
        let row_of: BTreeMap<u64, usize> =
            data.ids().iter().enumerate().map(|(row, &id)| (id, row)).collect();
        let none = BTreeMap::new();
        for column in &evaluation.columns {
            let points = self.points.get(&column.name).unwrap_or(&none);
            let image = |id: &u64| match points.get(id) {
                Some(point) => Ok(point.clone()),
                None => data.images_f32(&[row_of[id]])?.get(0).map_err(anyhow::Error::from),
            };
            let images = evaluation.ids.iter().map(image).collect::<Result<Vec<Tensor>>>()?;
            tensors.insert(format!("{}/x_adv", column.name), Tensor::stack(&images, 0)?);
        }
        Ok(tensors)
    }
}
