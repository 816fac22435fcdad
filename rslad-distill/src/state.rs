//! What resume needs, in one safetensors file: weights, statistics, momentum, and the position.
//!
//! A state is written under a temporary name, synced, renamed; then `LATEST.json` names it with its
//! hash. A crash at any point leaves a pointer to a whole state.

use crate::averaging::Averages;
use crate::error::{Error, Result};
use crate::optim::Sgd;
use crate::run_dir::RunDir;
use candle_core::{Device, Tensor};
use rslad_models::{Network, durable};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The version of the format that this build writes.
const FORMAT: u32 = 1;

/// Where a run is, and what it has seen that its next events depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) format: u32,
    /// The epoch of the next step, from 1; one past the last when the run is finished.
    pub(crate) epoch: u64,
    /// The steps of that epoch already done.
    pub(crate) steps_done: u64,
    /// The bytes of `metrics.jsonl` that belong to this state.
    pub(crate) metrics: u64,
    /// The best evaluation so far.
    pub(crate) best: Option<Best>,
    /// The best evaluation of each average so far.
    #[serde(default)]
    pub(crate) best_averages: BTreeMap<String, Option<Best>>,
    /// How many weights went into each average.
    #[serde(default)]
    pub(crate) averaged: BTreeMap<String, u64>,
    /// Sums over the images of the present epoch.
    pub(crate) sums: Sums,
}

/// The evaluation that wrote `best.safetensors`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Best {
    pub(crate) epoch: u64,
    pub(crate) clean: f64,
    pub(crate) robust: f64,
    /// What chose it, where that was the loss.
    #[serde(default)]
    pub(crate) loss: Option<f64>,
}

impl Best {
    /// Whether it is to be kept in place of `kept`.
    pub(crate) fn beats(&self, kept: &Self) -> bool {
        match (self.loss, kept.loss) {
            (Some(loss), Some(lowest)) => loss < lowest,
            _ => self.robust > kept.robust,
        }
    }
}

/// Sums over the images of an epoch, for its means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) images: f64,
    pub(crate) loss: f64,
    pub(crate) terms: BTreeMap<String, f64>,
}

impl Position {
    /// The beginning of a run.
    pub(crate) fn start() -> Self {
        Self {
            format: FORMAT,
            epoch: 1,
            steps_done: 0,
            metrics: 0,
            best: None,
            best_averages: BTreeMap::new(),
            averaged: BTreeMap::new(),
            sums: Sums::default(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Latest {
    file: String,
    sha256: String,
}

/// Writes a state and points to it; returns its file name. Older states but one are removed.
pub(crate) fn save(
    dir: &RunDir,
    student: &Network,
    sgd: &Sgd,
    averages: &Averages,
    position: &mut Position,
) -> Result<String> {
    let name = file_name(position);
    position.averaged = averages.seen();
    let mut tensors: Vec<(String, Tensor)> =
        student.params().state_dict()?.into_iter().map(|(name, t)| (format!("model.{name}"), t)).collect();
    for ((parameter, _), velocity) in student.parameters().zip(sgd.velocity()) {
        tensors.push((format!("optim.{parameter}"), velocity.clone()));
    }
    tensors.extend(averages.tensors());
    let header = serde_json::to_string(position).expect("a position is plain data");
    let header = HashMap::from([("rslad-state".to_string(), header)]);
    let bytes = safetensors::serialize(tensors, Some(header))
        .map_err(|e| Error::RunDir { path: dir.file(&name), message: e.to_string() })?;
    durable::write(&dir.file(&name), &bytes)?;
    let previous = latest(dir)?.map(|l| l.file);
    let latest = Latest { file: name.clone(), sha256: hex(&bytes) };
    let text = serde_json::to_string_pretty(&latest).expect("a pointer is plain data");
    durable::write(&dir.file("LATEST.json"), text.as_bytes())?;
    remove_others(dir, &[Some(name.as_str()), previous.as_deref()])?;
    Ok(name)
}

/// The name of a position's file; names sort as positions do.
pub(crate) fn file_name(position: &Position) -> String {
    format!("state-{:05}-{:06}.safetensors", position.epoch, position.steps_done)
}

/// Restores the newest state into a student; the position, the optimizer's past and the averages, or
/// nothing when the directory holds no state.
pub(crate) fn resume(
    dir: &RunDir,
    student: &Network,
    sgd: Sgd,
    averages: Averages,
) -> Result<Option<(Position, Sgd, Averages)>> {
    let Some(Latest { file, sha256 }) = latest(dir)? else { return Ok(None) };
    let path = dir.file(&file);
    let bytes = std::fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    let damaged = |message: String| rslad_models::Error::Checkpoint { path: path.clone(), message };
    if hex(&bytes) != sha256 {
        return Err(damaged(
            "is damaged: its SHA-256 is not the one in LATEST.json; start again in another --out".into(),
        )
        .into());
    }
    let position = position(&bytes).map_err(damaged)?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    let part = |prefix: &str| -> HashMap<String, Tensor> {
        let named =
            tensors.iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_string(), v.clone())));
        named.collect()
    };
    student.params().load_state_dict(&part("model."))?;
    let velocity = part("optim.");
    let velocity: Vec<Tensor> =
        student.parameters().filter_map(|(name, _)| velocity.get(name).cloned()).collect();
    if !velocity.is_empty() && velocity.len() != student.parameters().count() {
        return Err(damaged("lacks the momentum of some parameters".into()).into());
    }
    let averages = averages
        .with_state(&tensors, &position.averaged)
        .map_err(|name| damaged(format!("lacks the average `{name}`")))?;
    Ok(Some((position, sgd.with_velocity(velocity), averages)))
}

fn position(bytes: &[u8]) -> std::result::Result<Position, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let text =
        header.metadata().as_ref().and_then(|m| m.get("rslad-state")).ok_or("is not a state of rslad")?;
    let position: Position = serde_json::from_str(text).map_err(|e| format!("damaged position: {e}"))?;
    match position.format {
        FORMAT => Ok(position),
        newer => Err(format!("has format {newer}, this build reads {FORMAT}; use a newer rslad")),
    }
}

fn latest(dir: &RunDir) -> Result<Option<Latest>> {
    let path = dir.file("LATEST.json");
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            let message = format!("is damaged ({e}); start again in another --out");
            rslad_models::Error::Checkpoint { path, message }.into()
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path, source }),
    }
}

fn remove_others(dir: &RunDir, keep: &[Option<&str>]) -> Result<()> {
    let failed = |source| Error::Io { path: dir.path().into(), source };
    for entry in std::fs::read_dir(dir.path()).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with("state-") && !keep.contains(&Some(name)) {
            remove(&dir.file(name))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(|source| Error::Io { path: path.into(), source })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
