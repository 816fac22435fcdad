//! Doing one cell.

use super::done::{self, State};
use super::file::{Cell, Evaluating, Model};
use super::plan::{self, Place, Plan, Planned, Task};
use crate::commands::eval::merge;
use crate::commands::train;
use crate::device;
use crate::evaluation::{self, Job, SaveAdversarial};
use crate::exit::Ended;
use crate::inputs;
use crate::look;
use crate::output::Output;
use crate::progress::{Detail, Show, TrainingProgress};
use crate::result_file::{ModelInfo, Question, parse_radius};
use crate::suite::Resolved;
use anyhow::{Context, Result};
use rslad_distill::ranks::Alone;
use rslad_distill::{Recipe, run_dir};
use rslad_models::durable;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Images at a time in an evaluation; changes speed and memory, never a result.
const BATCH: usize = 250;

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Finished,
    WasFinished,
}

/// Does one cell, or what is left of it.
///
/// # Errors
/// When something is missing or wrong, another process holds it, or a cell that it builds on is open.
pub(crate) fn execute(
    plan: &Plan<'_>,
    index: usize,
    show: Show,
    stop: &Arc<AtomicBool>,
) -> Result<(Outcome, PathBuf)> {
    let cell = &plan.cells[index];
    let name = cell.cell.name();
    let place = placed(cell)?;
    if done::is_whole(&place.dir, &place.hash) {
        return Ok((Outcome::WasFinished, place.dir.clone()));
    }
    for &needed in &cell.needs {
        if plan.state(needed) != State::Finished {
            let other = plan.cells[needed].cell.name();
            let message = format!(
                "cell {index} (`{name}`) builds on cell {needed} (`{other}`), which is not finished; do that one \
                 first, then run this again"
            );
            return Err(Ended::TryAgain(message).into());
        }
    }
    let clock = Instant::now();
    let _output = Output::open(&place.dir)?;
    write_cell(&place.dir, cell)?;
    work(plan, cell, place, show, stop)?;
    done::finish(&place.dir, name, &place.hash, clock.elapsed().as_secs_f64())?;
    Ok((Outcome::Finished, place.dir.clone()))
}

/// The place of a cell whose inputs are all there.
fn placed<'p>(cell: &'p Planned<'_>) -> Result<&'p Place, Ended> {
    cell.place.as_ref().map_err(|missing| Ended::Missing {
        what: format!("cell {} (`{}`): {}", cell.index, cell.cell.name(), missing.what),
        code: missing.code,
    })
}

/// `cell.toml`: what the directory is for, so that a report needs nothing but the directory.
fn write_cell(dir: &Path, cell: &Planned<'_>) -> Result<()> {
    let text = toml::to_string(cell.cell).context("cell.toml")?;
    Ok(durable::write(&dir.join("cell.toml"), text.as_bytes())?)
}

fn work(
    plan: &Plan<'_>,
    cell: &Planned<'_>,
    place: &Place,
    show: Show,
    stop: &Arc<AtomicBool>,
) -> Result<()> {
    match (cell.cell, &cell.task) {
        (Cell::Train(training), Task::Train { recipe }) => {
            let file = |model: &Option<Model>| model.as_ref().map(|m| plan.file_of(m)).transpose();
            let located = |model| file(model).map_err(|m| Ended::Missing { what: m.what, code: m.code });
            let teachers = [located(&training.teacher)?, located(&training.second_teacher)?];
            train_here(recipe, &teachers, &place.dir, &training.name, show, stop)
        }
        (Cell::Eval(evaluating), Task::Eval { suite }) => {
            let _held = run_dir::hold(&place.dir)?;
            evaluate(plan, evaluating, suite, &place.dir, show, stop)
        }
        (Cell::Look(looking), _) => {
            let _held = run_dir::hold(&place.dir)?;
            let mut models = vec![];
            for (label, model) in &looking.models {
                models.push((label.clone(), weights(plan, model)?.network));
            }
            let data = plan::open(&looking.data, &looking.split, 0)?;
            let asked = look::Asked {
                attack: &looking.attack,
                eps: parse_radius(&looking.eps)?,
                seed: looking.seed,
                n: looking.n,
            };
            look::look(&models, &data, &asked, stop)?.write(&place.dir)
        }
        (Cell::Merge(merging), _) => {
            let _held = run_dir::hold(&place.dir)?;
            let part = |name: &String| Ok::<_, Ended>(placed(plan.named(name))?.dir.clone());
            let parts = merging.parts.iter().map(part).collect::<Result<Vec<_>, _>>()?;
            merge::whole(&parts)?.write(&place.dir)
        }
        _ => unreachable!("a task is made from its cell"),
    }
}

fn train_here(
    recipe: &Recipe,
    teachers: &[Option<PathBuf>; 2],
    dir: &Path,
    name: &str,
    show: Show,
    stop: &AtomicBool,
) -> Result<()> {
    let loaded = inputs::load_with(recipe, teachers)?;
    let mut progress = TrainingProgress::new(show, name, Detail::Brief);
    train::follow(recipe, &loaded, dir, &mut progress, stop, &Alone).map(drop)
}

fn evaluate(
    plan: &Plan<'_>,
    cell: &Evaluating,
    suite: &Resolved,
    dir: &Path,
    show: Show,
    stop: &Arc<AtomicBool>,
) -> Result<()> {
    let weights = self::weights(plan, &cell.model)?;
    let data = plan::open(&cell.data, &cell.split, cell.n)?;
    inputs::check_fit(&weights.network, &data)?;
    let source = cell.source.as_ref().map(|source| self::weights(plan, source)).transpose()?;
    let elsewhere = match &source {
        Some(source) => {
            inputs::check_fit(&source.network, &data)?;
            Some(plan.suite(cell)?.on_surrogate(&inputs::surrogate(&source.network, stop)?))
        }
        None => None,
    };
    let suite = elsewhere.as_ref().unwrap_or(suite);
    let f = device::frozen(&weights.network)?;
    for eps in &cell.eps {
        let into = if cell.eps.len() == 1 { dir.to_path_buf() } else { dir.join(radius_dir(eps)) };
        let question = Question {
            model: weights.info(),
            source: source.as_ref().map(Weights::info),
            data: evaluation::data_info(&data),
            shard: cell.shard.as_ref().map(|shard| shard.parse().map_err(Ended::Usage)).transpose()?,
            eps: parse_radius(eps)?,
            seed: cell.seed,
        };
        if question.answered(&into, &suite.text).is_ok_and(|found| found.is_some()) {
            continue;
        }
        let out = Output::open(&into)?;
        let job = Job {
            name: &cell.name,
            f: &f,
            data: &data,
            question,
            suite,
            batch_size: BATCH,
            save: SaveAdversarial::No,
            dir: out.path(),
            warnings: vec![],
        };
        let finished = evaluation::run(&job, show, stop)?;
        finished.write(out.path())?;
    }
    Ok(())
}

/// The directory of one radius of a curve.
fn radius_dir(eps: &str) -> String {
    format!("eps-{}", eps.replace('/', "of"))
}

/// A network that a cell works on, and the name of its file as seen from the grid's directory.
struct Weights {
    network: rslad_models::Network,
    sha256: String,
    name: String,
}

impl Weights {
    fn info(&self) -> ModelInfo {
        let (path, sha256) = (self.name.clone(), self.sha256.clone());
        ModelInfo { path, sha256, arch: self.network.arch().clone() }
    }
}

fn weights(plan: &Plan<'_>, model: &Model) -> Result<Weights> {
    let file = plan.file_of(model).map_err(|m| Ended::Missing { what: m.what, code: m.code })?;
    let (network, sha256) = inputs::model(&file)?;
    let name = match model {
        Model::Cell { .. } => file.strip_prefix(&plan.out).unwrap_or(&file).display().to_string(),
        Model::File { file, .. } => file.clone(),
    };
    Ok(Weights { network, sha256, name })
}
