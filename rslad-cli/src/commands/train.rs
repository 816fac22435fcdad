//! `rslad train`.

use crate::args::TrainArgs;
use crate::exit::Ended;
use crate::inputs::{self, Loaded};
use crate::progress::{Detail, Show, TrainingProgress};
use crate::run_info::{RunInfo, Sitting};
use crate::{interrupt, logging};
use anyhow::{Result, anyhow};
use rslad_distill::trainer::clean_accuracy;
use rslad_distill::{Outcome, Recipe, RunDir, train};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

pub(crate) fn run(args: &TrainArgs, quiet: bool) -> Result<()> {
    let recipe = Recipe::load(&args.recipe, &changes(args)?)?;
    if args.print {
        print!("{}", recipe.to_toml());
        return Ok(());
    }
    let out = args.out.as_deref().ok_or_else(|| anyhow!("--out is required"))?;
    let loaded = inputs::load(&recipe)?;
    let show = Show::here(quiet);
    if show != Show::Nothing {
        header(&args.recipe, &recipe, &loaded, out)?;
    }
    let stop = interrupt::flag()?;
    let mut progress = TrainingProgress::new(show, "training", Detail::Epochs);
    let outcome = follow(&recipe, &loaded, out, &mut progress, &stop)?;
    drop(progress);
    let state = if outcome == Outcome::AlreadyFinished { "already finished" } else { "finished" };
    println!("{state}: {}", out.join("last.safetensors").display());
    Ok(())
}

/// The recipe's keys that flags change, in the order in which they count.
fn changes(args: &TrainArgs) -> Result<Vec<(String, String)>> {
    let mut changes = args.set.clone();
    changes.extend(args.data.iter().map(|spec| ("data.set".to_string(), toml_string(spec))));
    for teacher in &args.teacher {
        let (slot, file) = teacher.split_once('=').unwrap_or(("teacher", teacher));
        if !["teacher", "second_teacher"].contains(&slot) {
            let message = format!(
                "--teacher {teacher}: `{slot}` is no teacher, expected teacher=FILE or second_teacher=FILE"
            );
            return Err(Ended::Usage(message).into());
        }
        changes.push((format!("{slot}.file"), toml_string(file)));
    }
    changes.extend(args.seed.map(|seed| ("seed".to_string(), seed.to_string())));
    Ok(changes)
}

fn toml_string(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn header(name: &str, recipe: &Recipe, loaded: &Loaded, out: &Path) -> Result<()> {
    let Loaded { inputs, .. } = loaded;
    let [c, h, w] = inputs.train.shape();
    eprintln!(
        "rslad {} · {name} · seed {} · recipe {}",
        env!("CARGO_PKG_VERSION"),
        recipe.seed,
        &recipe.hash()[..12]
    );
    eprintln!(
        "{}: {} images to train on, {} to select on, {c}x{h}x{w}, {} classes",
        recipe.data.set,
        inputs.train.len(),
        inputs.selection.len(),
        inputs.train.n_classes()
    );
    if let (Some(teacher), Some(frozen)) = (&loaded.teacher, &inputs.teacher) {
        inputs::check_fit(&teacher.network, &inputs.selection)?;
        let clean = clean_accuracy(frozen, &inputs.selection)?;
        let spec = teacher.network.arch();
        eprintln!(
            "teacher: {} (sha256 {}), clean {:.1} % on the selection images",
            spec.arch,
            &teacher.sha256[..12],
            100.0 * clean
        );
    }
    eprintln!("run directory: {} (interrupt and run again to continue)\n", out.display());
    Ok(())
}

/// Trains in a directory and keeps its `run.json`.
pub(crate) fn follow(
    recipe: &Recipe,
    loaded: &Loaded,
    out: &Path,
    progress: &mut TrainingProgress,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let dir = RunDir::open(out, recipe)?;
    logging::also_to(out)?;
    let path = dir.file("run.json");
    let info = RunInfo {
        schema: 1,
        version: env!("CARGO_PKG_VERSION").into(),
        commit: option_env!("RSLAD_COMMIT").map(str::to_string),
        seed: recipe.seed,
        recipe_sha256: recipe.hash(),
        data_sha256: loaded.data_sha256.clone(),
        teacher_sha256: loaded.teacher.as_ref().map(|t| t.sha256.clone()),
        second_teacher_sha256: loaded.second_teacher_sha256.clone(),
        sittings: vec![Sitting::begin()],
    };
    let mut info = info.continued(&path);
    info.write(&path)?;
    let clock = Instant::now();
    let outcome = train(recipe, &loaded.inputs, &dir, progress, stop);
    if let Some(sitting) = info.sittings.last_mut() {
        sitting.seconds = Some(clock.elapsed().as_secs_f64());
        sitting.ended = Some(
            match outcome {
                Ok(Outcome::Stopped) => "stopped",
                Ok(_) => "finished",
                Err(_) => "failed",
            }
            .into(),
        );
    }
    info.write(&path)?;
    match outcome? {
        Outcome::Stopped => Err(Ended::Interrupted.into()),
        done => Ok(done),
    }
}
