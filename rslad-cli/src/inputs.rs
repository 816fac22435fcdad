//! From flags and recipes to what a command works on: recipes, data, networks, teachers.

use crate::exit::Ended;
use crate::say;
use anyhow::{Context, Result};
use rslad_data::{Dataset, Split, split_validation};
use rslad_distill::SoftLabels;
use rslad_distill::recipe::{DataConfig, ExtraConfig, Recipe, SelectOn, TeacherConfig};
use rslad_distill::soft_labels::Source;
use rslad_distill::trainer::Inputs;
use rslad_models::checkpoint::{self, Provenance};
use rslad_models::{ArchSpec, Error as ModelError, Frozen, Network};
use sha2::{Digest, Sha256};
use std::io::ErrorKind;
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
    /// The images of the split that the hash names, held-out ones included: their ids are below this.
    pub(crate) images: usize,
    pub(crate) teacher: Option<Teacher>,
    pub(crate) second_teacher: Option<Teacher>,
}

/// A teacher and where it comes from.
pub(crate) struct Teacher {
    pub(crate) network: Network,
    pub(crate) provenance: Provenance,
    pub(crate) sha256: String,
}

/// A recipe by name or file, with changes on top.
pub(crate) fn recipe(name_or_file: &str, changes: &[(String, String)]) -> Result<Recipe> {
    Recipe::load(name_or_file, changes).map_err(|error| match error {
        rslad_distill::Error::Io { .. } => Ended::Usage(format!("{error}; expected a recipe in TOML")).into(),
        other => other.into(),
    })
}

/// Opens a data set, and tells what its reader noticed.
pub(crate) fn open(spec: &str, split: Split) -> Result<Dataset> {
    let data = rslad_data::open(spec, split)?;
    data.notes().iter().for_each(|note| say::note(format!("note: {note}")));
    Ok(data)
}

/// The images of `[[data.extra]]`.
struct Extra {
    sets: Vec<Dataset>,
    /// Their ids follow those of the whole training set, whatever is left aside of it.
    first_id: u64,
}

impl Extra {
    fn open(config: &DataConfig, first_id: u64) -> Result<Self> {
        let open = |(i, extra): (usize, &ExtraConfig)| {
            let data = open(&extra.set, Split::Train)?;
            let limited = if extra.limit > 0 { data.limit(extra.limit)? } else { data };
            Ok::<_, anyhow::Error>(limited).with_context(|| format!("`data.extra[{i}]`"))
        };
        let sets = config.extra.iter().flatten().enumerate().map(open).collect::<Result<_>>()?;
        Ok(Self { sets, first_id })
    }

    /// The training set with them, unlabeled, behind it.
    fn after(&self, train: &Dataset) -> Result<Dataset> {
        let (mut all, mut id) = (train.clone(), self.first_id);
        for set in &self.sets {
            all = all.with_unlabeled(set, id).context("`data.extra`")?;
            id += set.len() as u64;
        }
        Ok(all)
    }
}

/// Opens everything that a recipe names, and checks that it fits together.
pub(crate) fn load(recipe: &Recipe) -> Result<Loaded> {
    let mut train = open(&recipe.data.set, Split::Train)?;
    let extra = Extra::open(&recipe.data, train.len() as u64)?;
    if recipe.data.limit > 0 {
        train = train.limit(recipe.data.limit).context("`data.limit`")?;
    }
    let all = extra.after(&train)?;
    let data_sha256 = all.sha256();
    let images = all.ids().iter().max().map_or(0, |id| *id as usize + 1); // extra ids leave a gap after a limit
    let (train, selection) = match recipe.select.on {
        SelectOn::Validation => {
            split_validation(&train, recipe.select.hold_out, SPLIT_SEED).context("`select.hold_out`")?
        }
        SelectOn::Test => (train, open(&recipe.data.set, Split::Test)?),
    };
    let train = extra.after(&train)?; // nothing of it is held out: it has no labels to select by
    let read = |config: &Option<TeacherConfig>, key: &str| {
        config.as_ref().map(|config| teacher(config, key, &selection)).transpose()
    };
    let (first, second) =
        (read(&recipe.teacher, "teacher")?, read(&recipe.second_teacher, "second_teacher")?);
    let frozen = |t: &Option<Teacher>| -> Result<Option<Frozen>> {
        Ok(t.as_ref().map(|t| t.network.freeze()).transpose()?)
    };
    let inputs = Inputs {
        teacher: frozen(&first)?,
        second_teacher: frozen(&second)?,
        train,
        selection,
        soft_labels: None,
    };
    rslad_distill::trainer::check(recipe, &inputs)?;
    Ok(Loaded { inputs, data_sha256, images, teacher: first, second_teacher: second })
}

impl Loaded {
    /// Keeps the teacher's answers under `root`, in at most `limit` bytes.
    pub(crate) fn keep_soft_labels(&mut self, recipe: &Recipe, root: &Path, limit: u64) -> Result<()> {
        let method = recipe.method["name"].as_str().unwrap_or_default();
        if let Some(refusal) = SoftLabels::refusal(method, &recipe.method()?.plan()) {
            return Err(Ended::Usage(refusal).into());
        }
        let Some(teacher) = &self.teacher else { return Ok(()) };
        let source = Source {
            teacher_sha256: teacher.sha256.clone(),
            data_sha256: self.data_sha256.clone(),
            images: self.images,
            augment: recipe.data.augment,
            classes: teacher.network.graph().n_classes(),
        };
        self.inputs.soft_labels = Some(SoftLabels::open(root, source, limit)?);
        Ok(())
    }
}

fn teacher(config: &TeacherConfig, key: &str, data: &Dataset) -> Result<Teacher> {
    let known = KNOWN_TEACHERS.iter().find(|(name, _)| *name == config.file);
    let bytes = match known {
        Some((_, bytes)) => bytes.to_vec(),
        None => read(Path::new(&config.file), &teacher_expected())?,
    };
    let file = Path::new(&config.file);
    let (network, provenance) = Network::from_bytes(&bytes, file).with_context(|| format!("`{key}.file`"))?;
    check_fit(&network, data).with_context(|| format!("`{key}.file` is {}", file.display()))?;
    Ok(Teacher { network, provenance, sha256: hex(&bytes) })
}

fn teacher_expected() -> String {
    let names: Vec<&str> = KNOWN_TEACHERS.iter().map(|(name, _)| *name).collect();
    format!("a checkpoint of rslad, or the name of a teacher that comes with it ({})", names.join(", "))
}

/// The bytes of a weight file; whatever keeps them from being read is a matter of weights.
fn read(path: &Path, expected: &str) -> Result<Vec<u8>, ModelError> {
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

/// The classifier agrees with the data about classes, channels and sides.
pub(crate) fn check_fit(network: &Network, data: &Dataset) -> Result<()> {
    let (classes, channels) = (network.graph().n_classes(), network.graph().in_channels());
    let [c, h, w] = data.shape();
    if classes != data.n_classes() || channels != c {
        return Err(Ended::Usage(format!(
            "the model takes {channels} channels and knows {classes} classes, expected {c} channels and {} \
             classes as `{}` has; choose the data it was trained on",
            data.n_classes(),
            data.name()
        ))
        .into());
    }
    network.graph().shapes(h, w)?;
    Ok(())
}

/// A warning where a model was trained on other data than these.
pub(crate) fn strange_data(provenance: &Provenance, data: &Dataset) -> Option<String> {
    let trained_on = provenance.get("data")?.as_str()?;
    let name = trained_on.split(':').next()?;
    (name != data.name()).then(|| {
        format!("was trained on `{trained_on}` and meets `{}` here; expected the same data", data.name())
    })
}

/// The architecture that `--arch` and `--arch-set` describe: the published one with these changes.
pub(crate) fn arch(name: Option<&str>, options: &[(String, String)]) -> Result<Option<ArchSpec>> {
    let Some(name) = name else { return Ok(None) };
    let mut changes = toml::Table::new();
    for (key, value) in options {
        let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
        changes.insert(key.clone(), parsed.unwrap_or_else(|| toml::Value::String(value.clone())));
    }
    let arch = ArchSpec::published(name, &changes)?;
    arch.graph()?;
    Ok(Some(arch))
}

/// Whether a file is a run's `state-*.safetensors`, which looks like weights to a newcomer.
fn is_state(bytes: &[u8]) -> bool {
    let Ok((_, header)) = safetensors::SafeTensors::read_metadata(bytes) else { return false };
    header.metadata().as_ref().is_some_and(|metadata| metadata.contains_key("rslad-state"))
}

/// A network from a file, with what its file says of its making.
pub(crate) struct Weights {
    pub(crate) network: Network,
    pub(crate) provenance: Provenance,
    pub(crate) sha256: String,
    pub(crate) bytes: usize,
}

/// Reads weights: a checkpoint of ours, or with an architecture any safetensors state dict.
pub(crate) fn weights(path: &Path, arch: Option<&ArchSpec>) -> Result<Weights> {
    let bytes = read(path, "a checkpoint as `rslad train` writes it, or a safetensors state dict")?;
    let (network, provenance) = match arch {
        None if is_state(&bytes) => {
            let message = "is what an unfinished run continues from, expected weights; take best.safetensors or \
                           last.safetensors beside it";
            return Err(ModelError::Checkpoint { path: path.into(), message: message.into() }.into());
        }
        None => Network::from_bytes(&bytes, path)?,
        Some(arch) => {
            let network = Network::with_state_dict(arch, &checkpoint::read_tensors(path)?)
                .with_context(|| path.display().to_string())?;
            (network, Provenance::new())
        }
    };
    Ok(Weights { network, provenance, sha256: hex(&bytes), bytes: bytes.len() })
}
