//! `rslad weights`: what is in weight files, and those of others as ours.

use crate::args::{ConvertArgs, InspectArgs, Sides, WeightsArgs, WeightsCommand};
use crate::exit::Ended;
use crate::weight_files::{self, Known, Stated, Unsaid, Weights};
use crate::{say, table};
use anyhow::{Context, Result};
use rslad_models::ArchSpec;
use rslad_models::checkpoint::Provenance;
use rslad_models::graph::{Graph, Layer};
use std::path::{Path, PathBuf};

pub(crate) fn run(args: &WeightsArgs) -> Result<()> {
    match &args.command {
        WeightsCommand::Inspect(args) => inspect(args),
        WeightsCommand::Convert(args) => convert(args),
    }
}

fn inspect(args: &InspectArgs) -> Result<()> {
    let stated = Stated::new(args.arch.as_deref(), &args.arch_set)?;
    for (i, file) in args.files.iter().enumerate() {
        let weights = weight_files::weights(file, &stated, Unsaid::Recognize)?;
        if i > 0 {
            say::result("")?;
        }
        say::result(summary(file, &weights, args.image)?)?;
        say::result(layers(weights.network.graph(), args.image)?)?;
    }
    Ok(())
}

fn summary(file: &Path, weights: &Weights, image: Sides) -> Result<String> {
    let graph = weights.network.graph();
    let Sides { height, width } = image;
    let read: String = weights.remarks.iter().map(|remark| format!("read      {remark}\n")).collect();
    Ok(format!(
        "{}\nfile      {}, {} bytes, sha256 {}\n{read}network   {}\n{}made by   {}\ncosts     {} parameters · for one \
         image of {height}x{width}: {} multiply-accumulates, {}B of activations (f32)\n",
        file.display(),
        weights.format,
        say::count(weights.bytes as u64),
        weights.sha256,
        written(weights.network.arch()),
        how_known(weights).map_or(String::new(), |how| format!("          {how}\n")),
        made_by(&weights.provenance),
        say::count(graph.n_parameters() as u64),
        say::count(graph.macs(height, width)?),
        say::short(4 * graph.activations(height, width)?)
    ))
}

/// An architecture with its options.
fn written(spec: &ArchSpec) -> String {
    let options: Vec<String> = spec.options.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{} ({})", spec.arch, options.join(", "))
}

/// How the architecture is known, where the file does not say it.
fn how_known(weights: &Weights) -> Option<String> {
    match weights.known {
        Known::Said => None,
        Known::Stated => Some("as --arch says".into()),
        Known::Pinned(teacher) => {
            Some(format!("as pinned for `{}` ({:.2} % clean)", teacher.name, 100.0 * teacher.clean))
        }
        Known::Recognized => Some(
            "recognized from names and shapes; what they do not show, `norm`, is taken from the file, --arch-set or \
             the published network"
                .into(),
        ),
    }
}

fn made_by(provenance: &Provenance) -> String {
    let told = provenance.iter().filter(|(_, value)| !value.is_null());
    let parts: Vec<String> = told
        .map(|(key, value)| match value.as_str() {
            Some(hash) if key.ends_with("sha256") => format!("{key} {hash:.12}"),
            Some(text) => format!("{key} {text}"),
            None => format!("{key} {value}"),
        })
        .collect();
    if parts.is_empty() { "the file does not say".into() } else { parts.join(" · ") }
}

/// The layers that hold tensors, and the sums over all of them.
fn layers(graph: &Graph, Sides { height, width }: Sides) -> Result<String> {
    let layers = graph.layers(height, width)?;
    let header = ["layer", "kind", "weight", "output", "parameters", "statistics", "multiply-accumulates"];
    let numbers = |parameters: usize, buffers: usize, macs: u64| {
        [parameters as u64, buffers as u64, macs].map(say::count).to_vec()
    };
    let row = |layer: &Layer| -> Result<Vec<String>> {
        let weight = format!("{}.weight", layer.name);
        let entry =
            graph.entries().iter().find(|e| e.name == weight).context("a named layer has a weight")?;
        let texts = vec![layer.name.clone(), layer.kind.into(), by(&entry.shape), by(&layer.shape)];
        Ok([texts, numbers(layer.parameters, layer.buffers, layer.macs)].concat())
    };
    let named = layers.iter().filter(|layer| !layer.name.is_empty());
    let mut rows = named.map(row).collect::<Result<Vec<_>>>()?;
    let sum = |of: fn(&Layer) -> usize| layers.iter().map(of).sum();
    let totals = numbers(sum(|l| l.parameters), sum(|l| l.buffers), layers.iter().map(|l| l.macs).sum());
    rows.push([vec!["all".into(), String::new(), String::new(), String::new()], totals].concat());
    Ok(table::plain(header.map(str::to_string).to_vec(), rows.into_iter(), 2))
}

/// `[8, 1, 3, 3]` as `8x1x3x3`.
fn by(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// Writes every file as a checkpoint of ours, where none is yet.
fn convert(args: &ConvertArgs) -> Result<()> {
    let stated = Stated::new(args.arch.as_deref(), &args.arch_set)?;
    let targets = args.files.iter().map(|file| target(file, args)).collect::<Result<Vec<_>>>()?;
    for (i, target) in targets.iter().enumerate() {
        if target.exists() || targets[..i].contains(target) {
            let message =
                format!("{}: is there already; choose another --out, or remove it", target.display());
            return Err(Ended::Usage(message).into());
        }
    }
    for (file, target) in args.files.iter().zip(&targets) {
        let weights = weight_files::weights(file, &stated, Unsaid::Recognize)?;
        weights.remarks.iter().for_each(|remark| say::note(format!("{}: {remark}", file.display())));
        let network = written(weights.network.arch());
        let how = how_known(&weights).map_or(String::new(), |how| format!(", {how}"));
        say::note(format!("{}: {network}{how}", file.display()));
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            let failed = |source| Ended::NotWritable { path: folder.into(), source };
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        weights.network.save(target, &provenance(file, &weights))?;
        say::result(target.display())?;
    }
    Ok(())
}

/// Where a file's checkpoint is written.
fn target(file: &Path, args: &ConvertArgs) -> Result<PathBuf> {
    if args.out.extension().is_some_and(|extension| extension == "safetensors") {
        if args.files.len() > 1 {
            let message = format!("--out is one file for {}, expected a directory", args.files.len());
            return Err(Ended::Usage(message).into());
        }
        return Ok(args.out.clone());
    }
    let stem = file.file_stem().with_context(|| format!("{}: no file name", file.display()))?;
    Ok(args.out.join(stem).with_added_extension("safetensors"))
}

/// What a converted file says of its making: all that its source said, and the source.
fn provenance(file: &Path, weights: &Weights) -> Provenance {
    let mut provenance = weights.provenance.clone();
    let mut note = |key: &str, value: serde_json::Value| provenance.insert(key.to_string(), value);
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
    note("source", name.into());
    note("source_format", weights.format.as_str().into());
    note("source_sha256", weights.sha256.as_str().into());
    note("rslad_version", env!("CARGO_PKG_VERSION").into());
    if let Known::Pinned(teacher) = weights.known {
        note("published_as", teacher.name.as_str().into());
        note("data", teacher.data.as_str().into());
    }
    if !weights.remarks.is_empty() {
        note("remarks", weights.remarks.clone().into());
    }
    provenance
}
