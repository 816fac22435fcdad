//! Links between the files of the repository.

use std::path::{Component, Path, PathBuf};

use super::Finding;
use super::tree::File;

/// Every relative link of a Markdown file, picture or not, leads to a file or folder that git has.
pub(super) fn relative_links_resolve(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (line, target) in links(&file.text) {
            if !resolves(files, &file.path, &target) {
                findings.push(Finding::at(file, line, format!("link to `{target}`, which is not here")));
            }
        }
    }
    findings
}

/// The targets of a text with their lines; code shows links, it does not make them.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut in_fence = false;
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        } else if !in_fence {
            let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
            found.extend(targets(&prose).into_iter().map(|target| (i + 1, target)));
        }
    }
    found
}

/// What a line points to: `[text](target "title")`, `[name]: target`, `src="target"`, `href="target"`.
fn targets(line: &str) -> Vec<String> {
    let spans = [("](", ')'), ("src=\"", '"'), ("href=\"", '"')];
    let mut found = Vec::new();
    for (open, close) in spans {
        for (at, _) in line.match_indices(open) {
            let rest = &line[at + open.len()..];
            found.extend(rest.split(close).next());
        }
    }
    let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    found.extend(definition.map(|(_, target)| target));
    let path = |target: &str| target.split_whitespace().next().unwrap_or_default().to_owned();
    found.into_iter().map(path).collect()
}

fn resolves(files: &[File], from: &str, target: &str) -> bool {
    let path = target.split('#').next().unwrap_or_default();
    if path.is_empty() {
        return !target.is_empty(); // a heading of the same page
    }
    if path.contains("://") || path.starts_with("mailto:") {
        return true;
    }
    let Some(path) = join(from, path) else { return false };
    let inside = format!("{path}/");
    path.is_empty() || files.iter().any(|file| file.path == path || file.path.starts_with(&inside))
}

/// The path from the root, or none if it leaves the repository.
fn join(from: &str, target: &str) -> Option<String> {
    let mut path = PathBuf::from(from).parent()?.to_path_buf();
    for part in Path::new(target).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => path.pop().then_some(())?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path.to_str()?.replace('\\', "/"))
}

#[cfg(test)]
mod tests {
    use super::super::tree::file;
    use super::*;

    fn broken(text: &str) -> usize {
        let files = [file("docs/a.md", text), file("docs/b c.png", ""), file("rslad-cli/src/main.rs", "")];
        relative_links_resolve(&files).len()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        for text in [
            "[a](a.md) and [b](./a.md#part \"title\")",
            "[crate](../rslad-cli) [file](../rslad-cli/src/main.rs) [root](..)",
            "[web](https://example.org/x) [mail](mailto:a@example.org) [here](#part)",
            "<img src=\"a.md\">",
            "[a]: a.md",
        ] {
            assert_eq!(broken(text), 0, "{text}");
        }
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        for text in [
            "[a](b.md)",
            "![picture](first.png)",
            "[out](../../secret.md)",
            "[absolute](/docs/a.md)",
            "[empty]()",
            "[x]: b.md",
            "<img src=\"first.png\">",
        ] {
            assert_eq!(broken(text), 1, "{text}");
        }
    }

    #[test]
    fn code_makes_no_links() {
        assert_eq!(broken("`[a](b.md)` and\n```\n[a](b.md)\n```\n[a](b.md)"), 1);
    }
}
