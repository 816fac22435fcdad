//! `cargo xtask tidy`: the invariants of ARCHITECTURE.md that a script can check.
//!
//! Each check is a function from the repository's files to findings, so that its test hands it a
//! few strings. What the compiler or clippy can enforce is left to them.

mod code;
mod layout;
mod links;
mod manifests;
mod recipes;
mod records;
mod rust;
pub(crate) mod test_count;
mod toml;
mod tree;

use std::fmt;
use std::path::Path;

use anyhow::bail;
use tree::File;

/// One broken rule: where, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: Option<usize>,
    what: String,
}

impl Finding {
    fn at(file: &File, line: usize, what: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line: Some(line), what: what.into() }
    }

    fn of(path: &str, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.what),
            None => write!(f, "{}: {}", self.path, self.what),
        }
    }
}

type Check = fn(&[File]) -> Vec<Finding>;

const CHECKS: &[Check] = &[
    manifests::arrows_hold,
    manifests::candle_has_one_pinned_version,
    manifests::candle_datasets_is_opt_in,
    rust::unsafe_stays_in_the_kernels,
    rust::candle_draws_nothing,
    rust::attacks_know_no_parameters,
    rust::libraries_never_print,
    rust::nothing_is_left_unfinished,
    layout::root_is_as_listed,
    layout::files_stay_short,
    layout::lines_end_clean,
    layout::no_path_of_one_machine,
    links::relative_links_resolve,
    recipes::recipes_are_their_parts,
    records::records_are_finished_and_small,
];

/// Runs every check over the files that git knows or would add.
///
/// # Errors
/// When git cannot list the files, or a check finds something; the findings go to stderr.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let files = tree::load(root)?;
    let findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(&files)).collect();
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy found {} in {} files", plural(findings.len(), "problem"), files.len());
    }
    println!("tidy: {} over {} files, nothing found", plural(CHECKS.len(), "check"), files.len());
    Ok(())
}

fn plural(n: usize, noun: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{s}")
}
