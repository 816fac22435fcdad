//! `rslad train`.

use crate::args::TrainArgs;
use crate::exit::Ended;
use crate::inputs::{self, Loaded};
use crate::output::Output;
use crate::progress::{Detail, Show, TrainingProgress};
use crate::run_info::{RunInfo, Sitting};
use crate::{interrupt, logging, say};
use anyhow::{Result, anyhow};
use rslad_distill::soft_labels::Asked;
use rslad_distill::trainer::clean_accuracy;
use rslad_distill::{Outcome, Recipe, RunDir, train};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

pub(crate) fn run(args: &TrainArgs, quiet: bool) -> Result<()> {
    let recipe = inputs::recipe(&args.recipe, &changes(args)?)?;
    if args.print {
        return Ok(say::result(recipe.to_toml().trim_end())?);
    }
    let out = args.out.as_deref().ok_or_else(|| anyhow!("--out is required"))?;
    let mut loaded = inputs::load(&recipe)?;
    if let Some(root) = &args.soft_labels {
        loaded.keep_soft_labels(&recipe, root, u64::from(args.soft_labels_limit) << 20)?;
    }
    let show = Show::here(quiet);
    let stop = interrupt::flag(show)?;
    let _output = Output::open(out)?; // before anything is said or computed
    warn(&loaded);
    if show != Show::Nothing {
        introduce(&args.recipe, &recipe, &loaded, out)?;
    }
    let mut progress = TrainingProgress::new(show, "training", Detail::Epochs);
    let outcome = follow(&recipe, &loaded, out, &mut progress, &stop)?;
    drop(progress);
    if let (Some(soft_labels), true) = (&loaded.inputs.soft_labels, show != Show::Nothing) {
        let Asked { found, computed } = soft_labels.asked();
        let total = (found + computed).max(1);
        let share = 100.0 * found as f64 / total as f64;
        let folder = soft_labels.folder().display();
        say::note(format!("soft labels  {found} of {total} answers ({share:.1} %) were in {folder}"));
    }
    if outcome == Outcome::AlreadyFinished && show != Show::Nothing {
        say::note("already done: all epochs of this recipe are");
    }
    Ok(say::result(out.join("last.safetensors").display())?)
}

/// The recipe's keys that flags change, in the order in which they count.
fn changes(args: &TrainArgs) -> Result<Vec<(String, String)>> {
    let mut changes = args.set.clone();
    changes.extend(args.data.iter().map(|spec| ("data.set".to_string(), toml_string(spec))));
    for teacher in &args.teacher {
        let (slot, file) = slot(teacher)?;
        changes.push((format!("{slot}.file"), toml_string(file)));
    }
    changes.extend(args.seed.map(|seed| ("seed".to_string(), seed.to_string())));
    Ok(changes)
}

/// `[NAME=]FILE`, where a path may hold a `=` of its own.
fn slot(teacher: &str) -> Result<(&str, &str), Ended> {
    match teacher.split_once('=') {
        Some((slot @ ("teacher" | "second_teacher"), file)) => Ok((slot, file)),
        Some((slot, _)) if !slot.contains(['/', '.']) && !Path::new(teacher).exists() => {
            Err(Ended::Usage(format!(
                "--teacher {teacher}: `{slot}` is no teacher, expected teacher=FILE or second_teacher=FILE"
            )))
        }
        _ => Ok(("teacher", teacher)),
    }
}

fn toml_string(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

/// A teacher of other data may be meant, but hardly ever is.
fn warn(loaded: &Loaded) {
    let teachers = [("teacher", &loaded.teacher), ("second teacher", &loaded.second_teacher)];
    for (name, teacher) in teachers {
        for remark in teacher.iter().flat_map(|teacher| &teacher.remarks) {
            say::note(format!("the {name}: {remark}"));
        }
        let strange =
            teacher.as_ref().and_then(|t| inputs::strange_data(&t.provenance, &loaded.inputs.train));
        if let Some(strange) = strange {
            say::note(format!("warning: the {name} {strange}"));
        }
    }
}

fn introduce(name: &str, recipe: &Recipe, loaded: &Loaded, out: &Path) -> Result<()> {
    let Loaded { inputs, .. } = loaded;
    let [c, h, w] = inputs.train.shape();
    let version = env!("CARGO_PKG_VERSION");
    say::note(format!("rslad {version} · {name} · seed {} · recipe {}", recipe.seed, &recipe.hash()[..12]));
    for line in header(recipe)? {
        say::note(line);
    }
    say::note(format!(
        "data       {}: {} images to train on, {} to select on, {c}x{h}x{w}, {} classes",
        recipe.data.set,
        inputs.train.len(),
        inputs.selection.len(),
        inputs.train.n_classes()
    ));
    let finished = out.join("last.safetensors").exists(); // then nobody waits for a large teacher
    if let (Some(teacher), Some(frozen), false) = (&loaded.teacher, &inputs.teacher, finished) {
        let clean = 100.0 * clean_accuracy(frozen, &inputs.selection)?;
        let (arch, hash) = (&teacher.network.arch().arch, &teacher.sha256[..12]);
        say::note(format!(
            "teacher    {arch} (sha256 {hash}), clean {clean:.1} % on the images to select on"
        ));
    }
    say::note(format!("directory  {} (Ctrl-C is safe: run again to continue)\n", out.display()));
    Ok(())
}

/// The resolved recipe, a line for each of its sections.
fn header(recipe: &Recipe) -> Result<Vec<String>> {
    let table: toml::Table = recipe.to_toml().parse()?;
    let mut lines: Vec<String> = table
        .iter()
        .filter_map(|(section, value)| {
            let mut keys = Vec::new();
            flatten("", value.as_table()?, &mut keys);
            Some(format!("  {:<15}{}", format!("[{section}]"), keys.join(" · ")))
        })
        .collect();
    if let Some(micro_batch) = recipe.data.micro_batch {
        let batch = recipe.data.batch;
        lines.push(format!(
            "  gradients of micro-batches of {micro_batch} add up to a batch of {batch}; batch statistics are of {micro_batch} images"
        ));
    }
    Ok(lines)
}

fn flatten(prefix: &str, table: &toml::Table, keys: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => flatten(&format!("{prefix}{key}."), inner, keys),
            toml::Value::String(text) => keys.push(format!("{prefix}{key} {text}")),
            other => keys.push(format!("{prefix}{key} {other}")),
        }
    }
}

/// Trains in a directory and keeps its `run.json`.
pub(crate) fn follow(
    recipe: &Recipe,
    loaded: &Loaded,
    out: &Path,
    progress: &mut TrainingProgress,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let _output = Output::open(out)?;
    let dir = RunDir::open(out, recipe)?;
    logging::also_to(out)?;
    let path = dir.file("run.json");
    let mut info = info(recipe, loaded).continued(&path);
    info.write(&path)?;
    let clock = Instant::now();
    let outcome = train(recipe, &loaded.inputs, &dir, progress, stop);
    if let Some(sitting) = info.sittings.last_mut() {
        sitting.seconds = Some(clock.elapsed().as_secs_f64());
        sitting.ended = Some(ending(&outcome).into());
    }
    let written = info.write(&path);
    match outcome? {
        Outcome::Stopped => Err(Ended::Interrupted.into()),
        done => written.map(|()| done),
    }
}

fn info(recipe: &Recipe, loaded: &Loaded) -> RunInfo {
    RunInfo {
        schema: 1,
        version: env!("CARGO_PKG_VERSION").into(),
        commit: option_env!("RSLAD_COMMIT").map(str::to_string),
        seed: recipe.seed,
        recipe_sha256: recipe.hash(),
        data_sha256: loaded.data_sha256.clone(),
        teacher_sha256: loaded.teacher.as_ref().map(|t| t.sha256.clone()),
        second_teacher_sha256: loaded.second_teacher.as_ref().map(|t| t.sha256.clone()),
        sittings: vec![Sitting::begin()],
    }
}

fn ending(outcome: &rslad_distill::Result<Outcome>) -> &'static str {
    match outcome {
        Ok(Outcome::Stopped) => "stopped",
        Ok(_) => "finished",
        Err(_) => "failed",
    }
}
