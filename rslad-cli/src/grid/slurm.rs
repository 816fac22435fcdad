//! Slurm: an array of jobs for the cells that wait for the same others, and a report after all.
//!
//! Dependencies are `afterany`: a cell whose teacher failed says so in its own log and ends, and the report
//! shows what is missing, instead of jobs that wait forever.

use super::engine::{Engine, Handing, Left};
use super::jobs::{self, Jobs, quoted};
use super::plan::Plan;
use super::waves::{self, Group};
use crate::exit::Ended;
use crate::progress::Show;
use crate::say;
use anyhow::Result;
use minijinja::context;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const TEMPLATE: &str = include_str!("../../templates/jobs/slurm.sh.jinja");

/// A Slurm cluster.
pub(crate) struct Slurm {
    pub(crate) jobs: Jobs,
}

impl Engine for Slurm {
    fn run(&self, plan: &Plan<'_>, show: Show, _: &AtomicBool) -> Result<()> {
        let groups = waves::groups(plan);
        let cells = self.jobs.render(TEMPLATE, plan, context! { task => "cells" })?;
        let report = self.jobs.render(TEMPLATE, plan, context! { task => "report" })?;
        if self.jobs.handing == Handing::Shown {
            return self.show(&groups, &cells, &report);
        }
        let cells = self.jobs.write(plan, "slurm-cells.sh", &cells)?;
        let report = self.jobs.write(plan, "slurm-report.sh", &report)?;
        let mut submitted = Submitted::default();
        for group in &groups {
            let id = submit(&self.arguments(group, &submitted.job_of, &cells))?;
            if show != Show::Nothing {
                let after = submitted.tasks(&group.after);
                let after = if after.is_empty() { String::new() } else { format!(", after {after}") };
                say::note(format!("job {id}: cells {}{after}", waves::ranges(&group.cells)));
            }
            submitted.add(group, &id);
        }
        let id = submit(&report_arguments(&submitted.ids, &report))?;
        if show != Show::Nothing {
            let of = plan.out.join("report").display().to_string();
            say::note(format!("job {id}: the report, after all of them, in {of}"));
        }
        submitted.ids.push(id);
        Ok(say::result(submitted.ids.join(" "))?)
    }

    fn leaves(&self) -> Left {
        Left::Nothing
    }
}

/// What is in the queue.
#[derive(Default)]
struct Submitted {
    ids: Vec<String>,
    job_of: BTreeMap<usize, String>,
}

impl Submitted {
    fn add(&mut self, group: &Group, id: &str) {
        self.ids.push(id.into());
        self.job_of.extend(group.cells.iter().map(|&cell| (cell, id.to_string())));
    }

    fn tasks(&self, cells: &[usize]) -> String {
        tasks(cells, &self.job_of)
    }
}

/// `123_0:124_3`: the tasks of cells.
fn tasks(cells: &[usize], job_of: &BTreeMap<usize, String>) -> String {
    cells.iter().map(|cell| format!("{}_{cell}", job_of[cell])).collect::<Vec<_>>().join(":")
}

impl Slurm {
    fn arguments(&self, group: &Group, job_of: &BTreeMap<usize, String>, script: &Path) -> Vec<String> {
        let at_once = self.jobs.cluster.at_once.map_or(String::new(), |n| format!("%{n}"));
        let mut all = vec!["--parsable".into(), format!("--array={}{at_once}", waves::ranges(&group.cells))];
        if !group.after.is_empty() {
            all.push(format!("--dependency=afterany:{}", tasks(&group.after, job_of)));
        }
        all.push(script.display().to_string());
        all
    }

    /// What would be handed over, as a script that does it.
    fn show(&self, groups: &[Group], cells: &str, report: &str) -> Result<()> {
        say::result(format!("cat > cells.sh <<'END_OF_CELLS'\n{}\nEND_OF_CELLS", cells.trim_end()))?;
        say::result(format!("cat > report.sh <<'END_OF_REPORT'\n{}\nEND_OF_REPORT", report.trim_end()))?;
        let mut submitted = Submitted::default();
        for (i, group) in groups.iter().enumerate() {
            let words = self.arguments(group, &submitted.job_of, Path::new("cells.sh"));
            say::result(format!("job{i}=$(sbatch {})", words.join(" ")))?;
            submitted.add(group, &format!("${{job{i}}}"));
        }
        let words = report_arguments(&submitted.ids, Path::new("report.sh"));
        Ok(say::result(format!("sbatch {}", words.join(" ")))?)
    }
}

fn report_arguments(ids: &[String], script: &Path) -> Vec<String> {
    let mut all = vec!["--parsable".to_string()];
    if !ids.is_empty() {
        all.push(format!("--dependency=afterany:{}", ids.join(":")));
    }
    all.push(script.display().to_string());
    all
}

/// The id of the job.
fn submit(arguments: &[String]) -> Result<String> {
    let output = jobs::call("sbatch", arguments, "slurm")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let id = said.trim().split(';').next().unwrap_or_default(); // `id;cluster` where there are several
    match id.parse::<u64>() {
        Ok(_) => Ok(id.into()),
        Err(_) => {
            let said = quoted(said.trim());
            Err(Ended::Usage(format!("sbatch said {said}, expected the number of a job")).into())
        }
    }
}
