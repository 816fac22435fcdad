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
use crate::per_example::{self, PerExample};
use crate::progress::{EvaluationProgress, Show};
use crate::result_file::{DataInfo, Question, ResultFile, Shard};
use crate::suite::Resolved;
use anyhow::{Context, Result};
use candle_core::Tensor;
use rslad_attacks::evaluate::Source;
use rslad_attacks::{Error as AttackError, Evaluation, Examples, Protocol, checks};
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
    per_example: PerExample,
    suite: String,
}

/// How many examples the checks of a model look at.
const CHECKED: usize = 64;

/// Attacks all images, or those of the question's shard, going on where an earlier sitting was interrupted.
pub(crate) fn run(job: &Job<'_>, show: Show, stop: &AtomicBool) -> Result<Finished> {
    let images = Images::new(job.data, job.question.shard);
    let question = job.question.hash(&job.suite.text);
    let mut journal = Journal::open(job.dir, &question, job.save, job.data.shape())?;
    let mut progress = EvaluationProgress::new(show, job.name);
    progress.continues(journal.len());
    let f = Stoppable::new(job.f, stop);
    let Question { eps, seed, .. } = job.question;
    let protocol = Protocol { suite: &job.suite.suite, eps, seed, lanes: job.batch_size };
    let evaluated = protocol.run(&f, &images, &mut journal, &mut progress).and_then(|evaluation| {
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
    let images = (job.save == SaveAdversarial::Yes).then(|| per_example::Images {
        columns: evaluation.columns.iter().map(|column| column.name.clone()).collect(),
        ids: evaluation.ids.clone(),
        points: journal.into_points(),
        data: job.data.clone(),
    });
    let per_example = PerExample::new(evaluation.per_example()?, images);
    let result = result_file(&job.question, &evaluation, trust, Some(cost), job.warnings.clone());
    Ok(Finished { result, per_example, suite: job.suite.text.clone() })
}

impl Finished {
    /// Writes the three files.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        self.per_example.write(dir)?; // first: the one a disk may not hold
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
        Self { result, per_example: PerExample::new(tensors, None), suite }
    }
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
