//! `rslad cell`.

use crate::args::CellArgs;
use crate::exit::{self, Ended};
use crate::grid::{self, Grid, Plan};
use crate::progress::Show;
use crate::{interrupt, say};
use anyhow::Result;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often a cell is tried that another process holds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where schedulers say which task of an array this is, in the order in which they are asked.
const INDEX_VARIABLES: [&str; 5] =
    ["SLURM_ARRAY_TASK_ID", "HQ_TASK_ID", "JOB_COMPLETION_INDEX", "SGE_TASK_ID", "PBS_ARRAY_INDEX"];

pub(crate) fn run(args: &CellArgs, quiet: bool) -> Result<()> {
    let grid = Grid::load(&args.grid)?;
    let index = index(args.index, |name| std::env::var(name).ok(), grid.file.cell.len())?;
    let plan = Plan::of(&grid, &args.out)?;
    let show = Show::here(quiet);
    let stop = interrupt::flag(show)?;
    if args.while_stdin_is_open {
        stop_with_stdin(&stop);
    }
    let (outcome, dir) = match args.wait {
        false => grid::execute(&plan, index, show, &stop),
        true => patiently(&stop, || grid::execute(&plan, index, show, &stop)),
    }?;
    if outcome == grid::Outcome::WasFinished && show != Show::Nothing {
        say::note(format!("already done: cell {index} (`{}`)", plan.cells[index].cell.name()));
    }
    Ok(say::result(dir.display())?)
}

/// Does it when whoever else holds the cell has let it go.
fn patiently<T>(stop: &AtomicBool, work: impl Fn() -> Result<T>) -> Result<T> {
    loop {
        match work() {
            Err(error) if exit::code(&error) == 6 && !stop.load(Ordering::Relaxed) => thread::sleep(PATIENCE),
            done => return done,
        }
    }
}

/// The cell to do: from the flag, else from a scheduler.
fn index(
    flag: Option<usize>,
    variable: impl Fn(&str) -> Option<String>,
    cells: usize,
) -> Result<usize, Ended> {
    let (value, origin) = match flag {
        Some(index) => (index.to_string(), "--index"),
        None => {
            let found = INDEX_VARIABLES.iter().find_map(|name| Some((variable(name)?, *name)));
            found.ok_or_else(|| {
                let known = INDEX_VARIABLES.join(", ");
                Ended::Usage(format!("no --index, and none of {known} is set; write --index 0"))
            })?
        }
    };
    match value.trim().parse() {
        Ok(index) if index < cells => Ok(index),
        _ => Err(Ended::Usage(format!(
            "{origin} is {value}, expected 0 to {}, the cells of the grid",
            cells - 1
        ))),
    }
}

/// Raises the flag when standard input closes: whoever started this has ended, or wants this to.
fn stop_with_stdin(stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut vec![]);
        stop.store(true, Ordering::Relaxed);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_comes_from_the_flag_or_from_a_scheduler() {
        let with = |set: &'static str| move |name: &str| (name == set).then(|| "3".to_string());
        for name in INDEX_VARIABLES {
            assert_eq!(index(None, with(name), 4).unwrap(), 3, "{name}");
        }
        assert_eq!(index(Some(1), with("SGE_TASK_ID"), 4).unwrap(), 1, "the flag wins");
        let message = |flag, set, cells| index(flag, with(set), cells).unwrap_err().to_string();
        assert!(message(None, "", 4).contains("no --index, and none of SLURM_ARRAY_TASK_ID"));
        assert_eq!(message(None, "HQ_TASK_ID", 3), "HQ_TASK_ID is 3, expected 0 to 2, the cells of the grid");
        assert!(message(Some(9), "", 3).starts_with("--index is 9"));
    }
}
