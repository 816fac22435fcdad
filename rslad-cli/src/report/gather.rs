//! What directories hold. Files are read for what they have: ones of an older rslad lack some keys, ones
//! of a newer have more.

use crate::exit::Ended;
use crate::grid::file::Row as RowKey;
use crate::look;
use crate::model_cost::Cost;
use crate::record::WEIGHTS;
use crate::result_file::parse_radius;
use crate::transfer_file::TransferFile;
use crate::weight_files::hex;
use anyhow::{Context, Result};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use toml::Table;

/// Everything that was found.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) runs: Vec<RunDir>,
    pub(crate) evals: Vec<EvalDir>,
    pub(crate) looks: Vec<Look>,
    pub(crate) transfers: Vec<TransferFile>,
}

/// A training run.
pub(crate) struct RunDir {
    pub(crate) name: String,
    pub(crate) recipe: Table,
    pub(crate) recipe_text: String,
    pub(crate) info: serde_json::Value,
    /// The `eval` events of `metrics.jsonl`.
    pub(crate) evals: Vec<serde_json::Value>,
    /// SHA-256 of the weight files by the name of the checkpoint.
    pub(crate) weights: BTreeMap<String, String>,
}

/// An evaluation.
pub(crate) struct EvalDir {
    pub(crate) name: String,
    pub(crate) result: ResultJson,
    pub(crate) suite: String,
    pub(crate) examples: Option<Examples>,
    /// The row of a table that a grid says it fills.
    pub(crate) row: Option<RowKey>,
    /// Whether it is a point of a curve over radii.
    pub(crate) of_curve: bool,
}

/// `result.json`, as far as it is needed.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ResultJson {
    pub(crate) model: ModelJson,
    /// The surrogate that points were made on.
    pub(crate) source: Option<ModelJson>,
    pub(crate) data: DataJson,
    pub(crate) eps: String,
    pub(crate) seed: u64,
    pub(crate) version: String,
    pub(crate) cost: Option<Cost>,
    pub(crate) clean: CleanJson,
    pub(crate) columns: Vec<ColumnJson>,
    #[serde(default)]
    pub(crate) trust: Vec<TrustJson>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

/// A check that an evaluation made of itself.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TrustJson {
    pub(crate) name: String,
    pub(crate) outcome: String,
    pub(crate) seen: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ModelJson {
    pub(crate) path: String,
    pub(crate) sha256: String,
    pub(crate) arch: serde_json::Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct DataJson {
    pub(crate) name: String,
    pub(crate) split: String,
    pub(crate) n: usize,
    pub(crate) sha256: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CleanJson {
    pub(crate) correct: usize,
    pub(crate) n: usize,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ColumnJson {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) attack: String,
    pub(crate) robust: usize,
    pub(crate) n: usize,
    #[serde(default)]
    pub(crate) max_linf: f64,
    #[serde(default)]
    pub(crate) seconds: f64,
    #[serde(default)]
    pub(crate) funnel: Vec<StageJson>,
    pub(crate) eight_bit: Option<EightBitJson>,
}

/// What becomes of the fallen as 8-bit images.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EightBitJson {
    pub(crate) fallen: usize,
    pub(crate) still: usize,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StageJson {
    pub(crate) name: String,
    pub(crate) robust: usize,
}

/// `per_example.safetensors`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Examples {
    pub(crate) index: Vec<u32>,
    pub(crate) label: Vec<u32>,
    pub(crate) clean_prediction: Vec<u32>,
    pub(crate) columns: BTreeMap<String, ColumnExamples>,
}

/// One column of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ColumnExamples {
    pub(crate) robust: Vec<bool>,
    /// The answers under attack, where they were kept.
    pub(crate) prediction: Option<Vec<u32>>,
}

/// Pictures of models.
pub(crate) struct Look {
    pub(crate) file: look::LookFile,
    pub(crate) shape: [usize; 4],
    pub(crate) label: Vec<u32>,
    pub(crate) x_nat: Vec<f32>,
    /// For each model the attacked images and the answers to them.
    pub(crate) attacked: BTreeMap<String, (Vec<f32>, Vec<u32>)>,
}

impl EvalDir {
    /// The radius as a number.
    pub(crate) fn eps(&self) -> f64 {
        parse_radius(&self.result.eps).map_or(f64::NAN, |eps| eps.get())
    }
}

/// Reads everything below some directories.
pub(crate) fn gather(dirs: &[PathBuf]) -> Result<Found> {
    let mut found = Found::default();
    for dir in dirs {
        if !dir.is_dir() {
            let message =
                format!("{}: no such directory, expected one with runs or evaluations", dir.display());
            return Err(Ended::Usage(message).into());
        }
        found.walk(dir, dir, &About::default())?;
    }
    if found.runs.is_empty() && found.evals.is_empty() && found.looks.is_empty() && found.transfers.is_empty()
    {
        let names: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        let message = format!(
            "{}: neither a training run (recipe.toml, metrics.jsonl) nor an evaluation (result.json) there or \
             below; expected the --out of `rslad train` or `rslad eval`",
            names.join(", ")
        );
        return Err(Ended::Usage(message).into());
    }
    Ok(found)
}

/// What a grid's `cell.toml` says of the directories below it.
#[derive(Clone, Default)]
struct About {
    row: Option<RowKey>,
    of_curve: bool,
    name: Option<String>,
}

impl Found {
    fn walk(&mut self, root: &Path, dir: &Path, above: &About) -> Result<()> {
        let mut context = About::of(dir).unwrap_or_else(|| above.clone());
        context.of_curve |= dir.join("curve.json").is_file(); // of `--eps-sweep`
        let name = context.name.clone().unwrap_or_else(|| name_of(root, dir));
        if dir.join("recipe.toml").is_file() && dir.join("metrics.jsonl").is_file() {
            self.runs.push(run(dir, name.clone())?);
        }
        if dir.join("result.json").is_file()
            && let Some(eval) = eval(dir, name, &context)?
        {
            self.evals.push(eval);
        }
        if dir.join(look::JSON).is_file() {
            self.looks.push(read_look(dir)?);
        }
        if let Ok(text) = fs::read(dir.join("transfer.json")) {
            self.transfers.push(serde_json::from_slice(&text).map_err(|e| {
                let file = dir.join("transfer.json");
                Ended::Usage(format!("{}: {e}, expected what `rslad transfer` writes", file.display()))
            })?);
        }
        let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
        let mut below: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        below.retain(|path| path.is_dir() && !path.is_symlink());
        below.sort();
        below.iter().try_for_each(|path| self.walk(root, path, &context))
    }
}

impl Found {
    /// Whether another run learned from the weights of this one.
    pub(crate) fn is_teacher(&self, run: &RunDir) -> bool {
        let learned = |other: &RunDir, key: &str| {
            other.info[key].as_str().is_some_and(|hash| run.weights.values().any(|own| own == hash))
        };
        self.runs
            .iter()
            .any(|other| ["teacher_sha256", "second_teacher_sha256"].iter().any(|key| learned(other, key)))
    }
}

impl About {
    fn of(dir: &Path) -> Option<Self> {
        let table: Table = fs::read_to_string(dir.join("cell.toml")).ok()?.parse().ok()?;
        let row = table.get("row").and_then(|row| row.clone().try_into().ok());
        let radii = table.get("eps").and_then(|eps| eps.as_array()).map_or(0, Vec::len);
        let name = table.get("name").and_then(|name| name.as_str()).map(str::to_string);
        Some(Self { row, of_curve: radii > 1, name })
    }
}

fn name_of(root: &Path, dir: &Path) -> String {
    let below = dir.strip_prefix(root).unwrap_or(dir);
    let shown = if below.as_os_str().is_empty() { dir } else { below };
    shown.file_name().map_or_else(|| shown.display().to_string(), |_| shown.display().to_string())
}

fn run(dir: &Path, name: String) -> Result<RunDir> {
    let read =
        |file: &str| fs::read_to_string(dir.join(file)).with_context(|| dir.join(file).display().to_string());
    let recipe_text = read("recipe.toml")?;
    let recipe = recipe_text.parse().with_context(|| dir.join("recipe.toml").display().to_string())?;
    let info = read("run.json").ok().and_then(|text| serde_json::from_str(&text).ok());
    let lines = read("metrics.jsonl")?;
    let events = lines.lines().filter(|line| line.contains("\"eval\""));
    let evals = events.filter_map(|line| serde_json::from_str(line).ok()).collect();
    let recorded = read(WEIGHTS).unwrap_or_default();
    let weights = ["best", "last"].iter().filter_map(|checkpoint| {
        let file = format!("{checkpoint}.safetensors");
        let known = || recorded.lines().find_map(|line| Some(line.strip_suffix(&file)?.trim().to_string()));
        let hash = fs::read(dir.join(&file)).ok().map(|bytes| hex(&bytes)).or_else(known)?;
        Some((checkpoint.to_string(), hash))
    });
    let weights = weights.collect();
    Ok(RunDir { name, recipe, recipe_text, info: info.unwrap_or_default(), evals, weights })
}

/// None where the file is a summary of several evaluations, which stand in directories of their own, or
/// of a part of one, which is put together elsewhere.
fn eval(dir: &Path, name: String, context: &About) -> Result<Option<EvalDir>> {
    let path = dir.join("result.json");
    let text = fs::read(&path).with_context(|| path.display().to_string())?;
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| {
        Ended::Usage(format!("{}: {e}, expected the result of an evaluation", path.display()))
    })?;
    let is_part = value.get("shard").is_some_and(|shard| !shard.is_null());
    if value.get("model").is_none() || is_part {
        return Ok(None);
    }
    let result = serde_json::from_value(value).map_err(|e| {
        Ended::Usage(format!("{}: {e}, expected the result of an evaluation", path.display()))
    })?;
    Ok(Some(EvalDir {
        name,
        result,
        suite: fs::read_to_string(dir.join("suite.toml")).unwrap_or_default(),
        examples: fs::read(dir.join("per_example.safetensors")).ok().and_then(|bytes| examples(&bytes)),
        row: context.row.clone(),
        of_curve: context.of_curve,
    }))
}

fn examples(bytes: &[u8]) -> Option<Examples> {
    let file = SafeTensors::deserialize(bytes).ok()?;
    let mut found = Examples {
        index: u32s(&file, "index")?,
        label: u32s(&file, "label")?,
        clean_prediction: u32s(&file, "clean_prediction")?,
        columns: BTreeMap::new(),
    };
    for name in file.names() {
        let Some(column) = name.strip_suffix("/robust") else { continue };
        let robust = file.tensor(name).ok()?.data().iter().map(|&flag| flag != 0).collect();
        let prediction = u32s(&file, &format!("{column}/prediction"));
        found.columns.insert(column.to_string(), ColumnExamples { robust, prediction });
    }
    Some(found)
}

fn read_look(dir: &Path) -> Result<Look> {
    let broken = || format!("{}: expected the files of a look", dir.display());
    let file: look::LookFile =
        serde_json::from_slice(&fs::read(dir.join(look::JSON))?).with_context(broken)?;
    let bytes = fs::read(dir.join(look::TENSORS)).with_context(broken)?;
    let tensors = SafeTensors::deserialize(&bytes).with_context(broken)?;
    let shape = tensors.tensor("x_nat").with_context(broken)?.shape().to_vec();
    let mut attacked = BTreeMap::new();
    for model in &file.models {
        let points = f32s(&tensors, &format!("{model}/x_adv")).with_context(broken)?;
        let answers = u32s(&tensors, &format!("{model}/prediction")).with_context(broken)?;
        attacked.insert(model.clone(), (points, answers));
    }
    Ok(Look {
        shape: shape.try_into().ok().with_context(broken)?,
        label: u32s(&tensors, "label").with_context(broken)?,
        x_nat: f32s(&tensors, "x_nat").with_context(broken)?,
        attacked,
        file,
    })
}

fn u32s(file: &SafeTensors<'_>, name: &str) -> Option<Vec<u32>> {
    let tensor = file.tensor(name).ok().filter(|tensor| tensor.dtype() == Dtype::U32)?;
    let words = tensor.data().as_chunks::<4>().0;
    Some(words.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
}

fn f32s(file: &SafeTensors<'_>, name: &str) -> Option<Vec<f32>> {
    let tensor = file.tensor(name).ok().filter(|tensor| tensor.dtype() == Dtype::F32)?;
    let words = tensor.data().as_chunks::<4>().0;
    Some(words.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}
