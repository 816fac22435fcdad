//! An evaluation from a model and a data set to `result.json` and `per_example.safetensors`.

use crate::exit::Ended;
use crate::progress::{EvaluationProgress, Show};
use anyhow::{Context, Result};
use candle_core::Tensor;
use rslad_attacks::result::{CleanSummary, ColumnSummary};
use rslad_attacks::suite::Suite;
use rslad_attacks::{Evaluation, Examples, Linf, Perturbed, evaluate};
use rslad_data::{Batch, Dataset, in_order};
use rslad_models::{ArchSpec, Classifier, durable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// `result.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResultFile {
    pub(crate) schema: u32,
    pub(crate) model: ModelInfo,
    pub(crate) data: DataInfo,
    pub(crate) eps: Linf,
    pub(crate) seed: u64,
    pub(crate) version: String,
    pub(crate) clean: CleanSummary,
    pub(crate) columns: Vec<ColumnSummary>,
    pub(crate) warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelInfo {
    pub(crate) path: String,
    pub(crate) sha256: String,
    pub(crate) arch: ArchSpec,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataInfo {
    pub(crate) name: String,
    pub(crate) split: String,
    pub(crate) n: usize,
    pub(crate) sha256: String,
}

/// Whether the adversarial images are written too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaveAdversarial {
    Yes,
    No,
}

/// What to evaluate and how.
pub(crate) struct Job<'a> {
    pub(crate) name: &'a str,
    pub(crate) f: &'a dyn Classifier,
    pub(crate) model: ModelInfo,
    pub(crate) data: &'a Dataset,
    pub(crate) suite: &'a Suite,
    pub(crate) eps: Linf,
    pub(crate) seed: u64,
    pub(crate) batch_size: usize,
    pub(crate) save: SaveAdversarial,
}

/// Evaluates and writes the two files to `dir`; nothing is written before all is done.
pub(crate) fn run(job: Job<'_>, dir: &Path, show: Show, stop: &AtomicBool) -> Result<ResultFile> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let mut watcher = Watcher {
        progress: EvaluationProgress::new(show, job.name, job.data.len()),
        save: job.save,
        points: BTreeMap::new(),
    };
    let mut failed = None;
    let examples = in_order(job.data, job.batch_size)?
        .take_while(|_| !stop.load(Ordering::Relaxed))
        .map_while(|batch| batch.map(|b| examples(&b)).map_err(|e| failed = Some(e)).ok());
    let evaluation = evaluate(job.f, examples, job.suite, job.eps, job.seed, &mut watcher)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if evaluation.ids.len() < job.data.len() {
        return Err(Ended::Interrupted.into());
    }
    let mut tensors = evaluation.per_example()?;
    tensors.extend(watcher.adversarial(&evaluation, job.data)?);
    let result = result_file(&job, &evaluation);
    let bytes = safetensors::serialize(&tensors, None).context("per_example.safetensors")?;
    durable::write(&dir.join("per_example.safetensors"), &bytes)?;
    let text = serde_json::to_string_pretty(&result).context("result.json")? + "\n";
    durable::write(&dir.join("result.json"), text.as_bytes())?;
    Ok(result)
}

/// A batch as the harness takes it.
pub(crate) fn examples(batch: &Batch) -> Examples {
    Examples { ids: batch.ids().to_vec(), x: batch.x().clone(), y: batch.y().clone() }
}

fn result_file(job: &Job<'_>, evaluation: &Evaluation) -> ResultFile {
    let summary = evaluation.summary();
    let data = DataInfo {
        name: job.data.name().into(),
        split: job.data.split().to_string(),
        n: job.data.len(),
        sha256: job.data.sha256(),
    };
    ResultFile {
        schema: 1,
        model: job.model.clone(),
        data,
        eps: summary.eps,
        seed: summary.seed,
        version: env!("CARGO_PKG_VERSION").into(),
        clean: summary.clean,
        columns: summary.columns,
        warnings: summary.warnings,
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
    /// `<column>/x_adv` `[N, C, H, W]`: the clean image where no attack was run.
    fn adversarial(&self, evaluation: &Evaluation, data: &Dataset) -> Result<BTreeMap<String, Tensor>> {
        let row_of: BTreeMap<u64, usize> =
            data.ids().iter().enumerate().map(|(row, &id)| (id, row)).collect();
        let mut tensors = BTreeMap::new();
        for (name, points) in &self.points {
            let image = |id: &u64| match points.get(id) {
                Some(point) => Ok(point.clone()),
                None => data.images_f32(&[row_of[id]])?.get(0).map_err(anyhow::Error::from),
            };
            let images = evaluation.ids.iter().map(image).collect::<Result<Vec<Tensor>>>()?;
            tensors.insert(format!("{name}/x_adv"), Tensor::stack(&images, 0)?);
        }
        Ok(tensors)
    }
}
