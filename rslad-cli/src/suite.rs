//! The attacks of an evaluation as one suite, whatever flags asked for them, with the text that says it
//! in full: `suite.toml` beside the result, and a suite file like any other.

use crate::exit::Ended;
use anyhow::{Context, Result};
use rslad_attacks::attacks;
use rslad_attacks::suite::{Column, SUITES, Suite, Use};
use rslad_models::Classifier;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use toml::{Table, Value};

/// A suite and its text.
pub(crate) struct Resolved {
    pub(crate) suite: Suite,
    pub(crate) text: String,
}

/// All columns of these suites (embedded or files) and of these attacks with their usual constants.
pub(crate) fn resolve(suites: &[String], attacks: &[String]) -> Result<Resolved> {
    let mut columns = vec![];
    for name in suites {
        columns.extend(columns_of(name)?);
    }
    for name in attacks {
        let entry = attacks::find(name)?;
        let mut column: Table = entry.usual.parse().context("the registry holds TOML")?;
        column.insert("name".into(), entry.name.into());
        column.insert("attack".into(), entry.name.into());
        columns.push(column);
    }
    check_names(&columns)?;
    // A file by its own name: where it lies decides nothing, and a copied grid must find what it has done.
    let named = |suite: &String| Path::new(suite).file_name().map(|name| name.to_string_lossy().into_owned());
    let names: Vec<String> = suites.iter().filter_map(named).chain(attacks.iter().cloned()).collect();
    let asked = names.join(" + ");
    let mut file = Table::from_iter([
        ("name".to_string(), Value::from(asked)),
        ("about".to_string(), Value::from("what one evaluation ran")),
    ]);
    file.insert("column".into(), Value::Array(columns.into_iter().map(Value::Table).collect()));
    let text = toml::to_string(&file).context("suite.toml")?;
    Ok(Resolved { suite: Suite::parse("suite.toml", &text)?, text })
}

impl Resolved {
    /// The same attacks, with the points of those that need gradients made on a surrogate.
    pub(crate) fn on_surrogate(mut self, surrogate: &Arc<dyn Classifier>) -> Self {
        let columns = self.suite.columns.into_iter();
        let elsewhere = |column: Column| Column {
            attack: rslad_attacks::transfer::on_surrogate(column.attack, Arc::clone(surrogate)),
            ..column
        };
        self.suite.columns = columns.map(elsewhere).collect();
        self
    }
}

/// Every suite is for this use.
pub(crate) fn check_use(suites: &[String], asked: Use) -> Result<()> {
    for name in suites {
        if Suite::load(name)?.made_for != asked {
            let fix = match asked {
                Use::Evaluation => {
                    "is for `rslad transfer` or `rslad eval --source`, whose points are made on surrogates"
                }
                Use::Transfer => {
                    "is for `rslad eval` without a surrogate, expected one with `for = \"transfer\"`"
                }
            };
            return Err(Ended::Usage(format!("suite `{name}` {fix}")).into());
        }
    }
    Ok(())
}

fn columns_of(name: &str) -> Result<Vec<Table>> {
    // Its errors name the file, the column and the key.
    Suite::load(name).map_err(|error| match error {
        rslad_attacks::Error::Io { .. } => anyhow::Error::from(Ended::Usage(format!(
            "{error}; expected a suite in TOML: see `rslad list suites`"
        ))),
        other => other.into(),
    })?;
    let text = match SUITES.iter().find(|entry| entry.name == name) {
        Some(entry) => entry.text.to_string(),
        None => std::fs::read_to_string(name).map_err(|e| Ended::Usage(format!("{name}: {e}")))?,
    };
    let mut file: Table = text.parse().with_context(|| name.to_string())?;
    let columns = file.remove("column").context("a suite has columns")?;
    Ok(columns.try_into()?)
}

fn check_names(columns: &[Table]) -> Result<(), Ended> {
    let mut seen = BTreeSet::new();
    match columns.iter().filter_map(|column| column["name"].as_str()).find(|name| !seen.insert(*name)) {
        None => Ok(()),
        Some(twice) => Err(Ended::Usage(format!(
            "column `{twice}` is asked for twice by --suite and --attack, expected once; drop one of them"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(suites: &[&str], attacks: &[&str]) -> Result<Resolved> {
        let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        resolve(&owned(suites), &owned(attacks))
    }

    #[test]
    fn the_text_of_an_evaluation_is_a_suite_of_the_same_columns() {
        let whole = resolved(&["select"], &["fgsm", "pgd"]).unwrap();
        let names: Vec<&str> = whole.suite.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["pgd10", "fgsm", "pgd"]);

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("suite.toml");
        std::fs::write(&file, &whole.text).unwrap();
        let again = resolved(&[file.to_str().unwrap()], &[]).unwrap();
        let columns = |text: &str| text.parse::<Table>().unwrap()["column"].clone();
        assert_eq!(columns(&again.text), columns(&whole.text));

        let copy = dir.path().join("elsewhere/suite.toml");
        std::fs::create_dir(dir.path().join("elsewhere")).unwrap();
        std::fs::copy(&file, &copy).unwrap();
        let elsewhere = resolved(&[copy.to_str().unwrap()], &[]).unwrap();
        assert_eq!(elsewhere.text, again.text, "where a suite lies is no part of it");
    }

    #[test]
    fn a_column_is_asked_for_once() {
        let error = resolved(&["select"], &["fgsm", "fgsm"]).err().unwrap().to_string();
        assert!(error.contains("column `fgsm` is asked for twice"), "{error}");
    }
}
