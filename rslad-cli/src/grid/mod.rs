//! Grids: a table as a list of cells, each a training run or an evaluation in a directory of its own.
//!
//! There is one contract under every engine, `rslad cell GRID --index I --out DIR`: a finished cell ends
//! at once, a half-done one goes on, one that another process holds is refused. The state of a grid is
//! what its cells' directories hold, never a process, so any number of engines may work on one.
//!
//! A directory is named `<cell>-<hash12>` after everything that its result depends on: the resolved
//! recipe, the hash of the data, the suite in full, and the same of the cells that it builds on. So
//! cells with another budget or another teacher never mix, and one that two grids share is done once.

mod cluster;
pub(crate) mod cost;
pub(crate) mod done;
pub(crate) mod engine;
mod execute;
pub(crate) mod file;
mod hyperqueue;
mod jobs;
pub(crate) mod local;
mod parallel;
pub(crate) mod plan;
mod slurm;
mod waves;

pub(crate) use done::State;
pub(crate) use execute::{Outcome, execute};
pub(crate) use file::Grid;
pub(crate) use plan::Plan;
