//! Weight files: our own, and the state dicts of others.
//!
//! Our own are one safetensors file with the state-dict names of the official PyTorch code. Its metadata
//! holds one key, `rslad`, with JSON: format version, architecture and options (classes and normalization
//! among them), a [`seal`], so that a damaged file is never loaded, and the provenance that the trainer
//! gives. One key, because the metadata map has no order of its own and a file must have the same bytes for
//! the same run.
//!
//! Other files are read by [`torch`] (what PyTorch saved) or as safetensors without our metadata; what
//! they hold is a [`StateDict`]. Any file may be hostile: none makes the reader run code, recurse, or allocate
//! what the file does not hold.

mod bytes;
mod fault;
mod header;
mod kind;
mod names;
pub mod pickle;
pub mod seal;
pub mod torch;

pub use fault::Fault;
pub use header::header;
pub use kind::{Format, recognize};
pub use names::{Remark, StateDict};

use header::MOST_TENSORS;
use seal::Seal;

use crate::arch::ArchSpec;
use crate::durable;
use crate::error::{Error, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What a checkpoint says of its making: recipe hash, epoch, selection rule and the like.
pub type Provenance = BTreeMap<String, serde_json::Value>;

/// The version of the format that this build writes. Version 1 had no seal.
const FORMAT: u32 = 2;
const DAMAGED: &str =
    "is damaged: its contents are not those that were sealed; copy it again, or train again";

#[derive(Serialize, Deserialize)]
struct Metadata {
    format: u32,
    #[serde(default)]
    seal: String,
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
    let (model, provenance) = (arch.clone(), provenance.clone());
    let metadata = Metadata { format: FORMAT, seal: seal::OPEN.into(), model, provenance };
    let failed = |e: &dyn std::fmt::Display| Error::Checkpoint { path: path.into(), message: e.to_string() };
    let text = serde_json::to_string(&metadata).map_err(|e| failed(&e))?;
    let header = HashMap::from([("rslad".to_string(), text)]);
    let tensors = state_dict.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let bytes = safetensors::serialize(tensors, Some(header)).map_err(|e| failed(&e))?;
    durable::write(path, &seal::close(bytes))
}

/// What a weight file holds.
pub enum Contents {
    /// A checkpoint of ours, which says what network it is of.
    Checkpoint(Checkpoint),
    /// A state dict alone.
    StateDict(StateDict),
}

/// The contents of a weight file in any format; `origin` names it in errors.
///
/// # Errors
/// When it is no weight file, is damaged, or exceeds a limit.
pub fn open(bytes: &[u8], origin: &Path) -> Result<Contents> {
    match recognize(bytes).map_err(|fault| fault.of(origin))? {
        Format::Safetensors if is_ours(bytes) => parse(bytes, origin).map(Contents::Checkpoint),
        Format::Safetensors => foreign(bytes).map(Contents::StateDict).map_err(|fault| fault.of(origin)),
        _ => torch::read(bytes).map(Contents::StateDict).map_err(|fault| fault.of(origin)),
    }
}

fn is_ours(bytes: &[u8]) -> bool {
    header(bytes).is_ok_and(|header| header.metadata().as_ref().is_some_and(|m| m.contains_key("rslad")))
}

/// The state dict of a safetensors file without our metadata.
fn foreign(bytes: &[u8]) -> std::result::Result<StateDict, Fault> {
    header(bytes)?;
    let tensors = tensors(bytes).map_err(Fault::Damaged)?;
    let names = names::tidy(tensors.into_iter().collect())?;
    let constants: Vec<_> = names.constants.into_iter().collect();
    StateDict::new(Format::Safetensors, names.entries.into_iter().collect(), &constants, names.remarks)
}

/// A checkpoint of ours from its bytes; `origin` names it in errors.
///
/// # Errors
/// When it is damaged, of a newer format, or a safetensors file without our metadata.
pub fn parse(bytes: &[u8], origin: &Path) -> Result<Checkpoint> {
    match recognize(bytes).map_err(|fault| fault.of(origin))? {
        Format::Safetensors => {}
        other => {
            let message = format!(
                "is a state dict ({other}), which does not say its architecture; give `--arch NAME` and its \
                 `--arch-set` options, or convert it with `rslad weights convert`"
            );
            return Err(Error::Checkpoint { path: origin.into(), message });
        }
    }
    let failed = |message: String| Error::Checkpoint { path: origin.into(), message };
    let metadata = metadata(bytes).map_err(failed)?;
    if metadata.format > 1 && seal::check(bytes) != Seal::Whole {
        return Err(failed(DAMAGED.into()));
    }
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

fn metadata(bytes: &[u8]) -> std::result::Result<Metadata, String> {
    let header = header(bytes).map_err(|fault| fault.to_string())?;
    let text = header.metadata().as_ref().and_then(|m| m.get("rslad")).ok_or(
        "has no `rslad` metadata, so its architecture is unknown; give `--arch NAME` and its `--arch-set` options",
    )?;
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|e| format!("damaged metadata: {e}"))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(v) if (1..=u64::from(FORMAT)).contains(&v) => {}
        Some(v) if v > u64::from(FORMAT) => {
            return Err(format!("has format {v}, this build reads up to {FORMAT}; use a newer rslad"));
        }
        other => return Err(format!("damaged metadata: `format` is {other:?}, expected 1 to {FORMAT}")),
    }
    serde_json::from_value(value).map_err(|e| format!("damaged metadata: {e}"))
}

fn tensors(bytes: &[u8]) -> std::result::Result<HashMap<String, Tensor>, String> {
    let n = header(bytes).map_err(|fault| fault.to_string())?.tensors().len();
    if n > MOST_TENSORS {
        return Err(format!("has {n} tensors, expected at most {MOST_TENSORS}"));
    }
    if seal::check(bytes) == Seal::Broken {
        return Err(DAMAGED.into());
    }
    candle_core::safetensors::load_buffer(bytes, &candle_core::Device::Cpu).map_err(|e| e.to_string())
}
