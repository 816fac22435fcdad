//! Which files a record keeps, and how: all that says what was done and found, nothing large.

use super::paths::shortened;
use crate::exit::Ended;
use crate::look;
use crate::weight_files::hex;
use anyhow::{Context, Result};
use rslad_models::durable;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// The most bytes of a file that is kept.
pub(super) const LIMIT: usize = 1_000_000;
/// The last lines of a log that are kept.
const TAIL: usize = 60;
/// Weights by their SHA-256, whether they were kept or not: what ties evaluations to their runs.
pub(crate) const WEIGHTS: &str = "weights.sha256";

/// How a file is kept.
#[derive(Clone, Copy)]
enum As {
    /// To the byte.
    Bytes,
    /// With the paths of one machine cut short.
    Text,
    /// Text, without the steps: a line for each is most of the file.
    Measurements,
    /// The end, as text.
    Tail,
}

const KEPT: [(&str, As); 14] = [
    ("cell.toml", As::Text),
    ("recipe.toml", As::Text),
    ("run.json", As::Text),
    ("metrics.jsonl", As::Measurements),
    ("log.jsonl", As::Tail),
    ("best.safetensors", As::Bytes),
    ("last.safetensors", As::Bytes),
    ("suite.toml", As::Text),
    ("result.json", As::Text),
    ("curve.json", As::Text),
    ("per_example.safetensors", As::Bytes),
    ("transfer.json", As::Text),
    ("look.json", As::Text),
    ("look.safetensors", As::Bytes),
];

/// A file that is too large for a repository.
#[derive(Debug, Serialize)]
pub(super) struct LeftOut {
    file: PathBuf,
    bytes: usize,
    sha256: String,
}

impl LeftOut {
    /// Names it as it would be in the record.
    pub(super) fn below(&mut self, record: &Path) {
        if let Ok(short) = self.file.strip_prefix(record) {
            self.file = short.to_path_buf();
        }
    }
}

/// A directory with nothing in it to keep is an error.
pub(super) fn something(dir: &Path) -> Result<()> {
    let refuse = |what: &str| {
        let message = format!(
            "{}: {what}, expected the --out of `rslad train`, `rslad eval` or `rslad transfer`, or one above it",
            dir.display()
        );
        Err(Ended::Usage(message).into())
    };
    if !dir.is_dir() {
        return refuse("no such directory");
    }
    let mut found = vec![];
    for name in ["recipe.toml", "result.json", "transfer.json", look::JSON] {
        find(dir, name, &mut found)?;
    }
    if found.is_empty() { refuse("neither a run nor an evaluation there or below") } else { Ok(()) }
}

/// Keeps what is in a directory and below it.
pub(super) fn below(from: &Path, to: &Path, left_out: &mut Vec<LeftOut>) -> Result<()> {
    let mut weights = String::new();
    for (name, how) in KEPT {
        let path = from.join(name);
        if !path.is_file() {
            continue;
        }
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        if ["best.safetensors", "last.safetensors"].contains(&name) {
            weights += &format!("{}  {name}\n", hex(&bytes));
        }
        let kept = how.keep(bytes);
        match kept.len() <= LIMIT {
            true => write(&to.join(name), &kept)?,
            false => left_out.push(LeftOut { file: to.join(name), bytes: kept.len(), sha256: hex(&kept) }),
        }
    }
    if !weights.is_empty() {
        write(&to.join(WEIGHTS), weights.as_bytes())?;
    }
    for folder in folders(from)? {
        let name = folder.file_name().unwrap_or_default().to_os_string();
        below(&folder, &to.join(name), left_out)?;
    }
    Ok(())
}

impl As {
    fn keep(self, bytes: Vec<u8>) -> Vec<u8> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self {
            Self::Bytes => bytes,
            Self::Text => shortened(&text(&bytes)).into_bytes(),
            Self::Tail => tail(&text(&bytes)).into_bytes(),
            Self::Measurements => {
                let text = text(&bytes);
                let lines = text.lines().filter(|line| !line.starts_with("{\"event\":\"step\""));
                lines.map(|line| line.to_string() + "\n").collect::<String>().into_bytes()
            }
        }
    }
}

/// The end of a log, with the paths of one machine cut short.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let end = &lines[lines.len().saturating_sub(TAIL)..];
    shortened(&end.iter().map(|line| line.trim_end().to_string() + "\n").collect::<String>())
}

/// Takes files that are too large out of a folder.
pub(super) fn small_only(folder: &Path, left_out: &mut Vec<LeftOut>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            small_only(&path, left_out)?;
            continue;
        }
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        if bytes.len() > LIMIT {
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
            left_out.push(LeftOut { file: path, bytes: bytes.len(), sha256: hex(&bytes) });
        }
    }
    Ok(())
}

/// All files of a name in a folder and below it, in order.
pub(super) fn find(folder: &Path, name: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    found.extend(Some(folder.join(name)).filter(|path| path.is_file()));
    folders(folder)?.iter().try_for_each(|below| find(below, name, found))
}

/// The folders in a folder, in order; links are not followed.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.retain(|path| path.is_dir() && !path.is_symlink());
    folders.sort();
    Ok(folders)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(durable::write(path, bytes)?)
}
