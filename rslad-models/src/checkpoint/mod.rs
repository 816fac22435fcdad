//! Our own weight files: one safetensors file with the state-dict names of the official PyTorch code.
//!
//! Its metadata holds one key, `rslad`, with JSON: format version, architecture and options, and the
//! provenance that the trainer gives. One key, because the metadata map has no order of its own and a
//! file must have the same bytes for the same run.

use crate::arch::ArchSpec;
use crate::durable;
use crate::error::{Error, Result};
use candle_core::Tensor;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata as Header;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What a checkpoint says of its making: recipe hash, epoch, selection rule and the like.
pub type Provenance = BTreeMap<String, serde_json::Value>;

/// The version of the format that this build writes.
const FORMAT: u32 = 1;
/// No network here has nearly as many tensors; a file with more is not one of ours.
const MOST_TENSORS: usize = 10_000;

#[derive(Serialize, Deserialize)]
struct Metadata {
    format: u32,
    model: ArchSpec,
    provenance: Provenance,
}

/// The contents of a weight file.
pub struct Checkpoint {
    /// The architecture and its options.
    pub arch: ArchSpec,
    /// The state dict.
    pub tensors: HashMap<String, Tensor>,
    /// How the weights were made.
    pub provenance: Provenance,
}

/// Writes a checkpoint.
///
/// # Errors
/// When the file cannot be written.
pub fn write(
    path: &Path,
    arch: &ArchSpec,
    state_dict: &[(String, Tensor)],
    provenance: &Provenance,
) -> Result<()> {
    let metadata = Metadata { format: FORMAT, model: arch.clone(), provenance: provenance.clone() };
    let failed = |e: &dyn std::fmt::Display| Error::Checkpoint { path: path.into(), message: e.to_string() };
    let text = serde_json::to_string(&metadata).map_err(|e| failed(&e))?;
    let header = HashMap::from([("rslad".to_string(), text)]);
    let tensors = state_dict.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let bytes = safetensors::serialize(tensors, Some(header)).map_err(|e| failed(&e))?;
    durable::write(path, &bytes)
}

/// A checkpoint of ours from its bytes; `origin` names it in errors.
///
/// # Errors
/// When it is damaged, of a newer format, or a safetensors file without our metadata.
pub fn parse(bytes: &[u8], origin: &Path) -> Result<Checkpoint> {
    let failed = |message: String| Error::Checkpoint { path: origin.into(), message };
    let metadata = metadata(bytes).map_err(failed)?;
    let tensors = tensors(bytes).map_err(failed)?;
    Ok(Checkpoint { arch: metadata.model, tensors, provenance: metadata.provenance })
}

/// Reads the tensors of any safetensors file of f32 weights and integer counters.
///
/// # Errors
/// When the file is missing or damaged.
pub fn read_tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    tensors(&bytes).map_err(|message| Error::Checkpoint { path: path.into(), message })
}

fn header(bytes: &[u8]) -> std::result::Result<Header, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| {
        format!("not a safetensors file, or a damaged one ({e}); was it written by `rslad train`, and wholly copied?")
    })?;
    Ok(header)
}

fn metadata(bytes: &[u8]) -> std::result::Result<Metadata, String> {
    let header = header(bytes)?;
    let text = header.metadata().as_ref().and_then(|m| m.get("rslad")).ok_or(
        "has no `rslad` metadata, so its architecture is unknown; give `--arch NAME` and its `--arch-set` options",
    )?;
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|e| format!("damaged metadata: {e}"))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(v) if v == u64::from(FORMAT) => {}
        Some(v) if v > u64::from(FORMAT) => {
            return Err(format!("has format {v}, this build reads up to {FORMAT}; use a newer rslad"));
        }
        other => return Err(format!("damaged metadata: `format` is {other:?}, expected {FORMAT}")),
    }
    serde_json::from_value(value).map_err(|e| format!("damaged metadata: {e}"))
}

fn tensors(bytes: &[u8]) -> std::result::Result<HashMap<String, Tensor>, String> {
    let n = header(bytes)?.tensors().len();
    if n > MOST_TENSORS {
        return Err(format!("has {n} tensors, expected at most {MOST_TENSORS}"));
    }
    candle_core::safetensors::load_buffer(bytes, &candle_core::Device::Cpu).map_err(|e| e.to_string())
}
