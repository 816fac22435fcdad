//! The files that schedulers are given, rendered from templates.
//!
//! A template sees `name`, `grid`, `out` and `logs` (absolute paths), `rslad` (the words that start it),
//! `cell` (the same with a cell's arguments but its index), `cluster`, and what its engine adds. The filter
//! `quote` makes one word of a shell of a text, `toml` a string of TOML.

use super::cluster::Cluster;
use super::engine::Handing;
use super::plan::Plan;
use crate::exit::Ended;
use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, context};
use rslad_models::durable;
use std::path::{Path, PathBuf, absolute};
use std::process::{Command, Output};

/// What is common to engines that render files.
pub(crate) struct Jobs {
    pub(crate) cluster: Cluster,
    template: Option<(String, String)>, // name and text of the user's
    pub(crate) handing: Handing,
}

impl Jobs {
    pub(crate) fn new(cluster: Cluster, template: Option<&Path>, handing: Handing) -> Result<Self> {
        let read = |path: &Path| {
            let text = std::fs::read_to_string(path).map_err(|e| {
                Ended::Usage(format!("{}: cannot be read ({e}), expected a template", path.display()))
            })?;
            Ok::<_, anyhow::Error>((path.display().to_string(), text))
        };
        Ok(Self { cluster, template: template.map(read).transpose()?, handing })
    }

    /// The user's template, or this one, with its blanks filled in.
    ///
    /// # Errors
    /// When the template is wrong: names the line.
    pub(crate) fn render(&self, own: &str, plan: &Plan<'_>, more: Value) -> Result<String> {
        let (name, text) = match &self.template {
            Some((name, text)) => (name.as_str(), text.as_str()),
            None => ("template", own),
        };
        let mut engine = Environment::new();
        engine.set_auto_escape_callback(|_| AutoEscape::None);
        engine.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
        engine.set_undefined_behavior(minijinja::UndefinedBehavior::SemiStrict);
        engine.add_filter("quote", |text: String| quoted(&text));
        engine.add_filter("toml", |text: String| toml::Value::String(text).to_string());
        let paths = Paths::of(plan)?;
        let rslad = self.rslad()?;
        let words: Vec<String> = rslad.iter().map(|word| quoted(word)).collect();
        let given = context! {
            name => plan.grid.file.name.clone(),
            grid => text_of(&paths.grid),
            out => text_of(&paths.out),
            logs => text_of(&paths.logs),
            rslad => words.join(" "),
            cluster => Value::from(Serde(&self.cluster)),
            ..more
        };
        engine.render_named_str(name, text, given).map_err(|error| {
            Ended::Usage(format!("{name}: {error}, expected a template of a job; --dry-run shows one")).into()
        })
    }

    /// The words that start this program on a node.
    pub(crate) fn rslad(&self) -> Result<Vec<String>> {
        let own = || std::env::current_exe().context("cannot find this program");
        let program = match &self.cluster.program {
            Some(program) => program.clone(),
            None => text_of(&own()?),
        };
        let container = self.cluster.container.iter().flat_map(|words| words.split_whitespace());
        Ok(container.map(str::to_string).chain([program]).collect())
    }

    /// The words that do a cell, up to its index.
    pub(crate) fn cell(&self, plan: &Plan<'_>) -> Result<Vec<String>> {
        let paths = Paths::of(plan)?;
        let mut words = self.rslad()?;
        words.extend(["cell".into(), text_of(&paths.grid), "--out".into(), text_of(&paths.out)]);
        words.extend(["--wait".into(), "--index".into()]);
        Ok(words)
    }

    /// Writes a file of jobs, with the folder that its logs go to.
    pub(crate) fn write(&self, plan: &Plan<'_>, name: &str, text: &str) -> Result<PathBuf> {
        let paths = Paths::of(plan)?;
        let jobs = paths.out.join("jobs");
        for folder in [&jobs, &paths.logs] {
            let failed = |source| Ended::NotWritable { path: folder.clone(), source };
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let path = jobs.join(name);
        durable::write(&path, text.as_bytes())?;
        Ok(path)
    }
}

/// Where things are, wherever a job begins.
struct Paths {
    grid: PathBuf,
    out: PathBuf,
    logs: PathBuf,
}

impl Paths {
    fn of(plan: &Plan<'_>) -> Result<Self> {
        let whole = |path: &Path| absolute(path).with_context(|| path.display().to_string());
        let out = whole(&plan.out)?;
        Ok(Self { grid: whole(&plan.grid.path)?, logs: out.join("logs"), out })
    }
}

fn text_of(path: &Path) -> String {
    path.display().to_string()
}

/// One word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./+:=@%,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Runs an engine's own command.
///
/// # Errors
/// When it is not here, or refuses: with its own words.
pub(crate) fn call(program: &str, arguments: &[String], engine: &str) -> Result<Output> {
    let output = Command::new(program).args(arguments).output().map_err(|e| {
        Ended::Usage(format!(
            "{program}: cannot be started ({e}), expected the commands of --engine {engine} on this machine; \
             --dry-run shows what would be handed over"
        ))
    })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(Ended::Usage(format!("{program} refuses: {}", words.trim())).into());
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_shell_stays_one() {
        for (text, word) in [
            ("runs/a-1.toml", "runs/a-1.toml"),
            ("my runs", "'my runs'"),
            ("it's", "'it'\\''s'"),
            ("$(reboot)", "'$(reboot)'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(text), word);
        }
    }
}
