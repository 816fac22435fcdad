//! Records: what a repository keeps of runs that took long, so that their numbers can be checked, and
//! reported anew, without running them again.
//!
//! | file | what |
//! |---|---|
//! | `README.md` | what it shows and what it cannot; begun here, written by people, never written over |
//! | `INVENTORY.md` | machine, hashes, times and commands of every run; what was left out |
//! | `runs/` | recipes, measurements, results, ends of logs and small weights |
//! | `logs/` | the ends of other logs |
//! | `report/` | the report of `runs/` |

mod keep;
mod paths;

use crate::exit::Ended;
use crate::output::Output;
use crate::report::render::render;
use crate::report::{self, Frame};
use anyhow::{Context, Result};
use minijinja::context;
use minijinja::value::{Serde, Value};
use rslad_models::durable;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use keep::WEIGHTS;

const README: &str = include_str!("../../templates/record-readme.md.jinja");
const INVENTORY: &str = include_str!("../../templates/record-inventory.md.jinja");
/// Written last, so a directory that holds it is a record.
const MARK: &str = "INVENTORY.md";
const RUNS: &str = "runs";
const REPORT: &str = "report";
const TABLE: &str = "table.toml";

/// What is recorded.
pub(crate) struct Asked<'a> {
    pub(crate) dirs: &'a [PathBuf],
    pub(crate) logs: &'a [PathBuf],
    pub(crate) title: &'a str,
    pub(crate) table: Option<&'a Path>,
    pub(crate) stamp: Option<&'a str>,
}

/// Records; returns the path of the README. What an earlier call has recorded there is made anew, but for
/// the README.
///
/// # Errors
/// When nothing below the directories can be reported, two of them have one name, `out` holds something
/// else, or it cannot be written to.
pub(crate) fn write(asked: &Asked<'_>, out: &Path) -> Result<PathBuf> {
    for dir in asked.dirs {
        keep::something(dir)?; // before anything of an older record goes
    }
    let output = Output::open(out)?;
    clear(out)?;
    let mut left_out = vec![];
    for dir in asked.dirs {
        let to = out.join(RUNS).join(name(dir)?);
        if to.exists() {
            let message =
                format!("{}: another directory has that name, expected one for each", dir.display());
            return Err(Ended::Usage(message).into());
        }
        keep::below(dir, &to, &mut left_out)?;
    }
    for log in asked.logs {
        let text = fs::read_to_string(log).with_context(|| log.display().to_string())?;
        durable::write(&made(out, "logs")?.join(name(log)?), keep::tail(&text).as_bytes())?;
    }
    let table = asked.table.map(|table| -> Result<PathBuf> {
        fs::copy(table, output.file(TABLE)).with_context(|| table.display().to_string())?;
        Ok(output.file(TABLE))
    });
    let frame = Frame {
        title: Some(asked.title.into()),
        stamp: asked.stamp.map(str::to_string),
        remake: Some(remake(asked)),
        table: table.transpose()?,
        to_do: 0,
    };
    let (_, report) = report::write_all(&[out.join(RUNS)], &frame, &out.join(REPORT))?;
    keep::small_only(&out.join(REPORT), &mut left_out)?;
    left_out.iter_mut().for_each(|file| file.below(out));
    let facts = context! {
        title => asked.title,
        remake => frame.remake,
        provenance => Value::from(Serde(&report.provenance)),
        left_out => Value::from(Serde(&left_out)),
        commands => commands(out)?,
        limit => keep::LIMIT,
    };
    let readme = output.file("README.md");
    if !readme.exists() {
        durable::write(&readme, render("README.md", README, facts.clone())?.as_bytes())?;
    }
    durable::write(&output.file(MARK), render(MARK, INVENTORY, facts)?.as_bytes())?;
    Ok(readme)
}

/// Makes room for a new record in place of an older one of the same runs.
fn clear(out: &Path) -> Result<()> {
    let is_empty = fs::read_dir(out).with_context(|| out.display().to_string())?.next().is_none();
    if !is_empty && !out.join(MARK).is_file() {
        let message =
            format!("{}: neither empty nor a record (it has no {MARK}); choose another --out", out.display());
        return Err(Ended::Usage(message).into());
    }
    for folder in [RUNS, REPORT, "logs"].map(|folder| out.join(folder)) {
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
    }
    match fs::remove_file(out.join(TABLE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| out.join(TABLE).display().to_string())
        }
        _ => Ok(()),
    }
}

fn made(out: &Path, folder: &str) -> Result<PathBuf> {
    let folder = out.join(folder);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// The last part of a path, also of `.` and of one that ends in `..`.
fn name(path: &Path) -> Result<String> {
    let whole = path.canonicalize().with_context(|| path.display().to_string())?;
    let name = whole.file_name().with_context(|| format!("{}: has no name", path.display()))?;
    Ok(name.to_string_lossy().into_owned())
}

/// The command that makes the report again, in the directory of the record.
fn remake(asked: &Asked<'_>) -> String {
    let quoted = |flag: &str, text: &str| format!(" --{flag} '{}'", text.replace('\'', "'\\''"));
    let table = asked.table.map_or(String::new(), |_| format!(" --table {TABLE}"));
    let stamp = asked.stamp.map_or(String::new(), |stamp| quoted("stamp", stamp));
    format!("rslad report {RUNS}{table}{}{stamp} --out {REPORT}", quoted("title", asked.title))
}

/// The command lines of the runs, as they were typed last.
fn commands(out: &Path) -> Result<Vec<String>> {
    let mut infos = vec![];
    keep::find(&out.join(RUNS), "run.json", &mut infos)?;
    let line = |path: &PathBuf| -> Option<String> {
        let info: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let words = info["sittings"].as_array()?.last()?["command_line"].as_array()?;
        let words: Vec<&str> = words.iter().skip(1).filter_map(|word| word.as_str()).collect();
        Some(format!("rslad {}", words.join(" ")))
    };
    Ok(infos.iter().filter_map(line).collect())
}
