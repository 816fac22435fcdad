//! From a TOML table to a configuration, with errors that a reader can act on.
//!
//! serde knows what was expected, the table knows what is there, the embedded recipes know what is
//! usual: an error is put together from the three, and names key, value, expectation and fix.

use crate::recipe::RECIPES;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// The configuration that a table holds; `section` is where the table stands in its recipe, empty for
/// the recipe itself.
pub(crate) fn read<T: DeserializeOwned>(table: &Table, section: &str) -> Result<T, String> {
    let value = Value::Table(table.clone());
    value.try_into().map_err(|e: toml::de::Error| rephrase(&e.to_string(), table, section))
}

/// Sets `key.path` of a table to a value written as TOML, or as a bare string where it is none.
pub(crate) fn set(table: &mut Table, key: &str, value: &str) -> Result<(), String> {
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    if last.is_empty() || parts.iter().any(|part| part.is_empty()) {
        return Err(format!("`{key}` is no key, expected one such as `optim.lr`; write optim.lr=0.1"));
    }
    let mut here = table;
    for part in parts {
        let entry = here.entry(part).or_insert_with(|| Value::Table(Table::new()));
        here = entry.as_table_mut().ok_or_else(|| {
            format!("`{key}` cannot be set: `{part}` is a value, expected a section; write {part}={value}")
        })?;
    }
    here.insert(last.to_string(), written(value));
    Ok(())
}

fn written(text: &str) -> Value {
    let parsed = format!("v = {text}").parse::<Table>().ok().filter(|table| table.len() == 1);
    parsed.and_then(|mut table| table.remove("v")).unwrap_or_else(|| Value::String(text.to_string()))
}

/// toml writes "what it expected", then on a line of its own "in `the.path.of.the.key`".
fn rephrase(error: &str, table: &Table, section: &str) -> String {
    let (message, within) = match error.trim_end().rsplit_once("\nin `") {
        Some((message, path)) => (message, path.trim_end_matches('`')),
        None => (error.trim_end(), ""),
    };
    if let Some((field, _)) = quoted(message, "missing field `") {
        return missing(&join(&[section, within, field]));
    }
    if let Some((field, known)) = quoted(message, "unknown field `") {
        return format!("`{}` is unknown{known}; remove or correct it", join(&[section, within, field]));
    }
    let key = join(&[section, within]);
    match (find(table, within), message.split_once(", expected ")) {
        (Some(value), Some((_, expected))) => {
            format!("`{key}` is {}, expected {}", value, expectation(expected, &key))
        }
        _ => format!("`{key}`: {message}"),
    }
}

fn missing(key: &str) -> String {
    match usual(key) {
        Some((recipe, Value::Table(_))) => {
            format!("`[{key}]` is missing, expected a section as in the embedded recipe {recipe}")
        }
        Some((_, value)) => format!("`{key}` is missing, expected a value such as {}", value),
        None => format!("`{key}` is missing, expected a value; there are no defaults"),
    }
}

/// What serde expected, in a user's words.
fn expectation(expected: &str, key: &str) -> String {
    let kind = match expected {
        "f64" => "a number",
        "u64" | "usize" => "a whole number from 0 to 2^63 - 1",
        "u8" => "a whole number from 0 to 255",
        "a sequence" => "a list",
        "a string" => "a quoted string",
        other if other.starts_with("struct ") => "a section",
        other => return other.to_string(),
    };
    match usual(key) {
        Some((_, Value::Table(_))) | None => kind.to_string(),
        Some((_, value)) => format!("{kind}, such as {}", value),
    }
}

/// The first embedded recipe that has this key, and its value there.
fn usual(key: &str) -> Option<(&'static str, Value)> {
    RECIPES.iter().find_map(|recipe| {
        let table: Table = recipe.text.parse().ok()?;
        Some((recipe.name, find(&table, key)?.clone()))
    })
}

fn find<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    match table.get(first)? {
        value if rest.is_empty() => Some(value),
        value => find(value.as_table()?, rest),
    }
}

fn join(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(".")
}

/// The quoted word after `start`, and what follows it.
fn quoted<'m>(message: &'m str, start: &str) -> Option<(&'m str, &'m str)> {
    message.strip_prefix(start)?.split_once('`')
}
