//! Rules about files as such: where they lie, how long they are, how they end.

use super::Finding;
use super::tree::File;

/// What the root holds besides dotfiles; more belongs into a crate or into `docs`.
const ROOT: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "deny.toml",
    "docs",
    "rslad-attacks",
    "rslad-cli",
    "rslad-data",
    "rslad-distill",
    "rslad-models",
    "xtask",
];

const MAX_LINES: usize = 500;

/// Files that may be longer, each with its reason.
const LONG: &[(&str, &str)] = &[];

/// Folders that exist on one machine and not on the reader's.
const MACHINE: &[&str] = &["home", "root", "tmp", "work", "mnt", "Users"];

/// Nothing new lies in the root.
pub(super) fn root_is_as_listed(files: &[File]) -> Vec<Finding> {
    let mut tops: Vec<&str> = files.iter().filter_map(|file| file.path.split('/').next()).collect();
    tops.dedup(); // files come in path order
    let listed = |top: &str| top.starts_with('.') || ROOT.contains(&top);
    let new = tops.into_iter().filter(|top| !listed(top));
    new.map(|top| Finding::of(top, "not a file of the root; move it into a crate or into docs")).collect()
}

/// Files that people write stay short enough to read.
pub(super) fn files_stay_short(files: &[File]) -> Vec<Finding> {
    too_long(files, LONG)
}

fn too_long(files: &[File], exempt: &[(&str, &str)]) -> Vec<Finding> {
    let is_exempt = |file: &File| exempt.iter().any(|(path, _)| *path == file.path);
    let long = files.iter().filter(|file| file.is_written() && !is_exempt(file));
    long.filter_map(|file| {
        let n = file.text.lines().count();
        let what = format!("{n} lines, expected at most {MAX_LINES}; look for the noun to split it by");
        (n > MAX_LINES).then(|| Finding::of(&file.path, what))
    })
    .collect()
}

/// No white space ends a line, one line break ends a file.
pub(super) fn lines_end_clean(files: &[File]) -> Vec<Finding> {
    files.iter().filter(|file| file.is_written()).flat_map(loose_ends).collect()
}

fn loose_ends(file: &File) -> Vec<Finding> {
    let trailing = file.lines().filter(|(_, line)| line.ends_with(char::is_whitespace));
    let mut findings: Vec<Finding> =
        trailing.map(|(n, _)| Finding::at(file, n, "white space at the end of the line")).collect();
    let text = &file.text;
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        findings.push(Finding::of(&file.path, "expected to end in one line break"));
    }
    findings
}

/// No text names an absolute path of the machine it was written on; data and results included.
pub(super) fn no_path_of_one_machine(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        for (n, line) in file.lines() {
            if let Some(path) = machine_path(line) {
                let what = format!("`{path}` exists on one machine only; write a relative path");
                findings.push(Finding::at(file, n, what));
            }
        }
    }
    findings
}

/// The first such path of a line. A slash that follows a name is inside a relative path or an address.
fn machine_path(line: &str) -> Option<&str> {
    let continues = |c: char| c.is_alphanumeric() || "._-~})>*".contains(c);
    line.match_indices('/').map(|(at, _)| at).find_map(|at| {
        let (before, path) = (&line[..at], &line[at..]);
        let name = MACHINE
            .iter()
            .find(|name| path[1..].strip_prefix(**name).is_some_and(|rest| rest.starts_with('/')))?;
        (!before.ends_with(continues)).then(|| &path[..name.len() + 2])
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::file;
    use super::*;

    #[test]
    fn the_root_takes_dotfiles_and_what_is_listed() {
        let files = [".ci/run", ".gitignore", "Cargo.toml", "rslad-cli/src/main.rs", "docs/a/b.md"];
        assert!(root_is_as_listed(&files.map(|path| file(path, ""))).is_empty());
        let new = root_is_as_listed(&["notes.txt", "utils/a.rs", "utils/b.rs"].map(|path| file(path, "")));
        assert_eq!(new.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["notes.txt", "utils"]);
    }

    #[test]
    fn a_file_of_501_lines_needs_a_reason() {
        let text = "x\n".repeat(500);
        assert!(too_long(&[file("a/b.rs", &text)], &[]).is_empty());
        let long = [file("a/b.rs", &format!("{text}x\n"))];
        assert_eq!(too_long(&long, &[]).len(), 1);
        assert!(too_long(&long, &[("a/b.rs", "one table")]).is_empty());
        assert!(too_long(&[file("a/b.json", &text.repeat(2))], &[]).is_empty());
    }

    #[test]
    fn loose_ends_are_found() {
        let lines = |text: &str| loose_ends(&file("a.md", text)).iter().map(|f| f.line).collect::<Vec<_>>();
        assert!(lines("a\n\nb\n").is_empty());
        assert!(lines("").is_empty());
        assert_eq!(lines("a \nb\t\n"), [Some(1), Some(2)]);
        assert_eq!(lines("a\r\n"), [Some(1)]);
        assert_eq!(lines("a"), [None]);
        assert_eq!(lines("a\n\n"), [None]);
    }

    #[test]
    fn paths_of_one_machine_are_found_and_others_pass() {
        for name in MACHINE {
            for open in ["", "see ", "`", "\"", "--out=", "file://", "("] {
                let line = format!("{open}/{name}/x");
                assert_eq!(machine_path(&line), Some(format!("/{name}/").as_str()), "{line}");
            }
            for open in ["https://example.org", "../a", "..", "~", "${DIR}"] {
                let line = format!("{open}/{name}/x");
                assert_eq!(machine_path(&line), None, "{line}");
            }
        }
        assert_eq!(machine_path("a /workflows/ of /tmpfs, 8/255"), None);
    }
}
