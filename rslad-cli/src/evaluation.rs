//! An evaluation from a model and a data set to the files of its directory.
//!
//! | file | what |
//! |---|---|
//! | `suite.toml` | the attacks in full |
//! | `per_example.safetensors` | what became of each image |
//! | `result.json` | the numbers; written last, so where it is the evaluation is whole |
//! | `journal.*` | what is decided, while it runs |

use crate::exit::Ended;
use crate::journal::Journal;
use crate::model_cost::Cost;
use crate::progress::{EvaluationProgress, Show};
use crate::result_file::{DataInfo, Question, ResultFile, Shard};
use crate::suite::Resolved;
use anyhow::{Context, Result};
use candle_core::Tensor;
use rslad_attacks::evaluate::Source;
use rslad_attacks::{Error as AttackError, Evaluation, Examples, Place, Protocol, Verdict, checks};
use rslad_data::{Batch, Dataset};
use rslad_distill::stoppable::Stoppable;
use rslad_models::{Classifier, durable};
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
    /// Where what is decided is kept until the evaluation is whole.
    pub(crate) dir: &'a Path,
    /// What a reader must know before believing the numbers, known before they are.
    pub(crate) warnings: Vec<String>,
}

/// An evaluation that is whole, and not yet on disk.
pub(crate) struct Finished {
    pub(crate) result: ResultFile,
    tensors: BTreeMap<String, Tensor>,
    suite: String,
}

/// How many examples the checks of a model look at.
const CHECKED: usize = 64;

/// Attacks all images, or those of the question's shard, going on where an earlier sitting was interrupted.
pub(crate) fn run(job: &Job<'_>, show: Show, stop: &AtomicBool) -> Result<Finished> {
    let images = Images::new(job.data, job.question.shard);
    let question = job.question.hash(&job.suite.text);
    let mut journal = Journal::open(job.dir, &question, job.save, job.data.shape())?;
    let mut watcher = Watcher {
        progress: EvaluationProgress::new(show, job.name),
        save: job.save,
        points: BTreeMap::new(),
    };
    watcher.progress.continues(journal.len());
    let f = Stoppable::new(job.f, stop);
    let Question { eps, seed, .. } = job.question;
    let protocol = Protocol { suite: &job.suite.suite, eps, seed, lanes: job.batch_size };
    let evaluated = protocol.run(&f, &images, &mut journal, &mut watcher).and_then(|evaluation| {
        let first = |n: usize| images.examples(&(0..images.rows.len().min(n)).collect::<Vec<usize>>());
        let mut trust = checks::of_model(&f, &first(CHECKED)?, eps, seed)?;
        trust.extend(checks::of_results(&evaluation));
        let arch = &job.question.model.arch;
        let cost = Cost::measure(&f, arch, &first(Cost::images(arch, job.data.shape())?)?.x)?;
        Ok((evaluation, trust, cost))
    });
    let (evaluation, trust, cost) = match evaluated {
        Err(_) if stop.load(Ordering::Relaxed) => {
            return Err(match Journal::is_kept(job.dir) {
                true => Ended::Interrupted,
                false => Ended::EvaluationInterrupted,
            }
            .into());
        }
        outcome => outcome?,
    };
    let mut tensors = evaluation.per_example()?;
    tensors.extend(watcher.adversarial(&evaluation, job.data)?);
    let result = result_file(&job.question, &evaluation, trust, Some(cost), job.warnings.clone());
    Ok(Finished { result, tensors, suite: job.suite.text.clone() })
}

impl Finished {
    /// Writes the three files.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let bytes = safetensors::serialize(&self.tensors, None).context("per_example.safetensors")?;
        durable::write(&dir.join("per_example.safetensors"), &bytes)?; // first: the one a disk may not hold
        durable::write(&dir.join("suite.toml"), self.suite.as_bytes())?;
        let text = serde_json::to_string_pretty(&self.result).context("result.json")? + "\n";
        durable::write(&dir.join("result.json"), text.as_bytes())?;
        Journal::remove(dir);
        Ok(())
    }

    /// The numbers.
    pub(crate) fn result(&self) -> &ResultFile {
        &self.result
    }

    /// Of parts that were put together.
    pub(crate) fn assembled(result: ResultFile, tensors: BTreeMap<String, Tensor>, suite: String) -> Self {
        Self { result, tensors, suite }
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

pub(crate) fn result_file(
    question: &Question,
    evaluation: &Evaluation,
    trust: Vec<checks::Check>,
    cost: Option<Cost>,
    warnings: Vec<String>,
) -> ResultFile {
    let summary = evaluation.summary();
    ResultFile {
        schema: 1,
        model: question.model.clone(),
        source: question.source.clone(),
        data: question.data.clone(),
        shard: question.shard,
        eps: summary.eps,
        seed: summary.seed,
        version: env!("CARGO_PKG_VERSION").into(),
        cost,
        clean: summary.clean,
        columns: summary.columns,
        trust,
        warnings: [warnings, summary.warnings].concat(),
    }
}

/// The images of a data set, or of a shard of it, as the harness asks for them: as few as it needs.
pub(crate) struct Images<'a> {
    data: &'a Dataset,
    rows: Vec<usize>,
}

impl<'a> Images<'a> {
    pub(crate) fn new(data: &'a Dataset, shard: Option<Shard>) -> Self {
        Self { data, rows: shard.map_or(0..data.len(), |shard| shard.rows(data.len())).collect() }
    }
}

impl Source for Images<'_> {
    fn ids(&self) -> Vec<u64> {
        self.rows.iter().map(|&row| self.data.ids()[row]).collect()
    }

    fn examples(&self, rows: &[usize]) -> rslad_attacks::Result<Examples> {
        let rows: Vec<usize> = rows.iter().map(|&row| self.rows[row]).collect();
        let x = self.data.images_f32(&rows).map_err(|e| AttackError::Source(Box::new(e)))?;
        let labels: Vec<u32> = rows.iter().map(|&row| self.data.label(row)).collect();
        let ids = rows.iter().map(|&row| self.data.ids()[row]).collect();
        Ok(Examples { ids, y: Tensor::new(labels, x.device())?, x })
    }
}

/// Shows progress and keeps the adversarial images where they are asked for.
struct Watcher {
    progress: EvaluationProgress,
    save: SaveAdversarial,
    points: BTreeMap<String, BTreeMap<u64, Tensor>>,
}

impl rslad_attacks::Observer for Watcher {
    fn clean(&mut self, ids: &[u64], predictions: &[u32]) {
        self.progress.clean(ids, predictions);
    }

    fn stage(&mut self, place: &Place<'_>, standing: usize, known: usize) {
        self.progress.stage(place, standing, known);
    }

    fn advanced(&mut self, place: &Place<'_>, lanes: usize) {
        self.progress.advanced(place, lanes);
    }

    fn verdicts(&mut self, place: &Place<'_>, verdicts: &[Verdict]) {
        self.progress.verdicts(place, verdicts);
        if self.save == SaveAdversarial::No {
            return;
        }
        // A point is final where the example fell, or has no other attack to come.
        let ends = verdicts.iter().filter(|verdict| !verdict.robust || place.is_last());
        let points = ends.filter_map(|verdict| Some((verdict.id, verdict.x_adv.clone()?)));
        self.points.entry(place.column.to_string()).or_default().extend(points);
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
