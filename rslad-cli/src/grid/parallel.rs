//! GNU parallel: the GPUs of one machine, one for each slot, or other hosts by ssh.

use super::done::State;
use super::engine::{Engine, Handing, Left};
use super::jobs::{Jobs, quoted};
use super::plan::Plan;
use super::waves;
use crate::exit::Ended;
use crate::progress::Show;
use crate::say;
use anyhow::{Context, Result};
use minijinja::context;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const TEMPLATE: &str = include_str!("../../templates/jobs/parallel.sh.jinja");

/// GNU parallel.
pub(crate) struct Parallel {
    pub(crate) jobs: Jobs,
}

/// How often the script is looked at.
const BLINK: Duration = Duration::from_millis(50);

impl Engine for Parallel {
    fn run(&self, plan: &Plan<'_>, show: Show, stop: &AtomicBool) -> Result<()> {
        let waves = waves::waves(plan);
        let script = self.jobs.render(TEMPLATE, plan, context! { cell => self.cell(plan)?, waves })?;
        if self.jobs.handing == Handing::Shown {
            return Ok(say::result(script.trim_end())?);
        }
        if Command::new("parallel").arg("--version").output().is_err() {
            let message = "parallel: cannot be started, expected GNU parallel for --engine parallel; install it, or \
                           leave --engine out";
            return Err(Ended::Usage(message.into()).into());
        }
        let path = self.jobs.write(plan, "parallel.sh", &script)?;
        if show != Show::Nothing {
            let logs = plan.out.join("logs/joblog.tsv");
            say::note(format!("GNU parallel works on the cells; {} says how they end", logs.display()));
        }
        let mut child = Command::new("bash").arg(path).spawn().context("cannot start bash")?;
        wait(&mut child, stop)?;
        conclude(plan, stop)
    }

    fn leaves(&self) -> Left {
        match self.jobs.handing {
            Handing::Over => Left::Report,
            Handing::Shown => Left::Nothing,
        }
    }
}

impl Parallel {
    /// What parallel runs: `{}` is a cell's index, and a slot's number less one its GPU.
    fn cell(&self, plan: &Plan<'_>) -> Result<String> {
        let words: Vec<String> = self.jobs.cell(plan)?.iter().map(|word| quoted(word)).collect();
        let gpu = match self.jobs.cluster.gpus {
            None | Some(0) => String::new(),
            Some(1) => "CUDA_VISIBLE_DEVICES={= $_ = slot() - 1 =} ".into(),
            Some(n) => format!(
                "CUDA_VISIBLE_DEVICES={{= $_ = join(\",\", map {{ (slot() - 1) * {n} + $_ }} 0 .. {n} - 1) =}} "
            ),
        };
        Ok(format!("{gpu}{} {{}}", words.join(" ")))
    }
}

/// Waits for the script, and hands it the wish to stop.
fn wait(child: &mut Child, stop: &AtomicBool) -> Result<()> {
    let mut told = false;
    while child.try_wait().context("cannot wait for GNU parallel")?.is_none() {
        if stop.load(Ordering::Relaxed) && !told {
            told = true;
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        }
        thread::sleep(BLINK);
    }
    Ok(())
}

fn conclude(plan: &Plan<'_>, stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Err(Ended::Interrupted.into());
    }
    if let Some(missing) = plan.missing().first() {
        return Err(Ended::Missing { what: missing.what.clone(), code: missing.code }.into());
    }
    let open: Vec<usize> =
        (0..plan.cells.len()).filter(|&index| plan.state(index) != State::Finished).collect();
    let Some(&first) = open.first() else { return Ok(()) };
    let what = format!(
        "{} of {} cells are not finished, first `{}`; `rslad cell ... --index {first}` says why",
        open.len(),
        plan.cells.len(),
        plan.cells[first].cell.name()
    );
    Err(Ended::TryAgain(what).into())
}
