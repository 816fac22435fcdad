//! Cells side by side on this machine, within a number of threads.
//!
//! Small networks gain little from a second thread, so cells run side by side before any is given more
//! than one; where fewer can run than there are threads, they share them. Every cell is a process of its
//! own, whose standard input is a pipe from this one: when it closes, the cell saves and stops, so cells
//! end with their engine however that ends.

use super::done::State;
use super::engine::{Engine, Left};
use super::file::Cell;
use super::plan::Plan;
use crate::exit::Ended;
use crate::progress::{Show, Work};
use crate::say;
use anyhow::{Context, Result};
use rslad_models::DeviceSpec;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// This machine.
pub(crate) struct Local {
    /// How many threads may compute at a time.
    pub(crate) threads: usize,
    pub(crate) told: Told,
}

/// Which finished cells get a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    All,
    Training,
}

/// How often children are looked at.
const BLINK: Duration = Duration::from_millis(20);
/// How often a cell is looked at that another process works on.
const PATIENCE: Duration = Duration::from_secs(2);

/// A cell as the engine sees it.
#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Waiting,
    /// Another process holds it; looked at last then.
    Elsewhere(Instant),
    Running,
    Finished,
    /// With its exit code, and what it said.
    Failed(u8, String),
    /// Builds on one that failed or is missing.
    Blocked,
}

struct Running {
    index: usize,
    threads: usize,
    child: Child,
    began: Instant,
}

impl Engine for Local {
    fn run(&self, plan: &Plan<'_>, show: Show, stop: &AtomicBool) -> Result<()> {
        let phases = (0..plan.cells.len()).map(|index| match plan.state(index) {
            State::Finished => Phase::Finished,
            State::Missing(_) => Phase::Blocked,
            _ => Phase::Waiting,
        });
        let phases: Vec<Phase> = phases.collect();
        let done = phases.iter().filter(|phase| **phase == Phase::Finished).count();
        let work = Work::new(show, "cells", phases.len() as u64, done as u64);
        let logs = plan.out.join("logs");
        fs::create_dir_all(&logs).map_err(|source| Ended::NotWritable { path: logs.clone(), source })?;
        let (threads, told) = (self.threads, self.told);
        Turn { plan, threads, told, phases, running: vec![], work, logs, show }.work(stop)
    }

    fn leaves(&self) -> Left {
        Left::Report
    }
}

/// One call of the engine.
struct Turn<'p, 'g> {
    plan: &'p Plan<'g>,
    threads: usize,
    told: Told,
    phases: Vec<Phase>,
    running: Vec<Running>,
    work: Work,
    logs: PathBuf,
    show: Show,
}

impl Turn<'_, '_> {
    fn work(mut self, stop: &AtomicBool) -> Result<()> {
        loop {
            if stop.load(Ordering::Relaxed) {
                return self.stop();
            }
            self.block();
            self.start()?;
            self.collect()?;
            let waits = |index| self.is_ready(index) || matches!(self.phases[index], Phase::Elsewhere(_));
            if self.running.is_empty() && !(0..self.phases.len()).any(waits) {
                break;
            }
            thread::sleep(BLINK);
        }
        self.conclude()
    }

    /// What builds on a failure will not be done.
    fn block(&mut self) {
        for index in 0..self.phases.len() {
            let lost = |&needed: &usize| matches!(self.phases[needed], Phase::Failed(..) | Phase::Blocked);
            if self.phases[index] == Phase::Waiting && self.plan.cells[index].needs.iter().any(lost) {
                self.phases[index] = Phase::Blocked;
            }
        }
    }

    fn start(&mut self) -> Result<()> {
        let busy: usize = self.running.iter().map(|running| running.threads).sum();
        let mut free = self.threads.saturating_sub(busy);
        let mut ready: Vec<usize> = (0..self.phases.len()).filter(|&index| self.is_ready(index)).collect();
        ready.truncate(free);
        while !ready.is_empty() {
            let share = free.div_ceil(ready.len());
            let index = ready.remove(0);
            let child = self.spawn(index, share)?;
            self.phases[index] = Phase::Running;
            self.running.push(Running { index, threads: share, child, began: Instant::now() });
            free -= share;
        }
        Ok(())
    }

    fn is_ready(&self, index: usize) -> bool {
        let may_begin = match &self.phases[index] {
            Phase::Waiting => true,
            Phase::Elsewhere(looked) => looked.elapsed() >= PATIENCE,
            _ => false,
        };
        may_begin && self.plan.cells[index].needs.iter().all(|&needed| self.phases[needed] == Phase::Finished)
    }

    fn spawn(&self, index: usize, threads: usize) -> Result<Child> {
        let log = self.log(index);
        let log = File::create(&log).map_err(|source| Ended::NotWritable { path: log, source })?;
        let program = std::env::current_exe().context("cannot find this program to run a cell")?;
        let device = DeviceSpec::from_environment()?.map(|device| ("RSLAD_DEVICE", device.to_string()));
        Command::new(program)
            .arg("cell")
            .arg(&self.plan.grid.path)
            .args(["--index", &index.to_string(), "--while-stdin-is-open", "--out"])
            .arg(&self.plan.out)
            .env("RSLAD_THREADS", threads.to_string())
            .env("RAYON_NUM_THREADS", threads.to_string())
            .envs(device)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start a cell")
    }

    fn log(&self, index: usize) -> PathBuf {
        self.logs.join(format!("{}.log", self.plan.cells[index].cell.name()))
    }

    fn collect(&mut self) -> Result<()> {
        let mut still = vec![];
        for mut running in std::mem::take(&mut self.running) {
            match running.child.try_wait().context("cannot wait for a cell")? {
                None => still.push(running),
                Some(status) => self.ended(&running, status.code()),
            }
        }
        self.running = still;
        Ok(())
    }

    fn ended(&mut self, running: &Running, code: Option<i32>) {
        let Running { index, began, .. } = running;
        let name = self.plan.cells[*index].cell.name().to_string();
        self.phases[*index] = match code {
            Some(0) => Phase::Finished,
            Some(6) => Phase::Elsewhere(Instant::now()),
            Some(code) => Phase::Failed(u8::try_from(code).unwrap_or(101), last_words(&self.log(*index))),
            None => Phase::Failed(101, "was killed".into()),
        };
        match &self.phases[*index] {
            Phase::Finished => {
                self.work.advance(1, || name.clone());
                let trains = matches!(self.plan.cells[*index].cell, Cell::Train(_));
                if trains || self.told == Told::All {
                    self.work.line(&format!("  {name:<40} {:>7.1} s", began.elapsed().as_secs_f64()));
                }
            }
            Phase::Failed(code, words) => self.work.line(&format!("  {name:<40} failed ({code}): {words}")),
            _ => {}
        }
    }

    /// The children see their input close, save and end.
    fn stop(mut self) -> Result<()> {
        for running in &mut self.running {
            drop(running.child.stdin.take());
        }
        for mut running in std::mem::take(&mut self.running) {
            let _ = running.child.wait();
        }
        Err(Ended::Interrupted.into())
    }

    fn conclude(self) -> Result<()> {
        let blocked = self.phases.iter().filter(|phase| **phase == Phase::Blocked).count();
        let failed: Vec<(usize, u8, &String)> = self.phases.iter().enumerate().filter_map(failure).collect();
        let Some(&(first, code, words)) = failed.first() else {
            return match self.plan.missing().first() {
                None => Ok(()),
                Some(missing) => {
                    Err(Ended::Missing { what: missing.what.clone(), code: missing.code }.into())
                }
            };
        };
        if self.show != Show::Nothing && blocked > 0 {
            say::note(format!("  {blocked} cells build on what failed or is missing, and were not begun"));
        }
        let name = self.plan.cells[first].cell.name();
        let what = format!("{} of {} cells failed; first `{name}`: {words}", failed.len(), self.phases.len());
        Err(Ended::Cell { what, code }.into())
    }
}

fn failure((index, phase): (usize, &Phase)) -> Option<(usize, u8, &String)> {
    match phase {
        Phase::Failed(code, words) => Some((index, *code, words)),
        _ => None,
    }
}

/// The error that a cell ended with.
fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    last.trim_start_matches("error: ").to_string()
}
