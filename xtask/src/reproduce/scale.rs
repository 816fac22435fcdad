//! A scale: with what data and budget a table is filled.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Table, Value};

/// `xtask/scales/<table>-<scale>.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scale {
    /// What it promises, in a sentence; the head of its grid.
    pub(crate) about: String,
    /// What must stand over its numbers.
    pub(crate) stamp: Option<String>,
    /// A data spec of rslad.
    pub(crate) data: String,
    pub(crate) eps: String,
    pub(crate) seeds: Vec<u64>,
    /// Keys of every recipe.
    #[serde(default)]
    pub(crate) set: Table,
    #[serde(default)]
    pub(crate) teacher: Vec<Teacher>,
    /// By the table's names; a student that is not here has no rows.
    pub(crate) student: BTreeMap<String, Part>,
    pub(crate) method: BTreeMap<String, Method>,
    #[serde(default)]
    pub(crate) variant: BTreeMap<String, Part>,
    pub(crate) evaluate: Vec<Evaluate>,
    pub(crate) look: Option<Look>,
}

/// A teacher: trained by a cell of its own, or a weight file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Teacher {
    pub(crate) name: String,
    pub(crate) recipe: Option<String>,
    #[serde(default)]
    pub(crate) set: Table,
    /// Another teacher that it learns from.
    pub(crate) teacher: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) arch: Option<String>,
    /// Its row of the table; one without is not evaluated.
    pub(crate) row: Option<TeacherRow>,
}

/// Whose row a teacher fills.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeacherRow {
    pub(crate) student: String,
    pub(crate) method: String,
}

/// What a student or a variant changes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    #[serde(default)]
    pub(crate) set: Table,
    /// In place of the method's.
    pub(crate) recipe: Option<String>,
    pub(crate) teacher: Option<String>,
    pub(crate) second_teacher: Option<String>,
}

/// How a method is trained.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Method {
    /// A recipe of rslad; `{student}` stands for the table's student.
    pub(crate) recipe: String,
    /// The name of a teacher above.
    pub(crate) teacher: Option<String>,
    pub(crate) second_teacher: Option<String>,
    #[serde(default)]
    pub(crate) set: Table,
}

/// An evaluation of every row.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evaluate {
    /// Part of its cells' names.
    pub(crate) name: String,
    /// Suites of rslad, or files of `xtask/suites`.
    pub(crate) suite: Vec<String>,
    /// The first so many test images; 0 for all.
    pub(crate) n: usize,
    /// A curve over these radii instead of the one of the scale.
    #[serde(default)]
    pub(crate) eps: Vec<String>,
    /// Only these methods; none means all.
    #[serde(default)]
    pub(crate) methods: Vec<String>,
    /// Only these checkpoints; none means those of the table's rows.
    #[serde(default)]
    pub(crate) checkpoints: Vec<String>,
    /// The name of a teacher that the images are made on, for a suite of transfer attacks.
    pub(crate) source: Option<String>,
}

/// Pictures of two methods of one student.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Look {
    pub(crate) student: String,
    pub(crate) methods: Vec<String>,
    pub(crate) attack: String,
    pub(crate) n: usize,
}

impl Scale {
    /// The suites that are files of ours.
    pub(crate) fn suite_files(&self) -> impl Iterator<Item = &str> {
        let suites = self.evaluate.iter().flat_map(|evaluate| &evaluate.suite);
        suites.map(String::as_str).filter(|name| name.ends_with(".toml"))
    }
}

/// Keys as a recipe takes them, `a.b = value`, of a table; a table in braces under `student` replaces
/// the section.
pub(crate) fn merged(parts: &[&Table]) -> Table {
    let mut all = Table::new();
    for part in parts {
        for (key, value) in *part {
            if let Value::Table(_) = value {
                let section = format!("{key}.");
                all.retain(|other, _| !other.starts_with(&section)); // what the section said before
            }
            all.insert(key.clone(), value.clone());
        }
    }
    all
}
