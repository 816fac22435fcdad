//! What works on a grid's cells: the seam for schedulers.
//!
//! An engine decides where and when cells run; what a cell is and when it is done is the same under all
//! of them. It starts `rslad cell GRID --index I --out DIR` and reads the exit code. Nothing of ours
//! schedules, keeps state or listens: the cells' directories say what is done.

use super::cluster::Cluster;
use super::hyperqueue::HyperQueue;
use super::jobs::Jobs;
use super::local::{Local, Told};
use super::parallel::Parallel;
use super::plan::Plan;
use super::slurm::Slurm;
use crate::exit::Ended;
use crate::progress::Show;
use anyhow::Result;
use clap::ValueEnum;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// The engines by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// Side by side on this machine
    Local,
    /// GNU parallel: the GPUs of this machine, or other hosts by ssh
    Parallel,
    /// Arrays of jobs, and the report when all have ended
    Slurm,
    /// A job of HyperQueue (not tested: written after its documentation)
    Hq,
}

/// What is left when an engine returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Cells were worked on here: their report is to be written.
    Report,
    /// The cells are in a queue, or were only shown.
    Nothing,
}

/// Works on all cells that are not finished.
pub(crate) trait Engine {
    /// Returns when nothing is left that can be done, or when a scheduler has taken the cells over.
    ///
    /// # Errors
    /// When told to stop, or a cell failed: then the others have still been done.
    fn run(&self, plan: &Plan<'_>, show: Show, stop: &AtomicBool) -> Result<()>;

    /// What is to be done after it, also where it failed.
    fn leaves(&self) -> Left;
}

/// Whether jobs are handed over or printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handing {
    Over,
    Shown,
}

/// How an engine was asked for.
pub(crate) struct Asked {
    pub(crate) name: EngineName,
    /// The file that says what a cell needs of a cluster.
    pub(crate) cluster: Option<PathBuf>,
    /// In place of the engine's own template.
    pub(crate) template: Option<PathBuf>,
    pub(crate) handing: Handing,
    /// How many threads the local engine may use.
    pub(crate) threads: usize,
}

impl Asked {
    /// The engine.
    ///
    /// # Errors
    /// When a file of it cannot be read, or the local engine is given one.
    pub(crate) fn engine(&self) -> Result<Box<dyn Engine>> {
        if self.name == EngineName::Local {
            let needless = [
                ("--cluster", self.cluster.is_some()),
                ("--template", self.template.is_some()),
                ("--dry-run", self.handing == Handing::Shown),
            ];
            return match needless.iter().find(|(_, given)| *given) {
                None => Ok(Box::new(Local { threads: self.threads, told: Told::All })),
                Some((flag, _)) => Err(Ended::Usage(format!(
                    "{flag} is for engines that render a script, expected --engine parallel, slurm or hq"
                ))
                .into()),
            };
        }
        let cluster = Cluster::load(self.cluster.as_deref())?;
        let jobs = Jobs::new(cluster, self.template.as_deref(), self.handing)?;
        Ok(match self.name {
            EngineName::Slurm => Box::new(Slurm { jobs }),
            EngineName::Hq => Box::new(HyperQueue { jobs }),
            EngineName::Parallel | EngineName::Local => Box::new(Parallel { jobs }),
        })
    }
}
