//! HyperQueue: one job whose tasks are the cells, with their dependencies.
//!
//! Written after its documentation; nothing here has met a server of it.

use super::engine::{Engine, Handing, Left};
use super::jobs::{self, Jobs};
use super::plan::Plan;
use super::waves;
use crate::progress::Show;
use crate::say;
use anyhow::Result;
use minijinja::context;
use minijinja::value::{Serde, Value};
use serde::Serialize;
use std::sync::atomic::AtomicBool;

const TEMPLATE: &str = include_str!("../../templates/jobs/hq.toml.jinja");

/// A server of HyperQueue.
pub(crate) struct HyperQueue {
    pub(crate) jobs: Jobs,
}

#[derive(Serialize)]
struct Task {
    index: usize,
    command: String, // arrays of TOML, both
    needs: String,
}

impl Engine for HyperQueue {
    fn run(&self, plan: &Plan<'_>, show: Show, _: &AtomicBool) -> Result<()> {
        let mut tasks = vec![];
        for group in waves::groups(plan) {
            for index in group.cells {
                let mut command = self.jobs.cell(plan)?;
                command.push(index.to_string());
                let needs: Vec<i64> = group.after.iter().map(|&need| need as i64).collect();
                let (command, needs) = (toml::Value::from(command), toml::Value::from(needs));
                tasks.push(Task { index, command: command.to_string(), needs: needs.to_string() });
            }
        }
        let text = self.jobs.render(TEMPLATE, plan, context! { tasks => Value::from(Serde(&tasks)) })?;
        if self.jobs.handing == Handing::Shown {
            return Ok(say::result(text.trim_end())?);
        }
        let path = self.jobs.write(plan, "hq.toml", &text)?;
        let arguments = ["job".into(), "submit-file".into(), path.display().to_string()];
        let output = jobs::call("hq", &arguments, "hq")?;
        if show != Show::Nothing {
            say::note("when its tasks have ended, `rslad grid report` writes the report");
        }
        Ok(say::result(String::from_utf8_lossy(&output.stdout).trim())?)
    }

    fn leaves(&self) -> Left {
        Left::Nothing
    }
}
