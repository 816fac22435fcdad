//! From a file, or the name of a pinned teacher, to a network: what the file is, which architecture it is of
//! and how that is known, what was changed on the way in.

use crate::inputs::value_of;
use anyhow::{Context, Result};
use rslad_data::Dataset;
use rslad_distill::teachers::{self, Teacher as Pinned};
use rslad_models::arch::options::Norm;
use rslad_models::checkpoint::{self, Contents, Provenance, StateDict};
use rslad_models::{ArchSpec, Error as ModelError, Network};
use sha2::{Digest, Sha256};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A network from a file, with what its file says of its making.
pub(crate) struct Weights {
    pub(crate) network: Network,
    pub(crate) provenance: Provenance,
    pub(crate) sha256: String,
    pub(crate) bytes: usize,
    pub(crate) format: String,
    /// How the architecture is known.
    pub(crate) known: Known,
    /// What was changed on the way in, or must be known about the file.
    pub(crate) remarks: Vec<String>,
}

/// How the architecture of a file is known.
#[derive(Clone, Copy)]
pub(crate) enum Known {
    /// The file says it.
    Said,
    /// The command line says it.
    Stated,
    /// The hash is that of a pinned teacher.
    Pinned(&'static Pinned),
    /// The names and shapes are those of one architecture.
    Recognized,
}

/// What to do with a state dict that nobody says the architecture of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsaid {
    /// Say which one it seems to be, and stop: its normalization cannot be seen.
    Refuse,
    /// Go by names and shapes, and say so.
    Recognize,
}

/// `--arch` and `--arch-set`.
pub(crate) struct Stated {
    arch: Option<String>,
    options: toml::Table,
}

impl Stated {
    /// What these flags say.
    pub(crate) fn new(arch: Option<&str>, options: &[(String, String)]) -> Result<Self> {
        let mut table = toml::Table::new();
        for (key, value) in options {
            table.insert(key.clone(), value_of(value));
        }
        let stated = Self { arch: arch.map(str::to_string), options: table };
        if let Some(spec) = stated.spec()? {
            spec.graph()?; // a wrong option is the command line's fault, whatever the file
        }
        Ok(stated)
    }

    /// Nothing is stated.
    pub(crate) fn nothing() -> Self {
        Self { arch: None, options: toml::Table::new() }
    }

    /// The published architecture with the options.
    fn spec(&self) -> Result<Option<ArchSpec>> {
        let spec = self.arch.as_ref().map(|arch| ArchSpec::published(arch, &self.options));
        Ok(spec.transpose()?)
    }
}

/// Reads weights: a checkpoint of ours, a pinned teacher, or with an architecture any state dict.
pub(crate) fn weights(file: &Path, stated: &Stated, unsaid: Unsaid) -> Result<Weights> {
    let (path, pinned) = locate(file)?;
    let bytes = read(&path, "a checkpoint of rslad, or a state dict that PyTorch or safetensors wrote")?;
    if is_state(&bytes) && stated.arch.is_none() {
        let message = "is what an unfinished run continues from, expected weights; take best.safetensors or \
                       last.safetensors beside it";
        return Err(ModelError::Checkpoint { path, message: message.into() }.into());
    }
    let sha256 = hex(&bytes);
    if let Some(pinned) = pinned {
        let other =
            |e: teachers::OtherFile| ModelError::Checkpoint { path: path.clone(), message: e.to_string() };
        pinned.check(&sha256).map_err(other)?;
    }
    let mut remarks = Vec::new();
    if let Some(pinned) = pinned.filter(|pinned| pinned.sha256.is_none()) {
        remarks.push(format!(
            "no hash of `{}` was published to compare with; this file has {sha256}",
            pinned.name
        ));
    }
    if let Some(named) = teachers::all().iter().find(|t| path.ends_with(&t.file) && t.check(&sha256).is_err())
    {
        remarks.push(format!("it is named as `{}` was published, and is another file", named.name));
    }
    let length = bytes.len();
    let (network, provenance, known, format) = network(
        &path,
        &bytes,
        stated,
        pinned.or_else(|| teachers::by_sha256(&sha256)),
        unsaid,
        &mut remarks,
    )?;
    Ok(Weights { network, provenance, sha256, bytes: length, format, known, remarks })
}

fn network(
    path: &Path,
    bytes: &[u8],
    stated: &Stated,
    pinned: Option<&'static Pinned>,
    unsaid: Unsaid,
    remarks: &mut Vec<String>,
) -> Result<(Network, Provenance, Known, String)> {
    let state = match (checkpoint::open(bytes, path)?, stated.spec()?) {
        (Contents::Checkpoint(own), None) => {
            let (network, provenance) = Network::of_checkpoint(&own, path)?;
            return Ok((network, provenance, Known::Said, "checkpoint of rslad".into()));
        }
        (Contents::Checkpoint(own), Some(spec)) => {
            let network =
                Network::with_state_dict(&spec, &own.tensors).with_context(|| path.display().to_string())?;
            return Ok((network, Provenance::new(), Known::Stated, "checkpoint of rslad".into()));
        }
        (Contents::StateDict(state), _) => state,
    };
    remarks.extend(state.remarks.iter().map(ToString::to_string));
    let (spec, known) = architecture(path, &state, stated, pinned, unsaid)?;
    let network = Network::with_state_dict(&spec, &state.tensors).with_context(|| match seems(&state) {
        Some(other) if other != spec.arch => format!("{}: seems to be of {other}", path.display()),
        _ => path.display().to_string(),
    })?;
    Ok((network, Provenance::new(), known, state.format.to_string()))
}

/// The architecture of a state dict, and how it is known.
fn architecture(
    path: &Path,
    state: &StateDict,
    stated: &Stated,
    pinned: Option<&'static Pinned>,
    unsaid: Unsaid,
) -> Result<(ArchSpec, Known)> {
    let (mut spec, known) = match (stated.spec()?, pinned, ArchSpec::recognize(&state.tensors)) {
        (Some(spec), ..) => (spec, Known::Stated),
        (None, Some(pinned), _) => (pinned.arch()?, Known::Pinned(pinned)),
        (None, None, Some(mut spec)) if unsaid == Unsaid::Recognize => {
            spec.options.extend(stated.options.clone());
            (spec, Known::Recognized)
        }
        (None, None, _) => {
            let hint = match seems(state) {
                Some(arch) => format!(
                    "its names and shapes are those of {arch}. Its normalization cannot be seen there: say what it \
                     was trained under, with --arch and --arch-set norm=..., or once for all with `rslad weights convert`"
                ),
                None => "and its names and shapes are those of none known here; give --arch NAME and its \
                         --arch-set options"
                    .into(),
            };
            let message =
                format!("is a state dict ({}), which does not say its architecture; {hint}", state.format);
            return Err(ModelError::Checkpoint { path: path.into(), message }.into());
        }
    };
    let given = matches!(known, Known::Pinned(_)) || stated.options.contains_key("norm");
    if let Some(held) = &state.norm {
        if given && !same_norm(&spec, held) {
            let said = spec.options.get("norm").map(ToString::to_string).unwrap_or_default();
            let message = format!(
                "holds the normalization {held}, and `norm` is {said}; leave `norm` out, or write --arch-set norm={held}"
            );
            return Err(ModelError::Checkpoint { path: path.into(), message }.into());
        }
        spec.options.insert("norm".into(), held.clone().into());
    }
    Ok((spec, known))
}

/// The architecture that a state dict seems to be of, with its options.
fn seems(state: &StateDict) -> Option<String> {
    let spec = ArchSpec::recognize(&state.tensors)?;
    let options = spec.options.iter().filter(|(key, _)| *key != "norm");
    let options: Vec<String> = options.map(|(key, value)| format!("{key} = {value}")).collect();
    Some(format!("`{}` ({})", spec.arch, options.join(", ")))
}

fn same_norm(spec: &ArchSpec, held: &str) -> bool {
    let norm = spec.options.get("norm").and_then(|norm| norm.as_str()?.parse::<Norm>().ok());
    norm.zip(held.parse().ok()).is_some_and(|(norm, held): (Norm, Norm)| norm.is_close_to(&held))
}

/// The file, where a name is that of a pinned teacher in the folder of weights, and the teacher then.
fn locate(file: &Path) -> Result<(PathBuf, Option<&'static Pinned>)> {
    let pinned = file.to_str().filter(|_| !file.exists()).and_then(teachers::by_name);
    let Some(pinned) = pinned else { return Ok((file.into(), None)) };
    let path = rslad_data::cache::directory("weights")?.join(&pinned.name).join(&pinned.file);
    if path.exists() {
        return Ok((path, Some(pinned)));
    }
    let hash = pinned.sha256.as_ref().map_or(String::new(), |hash| format!(" (SHA-256 {hash})"));
    let message = format!(
        "no such file; fetch {}{hash} from {} and save it there, or give the path where it is",
        pinned.file,
        pinned.url.join(" or ")
    );
    Err(ModelError::Checkpoint { path, message }.into())
}

/// A warning where a published network is not as accurate as published: most often its normalization is wrong.
pub(crate) fn not_as_published(
    pinned: &Pinned,
    data: &Dataset,
    clean: f64,
    ci95: (f64, f64),
) -> Option<String> {
    let is_its_test = data.name() == pinned.data && data.split() == rslad_data::Split::Test;
    off(pinned, clean, ci95).filter(|_| is_its_test)
}

/// More than two points off, and more than so few images can be off by chance.
fn off(pinned: &Pinned, clean: f64, (low, high): (f64, f64)) -> Option<String> {
    let differs = (clean - pinned.clean).abs() > 0.02 && !(low..=high).contains(&pinned.clean);
    differs.then(|| {
        format!(
            "clean accuracy is {:.1} %, expected {:.1} % as published for `{}`; another normalization, or other images?",
            100.0 * clean,
            100.0 * pinned.clean,
            pinned.name
        )
    })
}

/// The pinned teacher that weights are, directly or by conversion.
pub(crate) fn pinned(weights: &Weights) -> Option<&'static Pinned> {
    let source = weights.provenance.get("source_sha256").and_then(|hash| hash.as_str());
    teachers::by_sha256(&weights.sha256).or_else(|| teachers::by_sha256(source?))
}

/// The bytes of a weight file; whatever keeps them from being read is a matter of weights.
pub(crate) fn read(path: &Path, expected: &str) -> Result<Vec<u8>, ModelError> {
    std::fs::read(path).map_err(|source| {
        let why = match source.kind() {
            ErrorKind::NotFound => "no such file".to_string(),
            _ => format!("cannot be read ({source})"),
        };
        ModelError::Checkpoint { path: path.into(), message: format!("{why}, expected {expected}") }
    })
}

/// The SHA-256 of bytes, in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a file is a run's `state-*.safetensors`, which looks like weights to a newcomer.
fn is_state(bytes: &[u8]) -> bool {
    checkpoint::header(bytes)
        .is_ok_and(|header| header.metadata().as_ref().is_some_and(|m| m.contains_key("rslad-state")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_points_off_is_a_warning_unless_chance_explains_it() {
        let trades = teachers::by_name("wrn34-10-trades").unwrap();
        let message = off(trades, 0.10, (0.094, 0.106)).unwrap();
        assert!(message.contains("10.0 %, expected 84.9 % as published for `wrn34-10-trades`"), "{message}");
        assert!(off(trades, 0.828, (0.82, 0.836)).is_some());
        assert_eq!(off(trades, 0.832, (0.824, 0.84)), None, "within two points");
        assert_eq!(off(trades, 0.80, (0.71, 0.867)), None, "a hundred images");
    }
}
