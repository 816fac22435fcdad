//! Pictures of models, as numbers: the same images attacked for each of them, and a slice of the loss
//! around these images. A report draws them later, without models or data.
//!
//! | file | what |
//! |---|---|
//! | `look.safetensors` | `x_nat` `[n, C, H, W]`, `label` `[n]`, and for each model `<name>/x_adv`, `<name>/prediction` |
//! | `look.json` | names of classes and models, radius, attack, the slices |

use crate::device;
use crate::exit::Ended;
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use rslad_attacks::{Ball, Draws, Linf, Problem, attacks, landscape, perturb};
use rslad_data::Dataset;
use rslad_models::{Classifier, Frozen, Network, durable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is looked at.
pub(crate) struct Asked<'a> {
    pub(crate) attack: &'a str,
    pub(crate) eps: Linf,
    pub(crate) seed: u64,
    /// At most so many images: the first that all models classify correctly.
    pub(crate) n: usize,
}

/// `look.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookFile {
    schema: u32,
    pub(crate) data: String,
    pub(crate) attack: String,
    pub(crate) eps: String,
    pub(crate) seed: u64,
    pub(crate) classes: Vec<String>,
    pub(crate) models: Vec<String>,
    /// Positions in radii along both directions of a slice.
    pub(crate) at: Vec<f64>,
    /// The mean loss, rows along the gradient, for each model.
    pub(crate) loss: BTreeMap<String, Vec<Vec<f64>>>,
}

/// What was seen.
pub(crate) struct Look {
    file: LookFile,
    tensors: BTreeMap<String, Tensor>,
}

pub(crate) const JSON: &str = "look.json";
pub(crate) const TENSORS: &str = "look.safetensors";
/// The sides of a slice.
const POINTS: usize = 21;
/// How many images are tried at a time in search of those that all models know.
const BATCH: usize = 100;

/// Attacks the first images that all models know, once for each model, and slices the loss around them.
pub(crate) fn look(
    models: &[(String, Network)],
    data: &Dataset,
    asked: &Asked<'_>,
    stop: &AtomicBool,
) -> Result<Look> {
    let frozen: Vec<Frozen> =
        models.iter().map(|(_, network)| device::frozen(network)).collect::<Result<_>>()?;
    let rows = known_to_all(&frozen, data, asked.n)?;
    let x_nat = data.images_f32(&rows)?;
    let labels: Vec<u32> = rows.iter().map(|&row| data.label(row)).collect();
    let y = Tensor::new(labels, &Device::Cpu)?;
    let ids: Vec<u64> = rows.iter().map(|&row| data.ids()[row]).collect();
    let draws = Draws::Keyed { seed: asked.seed, epoch: 0 };
    let problem = Problem::new(Ball::new(&x_nat, asked.eps)?, &y, ids, draws)?;
    let attack = attacks::find(asked.attack)?.usually();
    let mut tensors = BTreeMap::from([("x_nat".to_string(), x_nat), ("label".to_string(), y)]);
    let (mut at, mut loss) = (vec![], BTreeMap::new());
    for ((name, _), f) in models.iter().zip(&frozen) {
        if stop.load(Ordering::Relaxed) {
            return Err(Ended::EvaluationInterrupted.into());
        }
        let found = perturb(f, attack.as_ref(), &problem)?;
        tensors.insert(format!("{name}/x_adv"), found.x_adv);
        tensors.insert(format!("{name}/prediction"), Tensor::new(found.predictions, &Device::Cpu)?);
        let slice = landscape::slice(f, &problem, POINTS)?;
        at = slice.at;
        loss.insert(name.clone(), slice.loss);
    }
    let file = LookFile {
        schema: 1,
        data: data.name().into(),
        attack: asked.attack.into(),
        eps: asked.eps.to_string(),
        seed: asked.seed,
        classes: data.class_names().to_vec(),
        models: models.iter().map(|(name, _)| name.clone()).collect(),
        at,
        loss,
    };
    Ok(Look { file, tensors })
}

impl Look {
    /// Writes both files.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let bytes = safetensors::serialize(&self.tensors, None).context(TENSORS)?;
        durable::write(&dir.join(TENSORS), &bytes)?;
        let text = serde_json::to_string(&self.file).context(JSON)? + "\n";
        Ok(durable::write(&dir.join(JSON), text.as_bytes())?)
    }
}

/// The rows of the first images that every model classifies correctly; not chosen by hand.
fn known_to_all(models: &[Frozen], data: &Dataset, n: usize) -> Result<Vec<usize>> {
    let mut known = vec![];
    let all: Vec<usize> = (0..data.len()).collect();
    for rows in all.chunks(BATCH) {
        let x = data.images_f32(rows)?;
        let mut right = vec![true; rows.len()];
        for f in models {
            let answers: Vec<u32> = f.logits(&x)?.argmax(1)?.to_vec1()?;
            right.iter_mut().zip(rows).zip(answers).for_each(|((r, &row), a)| *r &= a == data.label(row));
        }
        known.extend(rows.iter().zip(right).filter(|(_, right)| *right).map(|(&row, _)| row));
        if known.len() >= n {
            break;
        }
    }
    known.truncate(n);
    if known.is_empty() {
        known.extend(0..n.min(data.len())); // of models that learned nothing
    }
    Ok(known)
}
