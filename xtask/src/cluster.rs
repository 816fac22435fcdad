//! `cargo xtask cluster test`: grids and training on the engines that people use, on this machine alone.
//!
//! Each engine has a script of its own under `xtask/cluster`, which starts what it needs over loopback,
//! disturbs it, compares bytes with those of the local engine and ends everything that it has started. An
//! engine that is not installed is skipped and said to be; nothing is installed here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::binary::{self, With};

/// How to use it.
pub(crate) const HELP: &str = "\
usage: cargo xtask cluster test [slurm] [parallel] [mpi]

  slurm     two nodes on this host: an array of cells, requeue, a node killed, the report after all
  parallel  GNU parallel: its master killed, and the cells that are left
  mpi       Open MPI: training by 1, 2 and 4 ranks, a rank killed, ranks that differ

What is not installed is skipped. Everything runs over loopback and is ended, in 6 minutes at most.
RSLAD_BINARY names a binary to test; for `mpi` it must be built with the feature.
";

/// All engines together take at most this long, the build not counted.
const LIMIT: Duration = Duration::from_secs(360);

/// An engine as it is tested.
struct Engine {
    name: &'static str,
    /// Its programs, all of which must be here.
    programs: &'static [&'static str],
    /// The packages of Debian that bring them.
    packages: &'static str,
}

const ENGINES: [Engine; 3] = [
    Engine { name: "parallel", programs: &["parallel"], packages: "parallel" },
    Engine {
        name: "mpi",
        programs: &["mpirun", "mpicc", "clang-lib"],
        packages: "openmpi-bin libopenmpi-dev libclang-dev",
    },
    Engine {
        name: "slurm",
        programs: &["slurmctld", "slurmd", "munged", "sbatch", "scontrol"],
        packages: "slurm-wlm slurmctld slurmd munge",
    },
];

/// Tests the engines that are named, or all of them.
///
/// # Errors
/// When one is unknown, or a test fails.
pub(crate) fn test(root: &Path, names: &[&str]) -> anyhow::Result<()> {
    if let Some(unknown) = names.iter().find(|name| ENGINES.iter().all(|engine| engine.name != **name)) {
        bail!("no engine `{unknown}`\n\n{HELP}");
    }
    let wanted = ENGINES.iter().filter(|engine| names.is_empty() || names.contains(&engine.name));
    let (here, missing): (Vec<&Engine>, Vec<&Engine>) = wanted.partition(|engine| engine.is_here());
    for engine in &missing {
        println!(
            "SKIPPED {:<9} not installed; with Debian: apt-get install {}",
            engine.name, engine.packages
        );
    }
    if here.is_empty() {
        return Ok(());
    }
    let with = if here.iter().any(|engine| engine.name == "mpi") { With::Mpi } else { With::Defaults };
    let binary = binary::rslad(root, with)?;
    let clock = Instant::now();
    let mut failed = vec![];
    for engine in here {
        println!("{}", engine.name);
        let left = LIMIT.saturating_sub(clock.elapsed());
        if !run(root, &binary, engine, left)? {
            failed.push(engine.name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    println!("passed in {} s", clock.elapsed().as_secs());
    Ok(())
}

/// Whether the script of an engine ends well within a time.
fn run(root: &Path, binary: &Path, engine: &Engine, limit: Duration) -> anyhow::Result<bool> {
    let script = root.join("xtask/cluster").join(format!("{}.sh", engine.name));
    let seconds = limit.as_secs().max(1).to_string();
    let mut command = Command::new("timeout"); // TERM is trapped by the script, which then cleans up
    command.args(["--foreground", "--kill-after=90", &seconds, "bash"]).arg(script);
    let own = std::env::current_exe().context("this program has no path")?;
    command.env("RSLAD_BINARY", binary).env("RSLAD_XTASK", own);
    let status = command.status().context("cannot start timeout and bash")?;
    if status.code() == Some(124) {
        println!("FAILED: not done after {seconds} s, of {} for all engines", LIMIT.as_secs());
    }
    Ok(status.success())
}

impl Engine {
    fn is_here(&self) -> bool {
        self.programs.iter().all(|program| match *program {
            "clang-lib" => libclang(),
            program => in_path(program),
        })
    }
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = PathBuf::from("/usr/sbin"); // where daemons are, also for those who do not have it in PATH
    std::env::split_paths(&path).chain([sbin]).any(|folder| folder.join(program).is_file())
}

/// Whether the library is here that the bindings to MPI are made with.
fn libclang() -> bool {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let llvm = folders.filter(|folder| folder.file_name().to_string_lossy().starts_with("llvm-"));
    std::env::var_os("LIBCLANG_PATH").is_some()
        || in_path("llvm-config")
        || llvm.into_iter().any(|folder| folder.path().join("lib/libclang.so").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_has_its_script_and_its_line_of_help() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster");
        for engine in ENGINES {
            let script = std::fs::read_to_string(folder.join(format!("{}.sh", engine.name))).unwrap();
            assert!(script.contains("common.sh"), "{}", engine.name);
            assert!(HELP.contains(&format!("\n  {:<9} ", engine.name)), "{}", engine.name);
        }
        let message = test(Path::new("."), &["pbs"]).unwrap_err().to_string();
        assert!(message.contains("no engine `pbs`"), "{message}");
    }
}
