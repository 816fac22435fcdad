//! What a cell's directory says about it.
//!
//! `DONE.json` is written last and lists the files of the result with their hashes, so a finished cell is
//! known without doing any of it again, and one whose files were touched is not believed.

use crate::weight_files::hex;
use anyhow::{Context, Result};
use rslad_models::durable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// `DONE.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Done {
    schema: u32,
    pub(crate) name: String,
    /// Of everything that the result depends on.
    pub(crate) hash: String,
    pub(crate) version: String,
    /// Of the sitting that finished it.
    pub(crate) seconds: f64,
    /// SHA-256 of the files of the result.
    pub(crate) files: BTreeMap<String, String>,
}

/// How far a cell is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// `DONE.json` is there.
    Finished,
    /// A process holds the directory.
    Running,
    /// Something is there to go on from.
    Begun(String),
    /// Nothing is there.
    Open,
    /// It cannot be done yet: what is missing.
    Missing(String),
}

const FILE: &str = "DONE.json";
/// Files that change without the result changing.
const PASSING: [&str; 7] = [".lock", FILE, "run.json", "log.jsonl", "LATEST.json", "cell.log", "cell.toml"];

/// How far the cell of this directory is, without reading its results.
pub(crate) fn state(dir: &Path, hash: &str) -> State {
    if read(dir).is_some_and(|done| done.hash == hash) {
        return State::Finished;
    }
    if is_held(dir) {
        return State::Running;
    }
    match progress(dir) {
        Some(how_far) => State::Begun(how_far),
        None => State::Open,
    }
}

/// Whether the cell is finished and its files are those that it was finished with.
pub(crate) fn is_whole(dir: &Path, hash: &str) -> bool {
    let Some(done) = read(dir).filter(|done| done.hash == hash) else { return false };
    done.files.iter().all(|(name, hash)| file_hash(&dir.join(name)).is_some_and(|found| found == *hash))
}

/// Says that the cell is finished.
pub(crate) fn finish(dir: &Path, name: &str, hash: &str, seconds: f64) -> Result<()> {
    let mut files = BTreeMap::new();
    list(dir, "", &mut files)?;
    let version = env!("CARGO_PKG_VERSION").to_string();
    let done = Done { schema: 1, name: name.into(), hash: hash.into(), version, seconds, files };
    let text = serde_json::to_string_pretty(&done).context(FILE)? + "\n";
    Ok(durable::write(&dir.join(FILE), text.as_bytes())?)
}

/// The seconds that finishing the cell took.
pub(crate) fn seconds(dir: &Path) -> Option<f64> {
    read(dir).map(|done| done.seconds)
}

fn read(dir: &Path) -> Option<Done> {
    serde_json::from_slice(&std::fs::read(dir.join(FILE)).ok()?).ok()
}

fn list(dir: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{prefix}{name}/"), files)?;
        } else if !PASSING.contains(&name.as_str()) && !name.starts_with("state-") {
            files.extend(file_hash(&entry.path()).map(|hash| (format!("{prefix}{name}"), hash)));
        }
    }
    Ok(())
}

fn file_hash(path: &Path) -> Option<String> {
    Some(hex(&std::fs::read(path).ok()?))
}

fn is_held(dir: &Path) -> bool {
    File::open(dir.join(".lock"))
        .is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}

/// The last epoch of a run that is not over.
fn progress(dir: &Path) -> Option<String> {
    let metrics = std::fs::read_to_string(dir.join("metrics.jsonl")).ok()?;
    let last = metrics.lines().rev().find_map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        event["epoch"].as_u64()
    })?;
    Some(format!("epoch {last}"))
}
