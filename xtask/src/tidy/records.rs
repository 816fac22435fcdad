//! Records of long runs, which `rslad record` makes and people finish.

use std::collections::BTreeMap;

use super::Finding;
use super::tree::{File, RECORDS};

const MAX_BYTES: usize = 1_000_000;
const HEADINGS: [&str; 2] = ["## What it shows", "## What it cannot show"];
/// What the README of a record begins with and must not end with.
const OPEN: &str = "(to be written";

/// Each is named after its day, says what it shows and what not, and holds nothing large.
pub(super) fn records_are_finished_and_small(files: &[File]) -> Vec<Finding> {
    let mut records: BTreeMap<&str, Vec<(&str, &File)>> = BTreeMap::new();
    for file in files {
        if let Some((record, rest)) = file.path.strip_prefix(RECORDS).and_then(|path| path.split_once('/')) {
            records.entry(record).or_default().push((rest, file));
        }
    }
    records.iter().flat_map(|(name, files)| of_record(name, files)).collect()
}

fn of_record(name: &str, files: &[(&str, &File)]) -> Vec<Finding> {
    let path = format!("{RECORDS}{name}");
    let mut findings = vec![];
    if !is_dated(name) {
        findings.push(Finding::of(&path, "expected a name such as 2026-12-31-what-was-run"));
    }
    match files.iter().find(|(rest, _)| *rest == "README.md") {
        None => findings.push(Finding::of(&path, "no README.md; `rslad record` begins one")),
        Some((_, readme)) => {
            let missing =
                HEADINGS.iter().filter(|heading| !readme.lines().any(|(_, line)| line == **heading));
            findings.extend(missing.map(|heading| Finding::of(&readme.path, format!("no `{heading}`"))));
            let open = readme.lines().filter(|(_, line)| line.contains(OPEN));
            findings.extend(open.map(|(line, _)| Finding::at(readme, line, "still to be written")));
        }
    }
    let large = files.iter().filter(|(_, file)| file.bytes > MAX_BYTES);
    findings.extend(large.map(|(_, file)| {
        Finding::of(&file.path, format!("{} bytes, expected at most {MAX_BYTES}", file.bytes))
    }));
    findings
}

/// `2026-12-31-what-was-run`.
fn is_dated(name: &str) -> bool {
    let shape = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let (Some(date), Some(slug)) = (name.get(..11), name.get(11..)) else { return false };
    date.chars().map(shape).collect::<String>() == "0000-00-00-" && !slug.is_empty()
}

#[cfg(test)]
mod tests {
    use super::super::tree::file;
    use super::*;

    #[test]
    fn a_record_that_is_unfinished_large_or_without_a_date_is_found() {
        let whole = "# a\n\n## What it shows\n\nx\n\n## What it cannot show\n\ny\n";
        let check = |dir: &str, readme: &str, expected: &[&str]| {
            let found = records_are_finished_and_small(&[file(&format!("{RECORDS}{dir}/README.md"), readme)]);
            let whats: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
            assert_eq!(whats.len(), expected.len(), "{whats:?}");
            assert!(whats.iter().zip(expected).all(|(what, part)| what.contains(part)), "{whats:?}");
        };
        check("2026-12-01-four", whole, &[]);
        check("four", whole, &["expected a name such as"]);
        check("2026-12-01-four", &whole.replace('y', "(to be written: z)"), &["still to be written"]);
        check("2026-12-01-four", "# a\n", &["no `## What it shows`", "no `## What it cannot show`"]);
        check("2026-12-01-four", &(whole.to_string() + &"x\n".repeat(MAX_BYTES / 2)), &["expected at most"]);
        let bare = file(&format!("{RECORDS}2026-12-01-four/report/report.md"), "");
        assert_eq!(records_are_finished_and_small(&[bare]).len(), 1, "no README");
    }
}
