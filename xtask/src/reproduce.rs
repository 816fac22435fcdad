//! `cargo xtask reproduce`: a table of the paper, from nothing to a report.
//!
//! A table (`xtask/tables`, what was published) and a scale (`xtask/scales`, with what data and budget)
//! become a GRID file; the `rslad` binary plans it, works it off and reports it. Nothing of that lives
//! here, and no crate of the workspace is linked: the binary is a program like any other.

mod args;
mod compose;
mod scale;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use args::Args;
use scale::Scale;

use crate::binary::{self, With};

/// What can be reproduced, and the scales of each.
pub(crate) const TABLES: &[(&str, &[&str], &str)] = &[
    ("digits", &["smoke", "small"], "all methods on embedded digits; no published values"),
    ("cifar10", &["smoke", "small", "paper"], "Table 3 of the paper: CIFAR-10, white box"),
    ("cifar100", &["smoke", "small", "paper"], "Table 4 of the paper: CIFAR-100, white box"),
    ("blackbox", &["smoke", "small", "paper"], "the black-box table: CIFAR-10, transfer and Square"),
    ("ablation", &["smoke", "small"], "which label in which slot, and alpha"),
    ("capacity", &["smoke", "small"], "robust accuracy against the size of the student"),
];

/// Exit codes that scripts rely on, as in the binary.
const USAGE: u8 = 2;
const DATA: u8 = 3;
const WEIGHTS: u8 = 4;

/// Plans and runs; returns the exit code.
///
/// # Errors
/// When a file of ours is broken, the binary cannot be built, or the directory cannot be written to.
pub(crate) fn run(root: &Path, words: &[&str]) -> anyhow::Result<u8> {
    let args = match Args::parse(words) {
        Ok(args) => args,
        Err(message) => {
            eprintln!("xtask: {message}\n\n{}", args::help());
            return Ok(USAGE);
        }
    };
    let binary = binary::rslad(root, With::Defaults)?;
    match args.scale.clone() {
        Some(scale) => one_scale(root, &binary, &args, &scale),
        None => as_far_as_it_goes(root, &binary, &args),
    }
}

/// A scale that was asked for.
fn one_scale(root: &Path, binary: &Path, args: &Args, scale: &str) -> anyhow::Result<u8> {
    let place = prepare(root, args, scale)?;
    let code = plan(binary, &place, &[])?;
    if [DATA, WEIGHTS].contains(&code) {
        say_two_ways(args);
        return Ok(DATA);
    }
    if code != 0 || (args.dry_run && !args.hands_over()) {
        return Ok(code);
    }
    if scale == "paper" && !args.yes && !args.dry_run && !args.hands_over() {
        eprintln!("\nxtask: this is the full protocol, with the time that the plan says; add --yes to begin");
        return Ok(USAGE);
    }
    submit(binary, args, &place)
}

/// No scale was asked for: all plans, then `small` if it can begin.
fn as_far_as_it_goes(root: &Path, binary: &Path, args: &Args) -> anyhow::Result<u8> {
    let mut small = None;
    for scale in scales(&args.table) {
        let place = prepare(root, args, scale)?;
        let code = plan(binary, &place, &["--brief"])?;
        println!();
        if *scale == "small" {
            small = Some((place, code));
        }
    }
    match small {
        Some((place, 0)) if !args.dry_run => submit(binary, args, &place),
        Some((_, 0)) => Ok(0),
        Some((_, DATA | WEIGHTS)) => {
            say_two_ways(args);
            Ok(DATA)
        }
        Some((_, code)) => Ok(code),
        None => bail!("{} has no scale `small`", args.table),
    }
}

fn scales(table: &str) -> &'static [&'static str] {
    TABLES.iter().find(|(name, ..)| *name == table).map_or(&[], |(_, scales, _)| scales)
}

/// Never other data and never a smaller scale in silence: what is missing is said, with what helps.
fn say_two_ways(args: &Args) {
    let data = if args.table == "cifar100" { "cifar100" } else { "cifar10" };
    eprintln!(
        "\nSomething that this scale needs is not here. Two ways on:\n  \
         cargo run --release -- data fetch {data}          then this command again; or name a folder: --data DIR\n  \
         cargo xtask reproduce {} --scale smoke     the same road on embedded data, in minutes",
        args.table
    );
}

/// Where a grid and its cells are.
struct Place {
    grid: PathBuf,
    out: PathBuf,
}

/// Writes the grid, the table and the suites that it names.
fn prepare(root: &Path, args: &Args, scale: &str) -> anyhow::Result<Place> {
    let read = |path: PathBuf| fs::read_to_string(&path).with_context(|| path.display().to_string());
    let name = format!("{}-{scale}", args.table);
    let table = read(root.join("xtask/tables").join(format!("{}.toml", args.table)))?;
    let text = read(root.join("xtask/scales").join(format!("{name}.toml")))?;
    let budget: Scale = toml::from_str(&text).with_context(|| format!("xtask/scales/{name}.toml"))?;
    let grid = compose::grid(&name, &table.parse()?, &budget, args)?;
    let out = args.out.clone().unwrap_or_else(|| root.join("runs/reproduce")).join(&name);
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    fs::write(out.join("grid.toml"), toml::to_string(&grid)?)?;
    fs::write(out.join("table.toml"), table)?;
    for suite in budget.suite_files() {
        fs::write(out.join(suite), read(root.join("xtask/suites").join(suite))?)?;
    }
    Ok(Place { grid: out.join("grid.toml"), out })
}

fn plan(binary: &Path, place: &Place, more: &[&str]) -> anyhow::Result<u8> {
    let mut command = Command::new(binary);
    command.args(["grid", "plan"]).arg(&place.grid).arg("--out").arg(place.out.join("cells")).args(more);
    let status = command.status().context("cannot start rslad")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(101))
}

/// Becomes `rslad grid submit`, so that signals reach it alone.
fn submit(binary: &Path, args: &Args, place: &Place) -> anyhow::Result<u8> {
    let mut command = Command::new(binary);
    command.args(["grid", "submit"]).arg(&place.grid).arg("--out").arg(place.out.join("cells"));
    command.args(args.submit());
    if args.dry_run {
        command.arg("--dry-run");
    }
    become_of(command)
}

#[cfg(unix)]
fn become_of(mut command: Command) -> anyhow::Result<u8> {
    use std::os::unix::process::CommandExt;
    Err(command.exec()).context("cannot start rslad")
}

#[cfg(not(unix))]
fn become_of(mut command: Command) -> anyhow::Result<u8> {
    let status = command.status().context("cannot start rslad")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(101))
}
