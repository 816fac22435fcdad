//! What works on a grid's cells: the seam for schedulers.
//!
//! An engine decides where and when cells run; what a cell is and when it is done is the same under all
//! of them. It starts `rslad cell GRID --index I --out DIR` and reads the exit code.

use super::local::Local;
use super::plan::Plan;
use crate::progress::Show;
use anyhow::Result;
use clap::ValueEnum;
use std::sync::atomic::AtomicBool;

/// The engines by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// Side by side on this machine
    Local,
}

/// Works on all cells that are not finished.
pub(crate) trait Engine {
    /// Returns when nothing is left that can be done.
    ///
    /// # Errors
    /// When told to stop, or a cell failed: then the others have still been done.
    fn run(&self, plan: &Plan<'_>, show: Show, stop: &AtomicBool) -> Result<()>;
}

impl EngineName {
    /// The engine, which may use this many threads.
    pub(crate) fn engine(self, threads: usize) -> Box<dyn Engine> {
        match self {
            Self::Local => Box::new(Local { threads }),
        }
    }
}
