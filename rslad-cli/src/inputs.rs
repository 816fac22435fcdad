//! From flags and recipes to what a command works on: recipes, data, networks, teachers.

use crate::device;
use crate::exit::Ended;
use crate::say;
use crate::weight_files::{self, Stated, Unsaid, Weights};
use anyhow::{Context, Result};
use candle_core::Device;
use rslad_data::{Dataset, Split, split_validation};
use rslad_distill::SoftLabels;
use rslad_distill::recipe::{DataConfig, ExtraConfig, Recipe, SelectOn, TeacherConfig};
use rslad_distill::soft_labels::Source;
use rslad_distill::stoppable::Stoppable;
use rslad_distill::trainer::Inputs;
use rslad_models::checkpoint::Provenance;
use rslad_models::{Classifier, Frozen, Network};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The teachers that the binary carries.
const EMBEDDED_TEACHERS: &[(&str, &[u8])] = &[
    ("digits-teacher", include_bytes!("../assets/digits-teacher.safetensors")),
    ("fashion-mnist-teacher", include_bytes!("../assets/fashion-mnist-teacher.safetensors")),
    ("fashion-mnist-teacher-0.1", include_bytes!("../assets/fashion-mnist-teacher-0.1.safetensors")),
];

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
    /// The normalization that the recipe gives it in place of its own.
    norm: Option<String>,
    /// What must be known about its file, and of how it is run.
    pub(crate) remarks: Vec<String>,
}

/// A recipe by name or file, with changes on top.
pub(crate) fn recipe(name_or_file: &str, changes: &[(String, String)]) -> Result<Recipe> {
    Recipe::load(name_or_file, changes).map_err(|error| match error {
        rslad_distill::Error::Io { .. } => Ended::Usage(format!("{error}; expected a recipe in TOML")).into(),
        other => other.into(),
    })
}

/// What `--set` and the like write behind the equals sign: a TOML value if it reads as one, else text.
pub(crate) fn value_of(text: &str) -> toml::Value {
    let read = format!("value = {text}").parse::<toml::Table>().ok();
    read.and_then(|mut table| table.remove("value")).unwrap_or_else(|| toml::Value::String(text.into()))
}

/// Opens a data set, and tells what its reader noticed.
pub(crate) fn open(spec: &str, split: Split) -> Result<Dataset> {
    let data = rslad_data::open(spec, split)?;
    data.notes().iter().for_each(|note| say::note(format!("note: {note}")));
    Ok(data)
}

/// The images that `--data`, `--split` and `--n` ask for.
pub(crate) fn images(spec: &str, split: Split, n: Option<u32>) -> Result<Dataset> {
    let data = open(spec, split)?;
    Ok(n.map(|n| data.limit(n as usize)).transpose()?.unwrap_or(data))
}

/// A network as a surrogate that stops when it is told to.
pub(crate) fn surrogate(network: &Network, stop: &Arc<AtomicBool>) -> Result<Arc<dyn Classifier>> {
    Ok(Arc::new(Stoppable::new(Box::new(network.freeze()?), Arc::clone(stop))))
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
    load_with(recipe, &[None, None])
}

/// The same, with files in place of the teacher and the second teacher that the recipe names.
pub(crate) fn load_with(recipe: &Recipe, teachers: &[Option<PathBuf>; 2]) -> Result<Loaded> {
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
    let read = |config: &Option<TeacherConfig>, place: &Option<PathBuf>, key: &str| {
        let Some(mut config) = config.clone() else { return Ok(None) };
        if let Some(place) = place {
            config.file = place.display().to_string();
        }
        teacher(&config, key, &selection).map(Some)
    };
    let first = read(&recipe.teacher, &teachers[0], "teacher")?;
    let second = read(&recipe.second_teacher, &teachers[1], "second_teacher")?;
    let device = device::open(recipe.device.as_ref().map(|device| device.on))?;
    let [_, precision] = recipe.precisions();
    let frozen = |t: &Option<Teacher>| -> Result<Option<Frozen>> {
        t.as_ref().map(|t| device::frozen_on(&t.network, &device, precision)).transpose()
    };
    let inputs = Inputs {
        teacher: frozen(&first)?,
        second_teacher: frozen(&second)?,
        train,
        selection,
        soft_labels: None,
        device,
    };
    rslad_distill::checks::fit(recipe, &inputs)?;
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
        let under = teacher.norm.as_ref().map_or(String::new(), |norm| format!(" under {norm}"));
        let [_, precision] = recipe.precisions();
        let on = match &self.inputs.device {
            Device::Cpu => String::new(),
            _ => format!(" on a GPU in {precision:?}"), // which rounds otherwise
        };
        let source = Source {
            teacher: format!("{}{under}{on}", teacher.sha256),
            data_sha256: self.data_sha256.clone(),
            images: self.images,
            augment: recipe.data.augment,
            classes: teacher.network.graph().n_classes(),
        };
        self.inputs.soft_labels = Some(SoftLabels::open(root, source, limit)?);
        Ok(())
    }
}

/// A model and what is known of it.
struct Opened {
    network: Network,
    provenance: Provenance,
    sha256: String,
    remarks: Vec<String>,
}

/// A teacher that comes with the program, a pinned one by name, or a weight file.
fn open_model(file: &Path) -> Result<Opened> {
    match EMBEDDED_TEACHERS.iter().find(|(name, _)| Path::new(name) == file) {
        Some((_, bytes)) => {
            let (network, provenance) = Network::from_bytes(bytes, file)?;
            Ok(Opened { network, provenance, sha256: weight_files::hex(bytes), remarks: vec![] })
        }
        None => {
            let weights = weight_files::weights(file, &Stated::nothing(), Unsaid::Refuse)?;
            let Weights { network, provenance, sha256, remarks, .. } = weights;
            Ok(Opened { network, provenance, sha256, remarks })
        }
    }
}

/// The network of a file or of a teacher by name, and the hash of its bytes.
pub(crate) fn model(file: &Path) -> Result<(Network, String)> {
    let Opened { network, sha256, .. } = open_model(file)?;
    Ok((network, sha256))
}

/// The teacher that a recipe names under `key`; it must fit the data.
fn teacher(config: &TeacherConfig, key: &str, data: &Dataset) -> Result<Teacher> {
    let teacher = any_teacher(config, key)?;
    check_fit(&teacher.network, data).with_context(|| format!("`{key}.file` is {}", config.file))?;
    Ok(teacher)
}

/// The teacher that a recipe names under `key`, whatever the data.
pub(crate) fn any_teacher(config: &TeacherConfig, key: &str) -> Result<Teacher> {
    let opened = open_model(Path::new(&config.file))
        .with_context(|| format!("`{key}.file`, a file or a teacher by name ({})", teacher_names()))?;
    let Opened { mut network, provenance, sha256, mut remarks } = opened;
    if let Some(norm) = &config.norm {
        let own = network.arch().options.get("norm").map(ToString::to_string).unwrap_or_default();
        network = under(&network, norm).with_context(|| format!("`{key}.norm`"))?;
        remarks.push(format!(
            "runs under the normalization {norm}, not under its own ({own}), as the recipe says"
        ));
    }
    Ok(Teacher { network, provenance, sha256, norm: config.norm.clone(), remarks })
}

/// The same weights under another normalization.
fn under(network: &Network, norm: &str) -> Result<Network> {
    let mut arch = network.arch().clone();
    arch.options.insert("norm".into(), norm.into());
    let tensors = network.params().state_dict()?.into_iter().collect();
    Ok(Network::with_state_dict(&arch, &tensors)?)
}

fn teacher_names() -> String {
    let embedded = EMBEDDED_TEACHERS.iter().map(|(name, _)| *name);
    let pinned = rslad_distill::teachers::all().iter().map(|teacher| teacher.name.as_str());
    embedded.chain(pinned).collect::<Vec<_>>().join(", ")
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
