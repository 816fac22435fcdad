//! What resume needs, in one sealed safetensors file: weights, statistics, momentum, and the position.
//!
//! A state is written under a temporary name, synced, renamed; then `LATEST.json` names it with its
//! hash. A crash at any point leaves a pointer to a whole state. Should that state be damaged later, or
//! the pointer, the newest state whose seal is whole takes its place: the run goes on from there to the
//! same bytes.

use crate::averaging::Averages;
use crate::error::{Error, Result};
use crate::optim::Sgd;
use crate::run_dir::RunDir;
use candle_core::Tensor;
use rslad_models::checkpoint::seal::Seal;
use rslad_models::checkpoint::{self, seal};
use rslad_models::{Error as ModelError, Network, durable};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The version of the format that this build writes. Version 1 had no seal.
const FORMAT: u32 = 2;
/// The metadata key of a state.
const KEY: &str = "rslad-state";

/// Where a run is, and what it has seen that its next events depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) format: u32,
    #[serde(default)]
    seal: String,
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
    /// The steps in a row, up to now, that were skipped because they were not finite.
    #[serde(default)]
    pub(crate) skipped: u64,
    /// How many ranks took its steps, where the recipe fixes no shards: others would go on to other bits.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(crate) ranks: usize,
}

fn one() -> usize {
    1
}

fn is_one(ranks: &usize) -> bool {
    *ranks == 1
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
    /// The beginning of a run of so many ranks.
    pub(crate) fn start(ranks: usize) -> Self {
        Self {
            format: FORMAT,
            seal: seal::OPEN.into(),
            epoch: 1,
            steps_done: 0,
            metrics: 0,
            best: None,
            best_averages: BTreeMap::new(),
            averaged: BTreeMap::new(),
            sums: Sums::default(),
            skipped: 0,
            ranks,
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
    let position = Position { format: FORMAT, seal: seal::OPEN.into(), ..position.clone() };
    let header = serde_json::to_string(&position).expect("a position is plain data");
    let header = HashMap::from([(KEY.to_string(), header)]);
    let bytes = safetensors::serialize(tensors, Some(header))
        .map_err(|e| Error::RunDir { path: dir.file(&name), message: e.to_string() })?;
    let bytes = seal::close(bytes);
    durable::write(&dir.file(&name), &bytes)?;
    let latest = Latest { file: name.clone(), sha256: hex(&bytes) };
    let text = serde_json::to_string_pretty(&latest).expect("a pointer is plain data");
    durable::write(&dir.file("LATEST.json"), text.as_bytes())?;
    remove_others(dir, &name)?;
    Ok(name)
}

/// Keeps a state and the one before it. What is newer is of a future that was damaged and is no more.
fn remove_others(dir: &RunDir, name: &str) -> Result<()> {
    let states = states(dir)?;
    let previous = states.iter().rfind(|other| other.as_str() < name);
    for other in states.iter().filter(|other| *other != name && Some(*other) != previous) {
        dir.remove(other)?;
    }
    Ok(())
}

/// The name of a position's file; names sort as positions do.
pub(crate) fn file_name(position: &Position) -> String {
    format!("state-{:05}-{:06}.safetensors", position.epoch, position.steps_done)
}

/// The state files of a directory, the oldest first.
fn states(dir: &RunDir) -> Result<Vec<String>> {
    Ok(dir.names()?.into_iter().filter(|name| name.starts_with("state-")).collect())
}

/// Restores a state into a student: the position, the optimizer's past and the averages. `file` names the
/// state in errors.
pub(crate) fn restore(
    file: &Path,
    bytes: &[u8],
    student: &Network,
    sgd: Sgd,
    averages: Averages,
) -> Result<(Position, Sgd, Averages)> {
    let damaged = |message: String| ModelError::Checkpoint { path: file.into(), message };
    let position = position(bytes).map_err(damaged)?;
    let tensors = candle_core::safetensors::load_buffer(bytes, student.device())?;
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
    Ok((position, sgd.with_velocity(velocity), averages))
}

/// The state to go on from: the one that `LATEST.json` names, or the newest whole one where that is
/// damaged; nothing when the directory holds no state.
pub(crate) fn newest(dir: &RunDir) -> Result<Option<(String, Vec<u8>)>> {
    let problem = match latest(dir)? {
        Ok(None) if states(dir)?.is_empty() => return Ok(None),
        Ok(None) => "LATEST.json: no such file".to_string(),
        Err(problem) => format!("LATEST.json: is damaged ({problem})"),
        Ok(Some(Latest { file, sha256 })) => match std::fs::read(dir.file(&file)) {
            Ok(bytes) if hex(&bytes) == sha256 => return Ok(Some((file, bytes))),
            Ok(_) => format!("{file}: is damaged: its SHA-256 is not the one in LATEST.json"),
            Err(e) => format!("{file}: cannot be read ({e})"),
        },
    };
    let mut damaged: Vec<String> = Vec::new();
    for file in states(dir)?.into_iter().rev() {
        match std::fs::read(dir.file(&file)) {
            Ok(bytes) if seal::check(&bytes) == Seal::Whole => {
                tracing::warn!("{problem}; the run goes on from {file}");
                damaged.iter().try_for_each(|name| dir.remove(name))?;
                return Ok(Some((file, bytes)));
            }
            _ => damaged.push(file),
        }
    }
    let message = format!("{problem}, and no other state here is whole; start again in another --out");
    Err(ModelError::Checkpoint { path: dir.path().into(), message }.into())
}

fn position(bytes: &[u8]) -> std::result::Result<Position, String> {
    let header = checkpoint::header(bytes).map_err(|fault| fault.to_string())?;
    let text = header.metadata().as_ref().and_then(|m| m.get(KEY)).ok_or("is not a state of rslad")?;
    let damaged = |e: serde_json::Error| format!("damaged position: {e}");
    let value: serde_json::Value = serde_json::from_str(text).map_err(damaged)?;
    match value["format"].as_u64() {
        Some(newer) if newer > u64::from(FORMAT) => {
            Err(format!("has format {newer}, this build reads up to {FORMAT}; use a newer rslad"))
        }
        _ => serde_json::from_value(value).map_err(damaged),
    }
}

/// What `LATEST.json` says; the inner error is that it says nothing sensible.
fn latest(dir: &RunDir) -> Result<std::result::Result<Option<Latest>, String>> {
    let path = dir.file("LATEST.json");
    match std::fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).map(Some).map_err(|e| e.to_string())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Ok(None)),
        Err(source) => Err(Error::Io { path, source }),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
