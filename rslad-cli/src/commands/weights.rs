//! `rslad weights`: what is in a weight file.

use crate::args::{InspectArgs, Sides, WeightsArgs, WeightsCommand};
use crate::inputs::{self, Weights};
use crate::{say, table};
use anyhow::{Context, Result};
use rslad_models::checkpoint::Provenance;
use rslad_models::graph::{Graph, Layer};
use std::path::Path;

pub(crate) fn run(args: &WeightsArgs) -> Result<()> {
    match &args.command {
        WeightsCommand::Inspect(args) => inspect(args),
    }
}

fn inspect(args: &InspectArgs) -> Result<()> {
    let arch = inputs::arch(args.arch.as_deref(), &args.arch_set)?;
    for (i, file) in args.files.iter().enumerate() {
        let weights = inputs::weights(file, arch.as_ref())?;
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
    let spec = weights.network.arch();
    let options: Vec<String> = spec.options.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    let Sides { height, width } = image;
    Ok(format!(
        "{}\nfile      {} bytes, sha256 {}\nnetwork   {} ({})\nmade by   {}\ncosts     {} parameters · for one image of \
         {height}x{width}: {} multiply-accumulates, {}B of activations (f32)\n",
        file.display(),
        say::count(weights.bytes as u64),
        weights.sha256,
        spec.arch,
        options.join(", "),
        made_by(&weights.provenance),
        say::count(graph.n_parameters() as u64),
        say::count(graph.macs(height, width)?),
        say::short(4 * graph.activations(height, width)?)
    ))
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
