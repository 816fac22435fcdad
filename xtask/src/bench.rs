//! `cargo xtask bench`: one table of times, one item in one process, in turn with another library or
//! with another revision of this one.

mod options;
mod table;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
pub(crate) use options::{HELP, Options};
use table::{Measured, Row};

/// What is timed: a name, its architecture and options, and the batches.
const NETWORKS: &[(&str, &str, &str, &[u32])] = &[
    ("resnet18", "resnet18", "", &[32, 128]),
    ("mobilenet_v2", "mobilenet_v2", "", &[32, 128]),
    ("wrn34-10", "wrn34-10", "", &[32]),
    ("resnet18-w16", "resnet18", "width = 16", &[32]),
];
const ITEMS: [&str; 4] = ["forward", "gradient", "train", "step"];

/// Builds, measures, prints.
///
/// # Errors
/// When a build fails, a process fails, or its answer is none.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    build(root, &root.join("target"))?;
    let ours = Side::Rslad(root.join("target/release/rslad"));
    let others = others(root, options)?;
    let mut rows = Vec::new();
    for (name, item, batch) in cells(options) {
        let cell = Cell { name, item, batch };
        let mut row = Row::new(format!("{} b{batch} {item}", cell.name), others.len());
        for _ in 0..options.pairs {
            let own = ours.measure(&cell, options)?;
            let theirs = others.iter().map(|side| side.measure(&cell, options));
            row.add(own, theirs.collect::<anyhow::Result<Vec<_>>>()?);
        }
        println!("{}", row.line(cell.macs_share(options)));
        rows.push(row);
    }
    if let Some(path) = &options.save {
        std::fs::write(path, table::json(&rows)).with_context(|| format!("cannot write {path}"))?;
        println!("saved to {path}");
    }
    Ok(())
}

fn cells(options: &Options) -> Vec<(&'static str, &'static str, u32)> {
    let all = NETWORKS.iter().flat_map(|(name, _, _, batches)| {
        batches.iter().flat_map(move |&batch| ITEMS.iter().map(move |&item| (*name, item, batch)))
    });
    let wanted = |(name, item, batch): &(&str, &str, u32)| {
        let label = format!("{name} b{batch} {item}");
        let big = *name == "wrn34-10" && matches!(*item, "train" | "step"); // minutes each, asked for by name
        options.only.as_ref().map_or(!big, |only| label.contains(only.as_str()))
    };
    all.filter(wanted).collect()
}

/// One thing to time.
struct Cell {
    name: &'static str,
    item: &'static str,
    batch: u32,
}

/// A program that can time a cell.
enum Side {
    Rslad(std::path::PathBuf),
    PyTorch { python: String, script: std::path::PathBuf, mode: String, layout: &'static str },
}

fn others(root: &Path, options: &Options) -> anyhow::Result<Vec<Side>> {
    let mut sides = Vec::new();
    for mode in options.python.iter().flat_map(|_| &options.modes) {
        let script = root.join("xtask/src/bench/peer.py");
        for layout in ["channels_last", "contiguous"] {
            if layout == "channels_last" || options.both_layouts {
                let python = options.python.clone().context("a mode belongs to a Python")?;
                sides.push(Side::PyTorch { python, script: script.clone(), mode: mode.clone(), layout });
            }
        }
    }
    if let Some(revision) = &options.against {
        sides.push(Side::Rslad(other_revision(root, revision)?));
    }
    Ok(sides)
}

impl Cell {
    fn network(&self) -> (&'static str, &'static str) {
        let found = NETWORKS.iter().find(|(name, ..)| *name == self.name);
        found.map_or(("", ""), |(_, arch, options, _)| (arch, options))
    }

    /// The share of this many FLOP/s that one multiply-add per weight and pixel makes, by seconds; none
    /// where no roof was given.
    fn macs_share(&self, options: &Options) -> Option<f64> {
        let passes = match self.item {
            "forward" => 1.0,
            "gradient" => 2.0,
            "train" => 3.0,
            _ => 26.0, // ten gradients and two training passes
        };
        options.roof.map(|roof| 2.0 * passes * f64::from(self.batch) / (roof * 1e9))
    }
}

impl Side {
    fn measure(&self, cell: &Cell, options: &Options) -> anyhow::Result<Measured> {
        let (batch, runs, threads) =
            (cell.batch.to_string(), options.runs.to_string(), options.threads.to_string());
        let mut words: Vec<String> = options.under.clone();
        match self {
            Self::Rslad(program) => {
                let (arch, settings) = cell.network();
                words.push(program.display().to_string());
                words.extend(
                    ["bench", "--arch", arch, "--options", settings, "--item", cell.item].map(String::from),
                );
                words.extend(["--precision", &options.precision].map(String::from));
            }
            Self::PyTorch { python, script, mode, layout } => {
                words.extend([python.clone(), script.display().to_string()]);
                words.extend([cell.name, cell.item, "--mode", mode, "--layout", layout].map(String::from));
            }
        }
        words.extend(["--batch", &batch, "--runs", &runs, "--threads", &threads].map(String::from));
        words.extend(["--device", &options.device].map(String::from));
        let output = Command::new(&words[0])
            .args(&words[1..])
            .output()
            .with_context(|| format!("cannot start {}", words[0]))?;
        if !output.status.success() {
            bail!("`{}` failed:\n{}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Measured::parse(&String::from_utf8_lossy(&output.stdout))
            .with_context(|| format!("`{}` printed no figures", words.join(" ")))
    }
}

fn build(at: &Path, target: &Path) -> anyhow::Result<()> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--locked", "-p", "rslad-cli", "--target-dir"])
        .arg(target)
        .current_dir(at);
    if !cargo.status().context("cannot start cargo")?.success() {
        bail!("the build in {} failed", at.display());
    }
    Ok(())
}

/// The `rslad` of another revision, from a worktree of its own.
fn other_revision(root: &Path, revision: &str) -> anyhow::Result<std::path::PathBuf> {
    let tree = root.join("target/bench").join(revision.replace('/', "-"));
    if !tree.exists() {
        let mut git = Command::new("git");
        git.args(["worktree", "add", "--detach"]).arg(&tree).arg(revision).current_dir(root);
        if !git.status().context("cannot start git")?.success() {
            bail!("git knows no revision `{revision}`");
        }
    }
    let target = root.join("target/bench/target");
    build(&tree, &target)?;
    let program = tree.join("rslad");
    std::fs::copy(target.join("release/rslad"), &program).context("the build left no program")?;
    Ok(program)
}
