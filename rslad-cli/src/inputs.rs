//! From a recipe to what its run learns from: data, selection images, teachers.

use anyhow::{Context, Result};
use rslad_data::{Dataset, Split, split_validation};
use rslad_distill::recipe::{Recipe, SelectOn, TeacherConfig};
use rslad_distill::trainer::Inputs;
use rslad_models::{Frozen, Network, checkpoint};
use sha2::{Digest, Sha256};
use std::path::Path;

/// The teachers that the binary carries.
const KNOWN_TEACHERS: &[(&str, &[u8])] =
    &[("digits-teacher", include_bytes!("../assets/digits-teacher.safetensors"))];

/// Which images are held out does not depend on the seed of the run, so that runs can be compared.
const SPLIT_SEED: u64 = 0;

/// Inputs with the hashes that `run.json` names them by.
pub(crate) struct Loaded {
    pub(crate) inputs: Inputs,
    pub(crate) data_sha256: String,
    pub(crate) teacher: Option<Teacher>,
    pub(crate) second_teacher_sha256: Option<String>,
}

/// A teacher and where it comes from.
pub(crate) struct Teacher {
    pub(crate) network: Network,
    pub(crate) sha256: String,
}

/// Opens everything that a recipe names.
pub(crate) fn load(recipe: &Recipe) -> Result<Loaded> {
    let mut train = rslad_data::open(&recipe.data.set, Split::Train)?;
    if recipe.data.limit > 0 {
        train = train.limit(recipe.data.limit)?;
    }
    let data_sha256 = train.sha256();
    let (train, selection) = match recipe.select.on {
        SelectOn::Validation => split_validation(&train, recipe.select.hold_out, SPLIT_SEED)?,
        SelectOn::Test => (train, rslad_data::open(&recipe.data.set, Split::Test)?),
    };
    let teacher = recipe.teacher.as_ref().map(|config| read_teacher(config, "teacher")).transpose()?;
    let second =
        recipe.second_teacher.as_ref().map(|config| read_teacher(config, "second_teacher")).transpose()?;
    let frozen = |t: &Option<Teacher>| -> Result<Option<Frozen>> {
        Ok(t.as_ref().map(|t| t.network.freeze()).transpose()?)
    };
    let inputs = Inputs { train, selection, teacher: frozen(&teacher)?, second_teacher: frozen(&second)? };
    Ok(Loaded { inputs, data_sha256, teacher, second_teacher_sha256: second.map(|t| t.sha256) })
}

fn read_teacher(config: &TeacherConfig, key: &str) -> Result<Teacher> {
    let known = KNOWN_TEACHERS.iter().find(|(name, _)| *name == config.file);
    let bytes = match known {
        Some((_, bytes)) => bytes.to_vec(),
        None => std::fs::read(&config.file).map_err(|source| missing(config, source))?,
    };
    let network =
        Network::from_bytes(&bytes, Path::new(&config.file)).with_context(|| format!("`{key}.file`"))?.0;
    Ok(Teacher { network, sha256: hex(&bytes) })
}

fn missing(config: &TeacherConfig, source: std::io::Error) -> anyhow::Error {
    let names: Vec<&str> = KNOWN_TEACHERS.iter().map(|(name, _)| *name).collect();
    let path = config.file.clone().into();
    let known = format!("no such teacher: neither a file nor a known name ({})", names.join(", "));
    match source.kind() {
        std::io::ErrorKind::NotFound => rslad_models::Error::Checkpoint { path, message: known }.into(),
        _ => rslad_models::Error::Io { path, source }.into(),
    }
}

/// The SHA-256 of bytes, in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The classifier agrees with the data about classes and channels.
pub(crate) fn check_fit(network: &Network, data: &Dataset) -> Result<()> {
    let (classes, channels) = (network.graph().n_classes(), network.graph().in_channels());
    let [c, h, w] = data.shape();
    if classes != data.n_classes() || channels != c {
        return Err(crate::exit::Ended::Usage(format!(
            "the model takes {channels} channels and knows {classes} classes, but `{}` has {c} channels and {} classes",
            data.name(),
            data.n_classes()
        ))
        .into());
    }
    network.graph().shapes(h, w)?;
    Ok(())
}

/// Reads weights: a checkpoint of ours, or with an architecture any safetensors state dict.
pub(crate) fn model(
    path: &Path,
    arch: Option<&rslad_models::ArchSpec>,
) -> Result<(Network, checkpoint::Provenance, String)> {
    let bytes =
        std::fs::read(path).map_err(|source| rslad_models::Error::Io { path: path.into(), source })?;
    let sha256 = hex(&bytes);
    match arch {
        None => {
            let (network, provenance) = Network::from_bytes(&bytes, path)?;
            Ok((network, provenance, sha256))
        }
        Some(arch) => {
            let network = Network::with_state_dict(arch, &checkpoint::read_tensors(path)?)
                .with_context(|| path.display().to_string())?;
            Ok((network, checkpoint::Provenance::new(), sha256))
        }
    }
}
