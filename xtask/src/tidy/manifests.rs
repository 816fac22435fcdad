//! Rules about the Cargo manifests: the arrows between the crates, and what candle may cost.

use super::Finding;
use super::toml::{Entry, entries, strings};
use super::tree::File;

/// The crates that others build on.
pub(super) const LIBRARIES: &[&str] = &["rslad-models", "rslad-data", "rslad-attacks", "rslad-distill"];

/// The house: each crate, and the crates of the workspace that it may depend on, for tests too.
pub(super) const ARROWS: &[(&str, &[&str])] = &[
    ("rslad-models", &[]),
    ("rslad-data", &["rslad-models"]),
    ("rslad-attacks", &["rslad-models"]),
    ("rslad-distill", &["rslad-models", "rslad-data", "rslad-attacks"]),
    ("rslad-cli", LIBRARIES),
    ("xtask", &[]),
];

/// Dependencies between the crates of the workspace follow the arrows.
pub(super) fn arrows_hold(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, manifest) in members(files) {
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            findings.push(Finding::of(&manifest.path, "a crate without arrows; add it to xtask's ARROWS"));
            continue;
        };
        let is_ours = |dependency: &Dependency| ARROWS.iter().any(|(known, _)| *known == dependency.name);
        for dependency in dependencies(&manifest.text).into_iter().filter(is_ours) {
            if !allowed.contains(&dependency.name.as_str()) {
                let what = format!("{name} must not depend on {}; see ARCHITECTURE.md", dependency.name);
                findings.push(Finding::at(manifest, dependency.line, what));
            }
        }
    }
    findings
}

/// candle's crates move together, so the workspace pins them at one exact version, in one place.
pub(super) fn candle_has_one_pinned_version(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut first: Option<String> = None;
    for file in manifests(files) {
        let candle = dependencies(&file.text).into_iter().filter(|d| d.name.starts_with("candle-"));
        for Dependency { name, spec, line } in candle {
            let Some(version) = version(&spec) else { continue };
            let pinned = first.get_or_insert_with(|| version.to_owned());
            if file.path != "Cargo.toml" {
                findings.push(Finding::at(file, line, format!("{name}: write `{name}.workspace = true`")));
            } else if !version.starts_with('=') {
                let what = format!("{name} is \"{version}\", expected an exact \"={version}\"");
                findings.push(Finding::at(file, line, what));
            } else if version != pinned {
                let what =
                    format!("{name} is \"{version}\", expected \"{pinned}\" like the other candle crates");
                findings.push(Finding::at(file, line, what));
            }
        }
    }
    findings
}

/// candle-datasets pulls in the network and parquet: only rslad-data names it, behind a feature.
pub(super) fn candle_datasets_is_opt_in(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, manifest) in members(files) {
        let mut all = dependencies(&manifest.text).into_iter();
        let Some(dependency) = all.find(|d| d.name == "candle-datasets") else { continue };
        let what = if name != "rslad-data" {
            "only rslad-data may depend on candle-datasets"
        } else if !dependency.spec.contains("optional = true") {
            "candle-datasets must be `optional = true`, behind a feature that the binary turns on"
        } else if enabled_by_default(&manifest.text).iter().any(|on| on.contains("candle-datasets")) {
            "candle-datasets must not be reached by the default features"
        } else {
            continue;
        };
        findings.push(Finding::at(manifest, dependency.line, what));
    }
    findings
}

/// The workspace's members: the name of each and its manifest.
fn members(files: &[File]) -> impl Iterator<Item = (String, &File)> {
    names(files).into_iter().filter_map(|name| {
        let path = format!("{name}/Cargo.toml");
        files.iter().find(|file| file.path == path).map(|file| (name, file))
    })
}

/// The names of the workspace's members; each lies in a folder of its name.
pub(super) fn names(files: &[File]) -> Vec<String> {
    let root = files.iter().find(|file| file.path == "Cargo.toml");
    let entries = root.map(|file| entries(&file.text)).unwrap_or_default();
    let list = entries.into_iter().find(|e| e.section == "workspace" && e.key == "members");
    list.map(|entry| strings(&entry.value)).unwrap_or_default()
}

fn manifests(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.path.rsplit('/').next() == Some("Cargo.toml"))
}

/// Everything that the feature `default` turns on, by way of other features too.
fn enabled_by_default(manifest: &str) -> Vec<String> {
    let features: Vec<Entry> =
        entries(manifest).into_iter().filter(|entry| entry.section == "features").collect();
    let mut on = vec!["default".to_owned()];
    let mut next = 0;
    while let Some(name) = on.get(next) {
        let feature = features.iter().find(|entry| entry.key == *name);
        let new = feature.map(|entry| strings(&entry.value)).unwrap_or_default();
        let new: Vec<String> = new.into_iter().filter(|name| !on.contains(name)).collect();
        on.extend(new);
        next += 1;
    }
    on
}

struct Dependency {
    name: String,
    /// What stands right of the name: a version, a table, or the rest of a dotted key.
    spec: String,
    line: usize,
}

/// The dependencies of a manifest, whatever their kind and platform, under the name they are published by.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    entries(manifest).into_iter().filter_map(dependency).collect()
}

fn dependency(entry: Entry) -> Option<Dependency> {
    let Entry { section, key, value, line } = entry;
    let (name, spec) = if section.ends_with("dependencies") {
        match key.split_once('.') {
            Some((name, rest)) => (name.to_owned(), format!("{rest} = {value}")),
            None => (key, value),
        }
    } else {
        let (_, name) = section.rsplit_once("dependencies.")?;
        (name.to_owned(), format!("{key} = {value}"))
    };
    let renamed = spec.split_once("package = ").and_then(|(_, rest)| strings(rest).into_iter().next());
    Some(Dependency { name: renamed.unwrap_or(name), spec, line })
}

/// The version that a dependency asks for itself, if it does not leave that to the workspace.
fn version(spec: &str) -> Option<&str> {
    let quoted = match spec.split_once("version = ") {
        Some((_, rest)) => rest,
        None => spec,
    };
    quoted.strip_prefix('"')?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::super::tree::file;
    use super::*;

    /// How often a check fires on a workspace of one member.
    fn found(check: fn(&[File]) -> Vec<Finding>, name: &str, manifest: &str) -> usize {
        let root = format!("[workspace]\nmembers = [\n  \"{name}\", # the only one\n]\n");
        check(&[file("Cargo.toml", &root), file(&format!("{name}/Cargo.toml"), manifest)]).len()
    }

    #[test]
    fn every_way_to_write_a_dependency_is_an_arrow() {
        for manifest in [
            "[dependencies]\nrslad-distill.workspace = true\n",
            "[dev-dependencies]\nrslad-distill = { path = \"../rslad-distill\" }\n",
            "[build-dependencies]\n\"rslad-distill\" = \"0.1\"\n",
            "[dependencies.rslad-distill]\nworkspace = true\n",
            "[target.'cfg(unix)'.dependencies]\nrslad-distill.workspace = true\n",
            "[dependencies]\ndistill = { package = \"rslad-distill\", version = \"0.1\" }\n",
        ] {
            assert_eq!(found(arrows_hold, "rslad-attacks", manifest), 1, "{manifest}");
            assert_eq!(found(arrows_hold, "rslad-cli", manifest), 0, "{manifest}");
        }
    }

    #[test]
    fn arrows_ignore_other_crates_and_comments() {
        let manifest = "[dependencies]\nanyhow = \"1\"\n# rslad-distill.workspace = true\n";
        assert_eq!(found(arrows_hold, "rslad-attacks", manifest), 0);
        assert_eq!(found(arrows_hold, "xtask", "[dependencies]\nrslad-models.workspace = true\n"), 1);
    }

    #[test]
    fn a_new_crate_needs_its_arrows() {
        assert_eq!(found(arrows_hold, "rslad-utils", "[package]\n"), 1);
    }

    #[test]
    fn candle_is_pinned_once_and_exactly() {
        let check = |root: &str| candle_has_one_pinned_version(&[file("Cargo.toml", root)]).len();
        let head = "[workspace.dependencies]\ncandle-core = \"=0.11.1\"\n";
        assert_eq!(check(head), 0);
        assert_eq!(check(&format!("{head}candle-nn = {{ version = \"=0.11.1\" }}\n")), 0);
        assert_eq!(check(&format!("{head}candle-nn = \"=0.11.0\"\n")), 1);
        assert_eq!(check(&format!("{head}candle-nn = {{ version = \"0.11.1\" }}\n")), 1);
    }

    #[test]
    fn members_take_candle_from_the_workspace() {
        let check = candle_has_one_pinned_version;
        assert_eq!(found(check, "rslad-models", "[dependencies]\ncandle-core.workspace = true\n"), 0);
        assert_eq!(found(check, "rslad-models", "[dependencies]\ncandle-core = \"=0.11.1\"\n"), 1);
    }

    #[test]
    fn candle_datasets_hides_behind_a_feature_of_rslad_data() {
        let check = |name: &str, text: &str| found(candle_datasets_is_opt_in, name, text);
        let optional =
            "[dependencies]\ncandle-datasets = { workspace = true, optional = true }\n[features]\n";
        let fetch = format!("{optional}fetch = [\"dep:candle-datasets\"]\n");
        assert_eq!(check("rslad-data", &fetch), 0);
        assert_eq!(check("rslad-data", &format!("{fetch}default = [\"std\"]\n")), 0);
        assert_eq!(
            check("rslad-data", &format!("{fetch}default = [\n  \"net\",\n]\nnet = [\"fetch\"]\n")),
            1
        );
        assert_eq!(check("rslad-attacks", &fetch), 1);
        assert_eq!(check("rslad-data", "[dependencies]\ncandle-datasets.workspace = true\n"), 1);
    }
}
