//! Suites: the attack columns of a results table, as data.
//!
//! What was run is part of a result, so it is a file that can be read, copied and named, not flags.

use crate::attack::Attack;
use crate::attacks::{self, AttackEntry};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::path::Path;

/// The embedded suites, by name.
pub const SUITES: &[SuiteEntry] = &[
    SuiteEntry { name: "quick", text: include_str!("../suites/quick.toml") },
    SuiteEntry { name: "select", text: include_str!("../suites/select.toml") },
    SuiteEntry { name: "select-released", text: include_str!("../suites/select-released.toml") },
    SuiteEntry { name: "autoattack", text: include_str!("../suites/autoattack.toml") },
    SuiteEntry { name: "paper-whitebox", text: include_str!("../suites/paper-whitebox.toml") },
    SuiteEntry { name: "paper-blackbox", text: include_str!("../suites/paper-blackbox.toml") },
];

/// A line of the registry of suites.
#[derive(Clone, Copy, Debug)]
pub struct SuiteEntry {
    /// The name on the command line and in recipes.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

/// The columns of a results table.
pub struct Suite {
    /// Its name.
    pub name: String,
    /// What it is for, in a line.
    pub about: String,
    /// What its points are made on.
    pub made_for: Use,
    /// Its columns, from left to right.
    pub columns: Vec<Column>,
}

/// What a suite is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// To attack a model: the points are made on the model that they are judged on.
    #[default]
    Evaluation,
    /// To attack a model through others: points of attacks that need gradients are made on surrogates.
    Transfer,
}

/// One attack with its settings.
pub struct Column {
    /// The name of the column: letters, digits, `_`, `-`, `+` and `.`.
    pub name: String,
    /// The attack.
    pub attack: Box<dyn Attack>,
}

/// A suite's file as typed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteFile {
    name: String,
    about: String,
    #[serde(default, rename = "for")]
    made_for: Use,
    column: Vec<toml::Table>,
}

impl Suite {
    /// An embedded suite by its name, or a file's.
    ///
    /// # Errors
    /// When there is no such suite, or its text is not a suite's.
    pub fn load(name_or_path: &str) -> Result<Self> {
        if let Some(entry) = SUITES.iter().find(|entry| entry.name == name_or_path) {
            return Self::parse(&format!("suite `{}`", entry.name), entry.text);
        }
        let path = Path::new(name_or_path);
        if !name_or_path.contains(['/', '.']) && !path.exists() {
            let known = SUITES.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
            return Err(Error::UnknownSuite { name: name_or_path.to_owned(), known });
        }
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Self::parse(name_or_path, &text)
    }

    /// The suite in a text; `origin` is what errors call it.
    ///
    /// # Errors
    /// When a key is missing, unknown or has a value outside its domain, or a column's name is taken.
    pub fn parse(origin: &str, text: &str) -> Result<Self> {
        let config = |message: String| Error::Config(format!("{origin}: {message}"));
        let file: SuiteFile = toml::from_str(text).map_err(|e| {
            config(format!(
                "{}; a suite has `name`, `about` and a `[[column]]` for each attack",
                e.to_string().trim()
            ))
        })?;
        let mut columns: Vec<Column> = Vec::new();
        for (i, keys) in file.column.into_iter().enumerate() {
            let column = Column::read(i, keys).map_err(|e| config(e.to_string()))?;
            if columns.iter().any(|other| other.name == column.name) {
                return Err(config(format!(
                    "two columns are named `{}`, expected different names",
                    column.name
                )));
            }
            columns.push(column);
        }
        if columns.is_empty() {
            return Err(config("it has no column, expected a `[[column]]` for each attack".to_owned()));
        }
        Ok(Self { name: file.name, about: file.about, made_for: file.made_for, columns })
    }

    /// The suite of one attack as evaluations usually set it.
    pub fn of_attack(entry: &AttackEntry) -> Self {
        let column = Column { name: entry.name.to_owned(), attack: entry.usually() };
        let (name, about) = (entry.name.to_owned(), entry.about.to_owned());
        Self { name, about, made_for: Use::Evaluation, columns: vec![column] }
    }
}

impl Column {
    fn read(index: usize, mut keys: toml::Table) -> Result<Self> {
        let place = format!("column {}", index + 1);
        let name = take_string(&mut keys, &place, "name", "a name such as \"pgd20\"")?;
        let place = format!("column `{name}`");
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-+.".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            // It becomes part of a tensor's name in `per_example.safetensors`.
            return Err(Error::Config(format!(
                "{place}: `name` is \"{name}\", expected letters, digits, `_`, `-`, `+` or `.`"
            )));
        }
        let attack = take_string(&mut keys, &place, "attack", "an attack's name such as \"pgd\"")?;
        let attack = attacks::find(&attack).and_then(|entry| entry.build(&keys));
        Ok(Self { name, attack: attack.map_err(|e| Error::Config(format!("{place}: {e}")))? })
    }
}

fn take_string(keys: &mut toml::Table, place: &str, key: &str, expected: &str) -> Result<String> {
    let got = match keys.remove(key) {
        Some(toml::Value::String(text)) => return Ok(text),
        Some(other) => format!("is {other}"),
        None => "is missing".to_owned(),
    };
    Err(Error::Config(format!("{place}: `{key}` {got}, expected {expected}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_suites_load_under_their_names() {
        for entry in SUITES {
            let suite = Suite::load(entry.name).unwrap();
            assert_eq!(suite.name, entry.name);
        }
        let names: Vec<String> = Suite::load("quick").unwrap().columns.into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["fgsm", "pgd20", "cw_inf20"]);
    }

    #[test]
    fn errors_name_file_column_key_and_expectation() {
        let check = |text: &str, parts: &[&str]| {
            let message = Suite::parse("mine.toml", text).map(|_| ()).unwrap_err().to_string();
            assert!(message.starts_with("mine.toml: "), "{message}");
            for part in parts {
                assert!(message.contains(part), "{message}");
            }
        };
        let head = "name = 'a'\nabout = 'b'\n";
        check("about = 'b'\ncolumn = []", &["missing field `name`", "a suite has `name`"]);
        check(&format!("{head}colunm = []"), &["unknown field `colunm`"]);
        check(&format!("{head}column = []"), &["it has no column"]);
        check(&format!("{head}[[column]]\nattack = 'fgsm'"), &["column 1: `name` is missing"]);
        check(&format!("{head}[[column]]\nname = 'a/b'\nattack = 'fgsm'"), &["`name` is \"a/b\""]);
        check(&format!("{head}[[column]]\nname = 'a'\nattack = 3"), &["column `a`: `attack` is 3, expected"]);
        check(
            &format!("{head}[[column]]\nname = 'a'\nattack = 'fgms'"),
            &["column `a`: unknown attack `fgms`", "pgd"],
        );
        check(
            &format!("{head}[[column]]\nname = 'a'\nattack = 'fgsm'\nsteps = 2"),
            &["column `a`: unknown field `steps`", "the attack `fgsm` has no keys"],
        );
        check(
            &format!("{head}[[column]]\nname = 'a'\nattack = 'pgd'\nsteps = 2"),
            &["missing field `step_size`"],
        );
        let twice = "[[column]]\nname = 'a'\nattack = 'fgsm'\n".repeat(2);
        check(&format!("{head}{twice}"), &["two columns are named `a`"]);
    }

    #[test]
    fn a_name_that_is_no_suite_lists_the_suites() {
        let message = |name: &str| Suite::load(name).map(|_| ()).unwrap_err().to_string();
        assert!(message("quikc").contains("unknown suite `quikc`, expected one of: quick, select"));
        assert!(message("nowhere/quick.toml").starts_with("nowhere/quick.toml: "));
    }
}
