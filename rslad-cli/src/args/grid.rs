//! The flags of grids and reports.

use crate::grid::engine::EngineName;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "\
Writes to DIR:
  report.html                        one file: no network, no script
  report.md report.tex report.json   the same numbers
  figures/                           every figure as SVG and PNG

Examples:
  rslad report runs/quickstart --out runs/quickstart/report
  rslad report runs/a runs/b runs/b-eval --table published.toml --out runs/report")]
pub(crate) struct ReportArgs {
    /// Directories with runs and evaluations, at any depth
    #[arg(value_name = "DIR", required = true)]
    pub(crate) dirs: Vec<PathBuf>,
    /// Published values to set beside the measured ones (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) table: Option<PathBuf>,
    /// The head of the report
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    /// What must stand over every number, such as that none is comparable with the published ones
    #[arg(long, value_name = "TEXT")]
    pub(crate) stamp: Option<String>,
    /// Where the report is written
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example: rslad record runs/teacher runs/sat runs/rslad runs/rslad-eval --title 'Four students' \\
             --log training.log --out xtask/records/2026-12-01-four-students")]
pub(crate) struct RecordArgs {
    /// Directories with runs and evaluations, at any depth
    #[arg(value_name = "DIR", required = true)]
    pub(crate) dirs: Vec<PathBuf>,
    /// The head of the record and of its report
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: String,
    /// Published values to set beside the measured ones (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) table: Option<PathBuf>,
    /// What must stand over every number
    #[arg(long, value_name = "TEXT")]
    pub(crate) stamp: Option<String>,
    /// A log whose last lines are kept; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Vec<PathBuf>,
    /// The directory of the record, empty or with an older one
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct GridArgs {
    #[command(subcommand)]
    pub(crate) command: GridCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GridCommand {
    /// What there is to do, what is done, what it costs as measured here, what is missing
    Plan(PlanArgs),
    /// Do all cells that are not finished, then write the report
    #[command(visible_alias = "run")]
    Submit(SubmitArgs),
    /// How far each cell is
    Status(GridDir),
    /// Write the report of what is finished to DIR/report
    Report(GridDir),
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) dir: GridDir,
    /// The totals only, not a line for each cell
    #[arg(long)]
    pub(crate) brief: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GridDir {
    /// The grid (TOML)
    #[arg(value_name = "GRID")]
    pub(crate) grid: PathBuf,
    /// Where its cells are
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Cells that are finished are left out, so the same command again hands over what is left.

Examples:
  rslad grid submit grid.toml --out runs/grid                                 on this machine
  rslad grid submit grid.toml --out runs/grid --engine slurm --cluster cluster.toml --dry-run

--cluster FILE, every key of which may be left out:
  partition = \"gpu\"   account = \"robust\"   time = \"24:00:00\"   memory = \"16G\"
  gpus = 1   cpus = 4   at_once = 8   warn_seconds = 120
  modules = [\"cuda/12.4\"]   container = \"apptainer exec --nv rslad.sif\"
  program = \"rslad\"   setup = [\"source env.sh\"]   options = [\"--qos=long\"]")]
pub(crate) struct SubmitArgs {
    /// The grid (TOML)
    #[arg(value_name = "GRID")]
    pub(crate) grid: PathBuf,
    /// Where its cells are
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// What runs the cells
    #[arg(long, value_enum, default_value = "local")]
    pub(crate) engine: EngineName,
    /// What a cell needs of a cluster: partition, time, GPUs and the like (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster: Option<PathBuf>,
    /// A template for the engine's script, in place of rslad's own (minijinja)
    #[arg(long, value_name = "FILE")]
    pub(crate) template: Option<PathBuf>,
    /// Print what the engine would be given, and hand over nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Without --index it is read from SLURM_ARRAY_TASK_ID, HQ_TASK_ID, JOB_COMPLETION_INDEX,
SGE_TASK_ID or PBS_ARRAY_INDEX, so any scheduler's array of tasks works a grid off:

  sbatch --array=0-23 --wrap 'exec rslad cell grid.toml --out runs/grid --wait'")]
pub(crate) struct CellArgs {
    /// The grid (TOML)
    #[arg(value_name = "GRID")]
    pub(crate) grid: PathBuf,
    /// Which cell, from 0
    #[arg(long, value_name = "I")]
    pub(crate) index: Option<usize>,
    /// Where the grid's cells are
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Wait for another process that holds the cell, instead of ending with code 6
    #[arg(long)]
    pub(crate) wait: bool,
    /// Save and stop when standard input closes
    #[arg(long, hide = true)]
    pub(crate) while_stdin_is_open: bool,
}
