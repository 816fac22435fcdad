//! The files of the repository, as the checks see them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// A file: its path from the root, with `/` between the parts, and its text.
pub(super) struct File {
    pub(super) path: String,
    /// Empty where the file is not UTF-8: no check looks into a binary file.
    pub(super) text: String,
    /// How long it is.
    pub(super) bytes: usize,
}

/// Where records of long runs are: what tools wrote, but for a README in each.
pub(super) const RECORDS: &str = "xtask/records/";

/// What people write and read, as opposed to data and what tools write.
const WRITTEN: &[&str] = &["rs", "toml", "md", "cu", "sh", "py", "yml", "yaml"];

impl File {
    /// The text line by line, counted from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.split('\n').enumerate().map(|(i, line)| (i + 1, line))
    }

    /// Whether a person wrote it; data and lock files are not held to the rules of style.
    pub(super) fn is_written(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        if self.path.starts_with(RECORDS) && name != "README.md" {
            return false;
        }
        match name.trim_start_matches('.').rsplit_once('.') {
            Some((_, extension)) => WRITTEN.contains(&extension),
            None => true,
        }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Every file that is tracked or would be added, in path order.
///
/// git answers, not a walk over the folders, so that what is ignored here is what is ignored there.
///
/// # Errors
/// When git is missing or the folder is not a checkout.
pub(super) fn load(root: &Path) -> anyhow::Result<Vec<File>> {
    // A checkout may belong to another user than the one who runs the gate, as in a container.
    let list = ["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(list).current_dir(root).output().context("cannot start git")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("git cannot list {}: {}", root.display(), why.trim());
    }
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut paths: Vec<&str> = names.split_terminator('\0').collect();
    paths.sort_unstable();
    paths.dedup();
    paths.into_iter().filter(|path| root.join(path).is_file()).map(|path| read(root, path)).collect()
}

fn read(root: &Path, path: &str) -> anyhow::Result<File> {
    let bytes = fs::read(root.join(path)).with_context(|| format!("cannot read {path}"))?;
    let length = bytes.len();
    Ok(File { path: path.to_owned(), text: String::from_utf8(bytes).unwrap_or_default(), bytes: length })
}

/// A file for the tests of the checks.
#[cfg(test)]
pub(super) fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned(), bytes: text.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_written_and_data_is_not() {
        for path in ["a/src/lib.rs", "README.md", ".ci/run", "LICENSE-MIT", ".gitignore", ".clippy.toml"] {
            assert!(file(path, "").is_written(), "{path}");
        }
        let recorded = "xtask/records/2026-12-01-a/runs/b/recipe.toml";
        for path in ["Cargo.lock", "a/goldens/losses.json", "a/net.safetensors", "docs/first.png", recorded] {
            assert!(!file(path, "").is_written(), "{path}");
        }
    }

    #[test]
    fn lines_are_counted_from_one() {
        let file = file("a.md", "x\ny");
        assert_eq!(file.lines().collect::<Vec<_>>(), [(1, "x"), (2, "y")]);
    }
}
