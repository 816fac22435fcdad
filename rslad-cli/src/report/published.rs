//! Published values: a TOML file of rows and columns, each value with where it stands.

use crate::exit::Ended;
use crate::grid::file::{Checkpoint, Role, Row as RowKey};
use anyhow::Result;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A published table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) about: String,
    pub(crate) paper: String,
    /// Where a value stands, unless its row says another place.
    source: String,
    /// The variant that the others are tested against, where no method leads.
    pub(crate) reference: Option<String>,
    pub(crate) column: Vec<Column>,
    pub(crate) row: Vec<Row>,
}

/// A column: an attack.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) heading: String,
}

/// A row: a model under all attacks, in percent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    #[serde(default)]
    role: Role,
    student: String,
    method: String,
    checkpoint: Checkpoint,
    variant: Option<String>,
    source: Option<String>,
    #[serde(default)]
    pub(crate) published: BTreeMap<String, f64>,
}

impl Row {
    /// What rows are matched by.
    pub(crate) fn key(&self) -> RowKey {
        let Self { role, student, method, checkpoint, variant, .. } = self.clone();
        RowKey { role, student, method, checkpoint, variant }
    }
}

impl Table {
    /// Reads and checks a table.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let failed = |message: String| Ended::Usage(format!("{}: {message}", path.display()));
        let text = std::fs::read_to_string(path)
            .map_err(|e| failed(format!("cannot be read ({e}), expected a table of published values")))?;
        let table: Self = toml::from_str(&text).map_err(|e| failed(e.to_string().trim_end().to_string()))?;
        for row in &table.row {
            let known = |name: &str| table.column.iter().any(|column| column.name == name);
            if let Some(name) = row.published.keys().find(|name| !known(name)) {
                let message = format!("a row publishes `{name}`, expected a column of the table");
                return Err(failed(message).into());
            }
            if let Some((name, value)) = row.published.iter().find(|(_, v)| !(0.0..=100.0).contains(*v)) {
                return Err(failed(format!("`{name}` is {value}, expected percent, 0 to 100")).into());
            }
        }
        Ok(table)
    }

    /// Whether it holds a value at all: some tables say only which rows there are.
    pub(crate) fn publishes(&self) -> bool {
        self.row.iter().any(|row| !row.published.is_empty())
    }

    /// Where the values of a row stand.
    pub(crate) fn source<'t>(&'t self, row: &'t Row) -> &'t str {
        row.source.as_deref().unwrap_or(&self.source)
    }
}
