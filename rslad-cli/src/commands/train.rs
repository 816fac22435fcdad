//! `rslad train`.

use crate::args::TrainArgs;
use crate::exit::Ended;
use crate::inputs::{self, Loaded, Teacher};
use crate::output::Output;
use crate::progress::{Detail, Show, TrainingProgress};
use crate::ranks::Ranks;
use crate::run_info::{Breakdown, RunInfo, Sitting};
use crate::{device, interrupt, logging, say};
use anyhow::{Result, anyhow};
use rslad_distill::observer::{Beginning, EpochEvent, EvalEvent, SavedEvent, StepEvent};
use rslad_distill::ranks::Reduce;
use rslad_distill::soft_labels::Asked;
use rslad_distill::tensorboard::TensorBoard;
use rslad_distill::times::Times;
use rslad_distill::trainer::clean_accuracy;
use rslad_distill::{Observer, Outcome, Recipe, RunDir, checks, train_together};
use rslad_models::DeviceSpec;
use serde_json::json;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

pub(crate) fn run(args: &TrainArgs, quiet: bool) -> Result<()> {
    let ranks = Ranks::join()?;
    work(args, quiet, &ranks).map_err(|error| ranks.failed(error))
}

fn work(args: &TrainArgs, quiet: bool, all: &Ranks) -> Result<()> {
    let ranks = all.reduce();
    let show = if args.json { Show::Json } else { Show::here(quiet) };
    let recipe = inputs::recipe(&args.recipe, &changes(args)?)?;
    if args.print {
        return match ranks.rank() {
            0 => Ok(say::result(recipe.to_toml().trim_end())?),
            _ => Ok(()),
        };
    }
    let out = args.out.as_deref().ok_or_else(|| anyhow!("--out is required"))?;
    let mut loaded = inputs::load(&recipe)?;
    if let Some(root) = &args.soft_labels {
        if ranks.ranks() > 1 {
            let message = "--soft-labels is for one process, expected none with several; leave it out";
            return Err(Ended::Usage(message.into()).into());
        }
        loaded.keep_soft_labels(&recipe, root, u64::from(args.soft_labels_limit) << 20)?;
    }
    agree(&recipe, &loaded, ranks)?;
    all.connect(&device::open(recipe.device.as_ref().map(|device| device.on))?)?;
    if ranks.rank() > 0 {
        let stop = interrupt::flag(Show::Nothing)?;
        return match train_together(&recipe, &loaded.inputs, None, &mut (), &stop, ranks)? {
            Outcome::Stopped => Err(Ended::Interrupted.into()),
            _ => Ok(()),
        };
    }
    let stop = interrupt::flag(show)?;
    let _output = Output::open(out)?; // before anything is said or computed
    warn(&recipe, &loaded)?;
    let talks = matches!(show, Show::Bar | Show::Lines);
    if talks {
        introduce(&args.recipe, &recipe, &loaded, out, ranks.ranks())?;
    }
    let mut progress = TrainingProgress::new(show, "training", Detail::Epochs);
    let (outcome, times) = follow(&recipe, &loaded, out, &mut progress, &stop, ranks)?;
    drop(progress);
    if talks {
        if let Some(soft_labels) = &loaded.inputs.soft_labels {
            let Asked { found, computed } = soft_labels.asked();
            let total = (found + computed).max(1);
            let share = 100.0 * found as f64 / total as f64;
            let folder = soft_labels.folder().display();
            say::note(format!("soft labels  {found} of {total} answers ({share:.1} %) were in {folder}"));
        }
        conclude(outcome, &times);
    }
    let weights = out.join("last.safetensors");
    match show {
        Show::Json => {
            let times = Breakdown::from(&times);
            say::result(json!({ "event": "done", "weights": weights, "times": times }))?;
        }
        _ => say::result(weights.display())?,
    }
    Ok(())
}

/// Ends all processes of a run alike where one of them was given something else: before anything is written.
fn agree(recipe: &Recipe, loaded: &Loaded, ranks: &dyn Reduce) -> Result<()> {
    if ranks.ranks() == 1 {
        return Ok(());
    }
    let hash = |teacher: &Option<Teacher>| teacher.as_ref().map_or("none".into(), |t| t.sha256.clone());
    let version =
        concat!(env!("CARGO_PKG_VERSION"), " ").to_string() + option_env!("RSLAD_COMMIT").unwrap_or("");
    let what = [
        ("version", version.trim().to_string()),
        ("recipe", recipe.hash()),
        ("data", loaded.data_sha256.clone()),
        ("teacher", hash(&loaded.teacher)),
        ("second teacher", hash(&loaded.second_teacher)),
    ];
    Ok(rslad_distill::ranks::agree(ranks, &what)?)
}

/// Where the time went.
fn conclude(outcome: Outcome, times: &Times) {
    if outcome == Outcome::AlreadyFinished {
        return say::note("already done: all epochs of this recipe are");
    }
    let (all, steps) = (times.in_steps(), times.steps.max(1) as u32);
    let stage = |(name, time): (&str, Duration)| {
        let share = 100.0 * time.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE);
        format!("{} {} ({share:.0} %)", name.replace('_', " "), say::time(time / steps))
    };
    let stages: Vec<String> = times.stages().into_iter().map(stage).collect();
    say::note(format!(
        "time       {} steps at {:.0} images/s, {} a step: {}",
        say::count(times.steps),
        times.images_per_second(),
        say::time(all / steps),
        stages.join(", ")
    ));
    say::note(format!(
        "           evaluations {}, saves {}",
        say::time(times.evaluation),
        say::time(times.saving)
    ));
}

/// Everybody who watches a run.
struct Watchers<'a> {
    progress: &'a mut TrainingProgress,
    board: TensorBoard,
    times: Times,
}

impl Observer for Watchers<'_> {
    fn begin(&mut self, e: &Beginning) {
        self.progress.begin(e);
        self.board.begin(e);
    }
    fn step(&mut self, e: &StepEvent) {
        self.progress.step(e);
        self.board.step(e);
    }
    fn epoch(&mut self, e: &EpochEvent) {
        self.progress.epoch(e);
        self.board.epoch(e);
    }
    fn eval(&mut self, e: &EvalEvent) {
        self.progress.eval(e);
        self.board.eval(e);
    }
    fn saved(&mut self, e: &SavedEvent) {
        self.progress.saved(e);
    }
    fn times(&mut self, times: &Times) {
        self.progress.times(times);
        self.times = times.clone();
    }
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
pub(crate) fn slot(teacher: &str) -> Result<(&str, &str), Ended> {
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

/// What may be meant, but hardly ever is.
fn warn(recipe: &Recipe, loaded: &Loaded) -> Result<()> {
    for remark in checks::remarks(recipe, &loaded.inputs)? {
        say::note(format!("warning: {remark}"));
    }
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
    Ok(())
}

fn introduce(name: &str, recipe: &Recipe, loaded: &Loaded, out: &Path, ranks: usize) -> Result<()> {
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
    let device = device::chosen(recipe.device.as_ref().map(|device| device.on))?;
    if device != DeviceSpec::Cpu {
        say::note(format!("device     {device}"));
    }
    if ranks > 1 {
        say::note(format!("processes  {ranks}, each with its part of every batch of {}", recipe.data.batch));
    }
    let finished = out.join("last.safetensors").exists(); // then nobody waits for a large teacher
    let teachers = [
        ("teacher", &loaded.teacher, &inputs.teacher),
        ("2nd teacher", &loaded.second_teacher, &inputs.second_teacher),
    ];
    for (name, teacher, frozen) in teachers {
        let (Some(teacher), Some(frozen), false) = (teacher, frozen, finished) else { continue };
        let clean = clean_accuracy(frozen, &inputs.selection)?;
        let (arch, hash) = (&teacher.network.arch().arch, &teacher.sha256[..12]);
        say::note(format!(
            "{name:<10} {arch} (sha256 {hash}), clean {:.1} % on the images to select on",
            100.0 * clean
        ));
        if clean < 2.0 / inputs.train.n_classes() as f64 {
            say::note(format!(
                "warning: the {name} hardly beats chance; is it meant for these data, this order of classes, and unnormalized images?"
            ));
        }
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
    ranks: &dyn Reduce,
) -> Result<(Outcome, Times)> {
    let _output = Output::open(out)?;
    let dir = RunDir::open(out, recipe)?;
    logging::also_to(out)?;
    let path = dir.file("run.json");
    let mut info = info(recipe, loaded, ranks.ranks())?.continued(&path);
    info.write(&path)?;
    let clock = Instant::now();
    let mut watchers = Watchers { progress, board: TensorBoard::new(out), times: Times::default() };
    let outcome = train_together(recipe, &loaded.inputs, Some(&dir), &mut watchers, stop, ranks);
    let Watchers { board, times, .. } = watchers;
    if let Err(error) = board.finish() {
        tracing::warn!("the curves for TensorBoard are not whole: {error}");
    }
    if let Some(sitting) = info.sittings.last_mut() {
        sitting.seconds = Some(clock.elapsed().as_secs_f64());
        sitting.times = Some(Breakdown::from(&times));
        sitting.ended = Some(ending(&outcome).into());
    }
    let written = info.write(&path);
    match outcome? {
        Outcome::Stopped => Err(Ended::Interrupted.into()),
        done => written.map(|()| (done, times)),
    }
}

fn info(recipe: &Recipe, loaded: &Loaded, ranks: usize) -> Result<RunInfo> {
    Ok(RunInfo {
        schema: 1,
        version: env!("CARGO_PKG_VERSION").into(),
        commit: option_env!("RSLAD_COMMIT").map(str::to_string),
        seed: recipe.seed,
        recipe_sha256: recipe.hash(),
        data_sha256: loaded.data_sha256.clone(),
        teacher_sha256: loaded.teacher.as_ref().map(|t| t.sha256.clone()),
        second_teacher_sha256: loaded.second_teacher.as_ref().map(|t| t.sha256.clone()),
        sittings: vec![sitting(recipe, ranks)?],
    })
}

fn sitting(recipe: &Recipe, ranks: usize) -> Result<Sitting> {
    let mut sitting = Sitting { processes: (ranks > 1).then_some(ranks), ..Sitting::begin() };
    let device = device::chosen(recipe.device.as_ref().map(|device| device.on))?;
    sitting.host.device = (device != DeviceSpec::Cpu).then(|| device.to_string());
    Ok(sitting)
}

fn ending(outcome: &rslad_distill::Result<Outcome>) -> &'static str {
    match outcome {
        Ok(Outcome::Stopped) => "stopped",
        Ok(_) => "finished",
        Err(_) => "failed",
    }
}
