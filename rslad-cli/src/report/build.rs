//! From what was found to the report.

use super::gather::{Found, RunDir};
use super::model::{Group, Mark, Provenance, Report, Transfer};
use super::published::Table;
use super::rows::{Placed, Stamped};
use super::{Frame, classes, curves, labels, pairs, rows, trust};
use crate::transfer_file::Model;

/// Everything that the report says.
pub(crate) fn report(found: &Found, frame: &Frame, table: Option<&Table>) -> Report {
    let placed = rows::place(found);
    let evals = rows::of_table(&placed);
    let columns = if evals.is_empty() && table.is_none() { vec![] } else { rows::columns(&evals, table) };
    let stamped = if frame.stamp.is_some() { Stamped::Yes } else { Stamped::No };
    let groups = rows::groups(&evals, &columns, table, stamped);
    let pairs = pairs::pairs(&evals, &columns, table.and_then(|table| table.reference.as_deref()));
    let radii = curves::radii(&placed);
    let title = frame.title.clone().or_else(|| table.map(|table| table.title.clone()));
    Report {
        schema: 1,
        version: env!("CARGO_PKG_VERSION").into(),
        title: title.unwrap_or_else(|| "Robust accuracy".into()),
        stamp: frame.stamp.clone(),
        verdict: verdict(&groups, &evals, frame, table),
        about: table.map(|table| table.about.clone()),
        paper: table.filter(|table| table.publishes()).map(|table| table.paper.clone()),
        eps: radii_of(&evals),
        images: images(&evals),
        power: pairs::power(&pairs),
        checks: trust::checks(&placed, &evals, &columns, &radii),
        runs: curves::runs(found, &placed),
        classes: classes::classes(&evals, &columns),
        funnels: curves::funnels(&evals, &columns),
        transfers: transfers(found),
        provenance: provenance(found),
        remake: frame.remake.clone(),
        columns,
        groups,
        pairs,
        radii,
    }
}

/// The radius of the table, or the radii of its groups.
fn radii_of(evals: &[&Placed<'_>]) -> Option<String> {
    let mut radii: Vec<(f64, &str)> =
        evals.iter().map(|p| (p.eval.eps(), p.eval.result.eps.as_str())).collect();
    radii.sort_by(|a, b| a.0.total_cmp(&b.0));
    radii.dedup();
    let radii: Vec<&str> = radii.into_iter().map(|(_, eps)| eps).collect();
    (!radii.is_empty()).then(|| radii.join(" and "))
}

fn images(evals: &[&Placed<'_>]) -> Option<String> {
    let data = &evals.first()?.eval.result.data;
    let mut sizes: Vec<usize> = evals.iter().map(|p| p.eval.result.data.n).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let sizes: Vec<String> = sizes.into_iter().map(|n| crate::say::count(n as u64)).collect();
    Some(format!("{} images of {} ({})", sizes.join(" or "), data.name, data.split))
}

/// What was found, in sentences that the numbers carry.
fn verdict(groups: &[Group], evals: &[&Placed<'_>], frame: &Frame, table: Option<&Table>) -> Vec<String> {
    let cells: Vec<Mark> =
        groups.iter().flat_map(|g| &g.rows).flat_map(|r| r.cells.iter().map(|c| c.mark)).collect();
    let count = |mark: Mark| cells.iter().filter(|m| **m == mark).count();
    let measured = cells.len() - count(Mark::NotRun);
    let mut said = vec![];
    if table.is_some() {
        said.push(format!("{measured} of {} cells of the table were measured.", cells.len()));
        let compared = count(Mark::Inside) + count(Mark::Better) + count(Mark::Worse);
        if compared > 0 {
            said.push(format!(
                "The published value lies inside the 95 % interval of {}, below it in {} (measured better) and \
                 above it in {} (measured worse).",
                count(Mark::Inside),
                count(Mark::Better),
                count(Mark::Worse)
            ));
        } else if count(Mark::NotComparable) > 0 {
            said.push("Published values stand beside them for orientation; they are of other data and other budgets.".into());
        }
    } else if !evals.is_empty() {
        said.push(format!(
            "{} evaluations of {} models.",
            evals.len(),
            groups.iter().map(|g| g.rows.len()).sum::<usize>()
        ));
    }
    if frame.to_do > 0 {
        said.push(format!(
            "{} cells of the grid are not finished: what they would fill is called not run.",
            frame.to_do
        ));
    }
    let mut seeds: Vec<u64> = evals.iter().map(|p| p.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    match seeds.len() {
        0 => {}
        1 => {
            said.push("One seed: how much another training run would differ is not in the intervals.".into())
        }
        n => said.push(format!("{n} seeds, shown apart; the intervals count images, not seeds.")),
    }
    said
}

/// A matrix for each attack whose points are made on other models: on the targets themselves there is
/// nothing to transfer.
fn transfers(found: &Found) -> Vec<Transfer> {
    let mut all = vec![];
    for file in &found.transfers {
        let name =
            |model: &Model| rows::of_weights(&model.sha256, found).unwrap_or_else(|| short(&model.path));
        let targets: Vec<String> = file.targets.iter().map(name).collect();
        for column in &file.columns {
            let sources: Vec<usize> = column.sources().into_iter().flatten().collect();
            if sources.is_empty() {
                continue;
            }
            let row = |&source: &usize| column.of_source(Some(source)).map(|cell| cell.accuracy).collect();
            all.push(Transfer {
                column: labels::column(&column.name),
                eps: file.eps.to_string(),
                n: file.data.n,
                accuracy: sources.iter().map(row).collect(),
                sources: sources.iter().map(|&source| name(&file.sources[source])).collect(),
                targets: targets.clone(),
            });
        }
    }
    all
}

/// The last two parts of a path.
fn short(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    parts[parts.len().saturating_sub(2)..].join("/")
}

fn provenance(found: &Found) -> Vec<Provenance> {
    let runs = found.runs.iter().map(of_run);
    let evals = found.evals.iter().filter(|eval| !eval.of_curve).map(|eval| {
        let result = &eval.result;
        let seconds: f64 = result.columns.iter().map(|column| column.seconds).sum();
        let facts = [
            ("model", result.model.path.clone()),
            ("model sha256", result.model.sha256.clone()),
            ("surrogate", result.source.as_ref().map_or(String::new(), |source| source.path.clone())),
            (
                "surrogate sha256",
                result.source.as_ref().map_or(String::new(), |source| source.sha256.clone()),
            ),
            ("architecture", result.model.arch.to_string()),
            ("data", format!("{} {}, {} images", result.data.name, result.data.split, result.data.n)),
            ("data sha256", result.data.sha256.clone()),
            ("eps", result.eps.clone()),
            ("seed of the attacks", result.seed.to_string()),
            ("rslad", result.version.clone()),
            ("time of the attacks", format!("{seconds:.1} s")),
        ];
        entry(&eval.name, &facts, Some(eval.suite.clone()).filter(|suite| !suite.is_empty()))
    });
    runs.chain(evals).collect()
}

fn entry(name: &str, facts: &[(&str, String)], text: Option<String>) -> Provenance {
    let facts = facts.iter().filter(|(_, value)| !value.is_empty());
    Provenance { name: name.into(), facts: facts.map(|(k, v)| (k.to_string(), v.clone())).collect(), text }
}

fn of_run(run: &RunDir) -> Provenance {
    let info = |key: &str| run.info[key].as_str().unwrap_or_default().to_string();
    let sittings = run.info["sittings"].as_array().cloned().unwrap_or_default();
    let seconds: f64 = sittings.iter().filter_map(|sitting| sitting["seconds"].as_f64()).sum();
    let host = sittings.last().map(|sitting| sitting["host"].clone()).unwrap_or_default();
    let hardware = host["processor"].as_str().map_or(String::new(), |processor| {
        format!("{processor}, {} threads of {} cores", host["threads"], host["cores"])
    });
    let facts = [
        ("method", labels::method(&rows::text(run, "method", "name"))),
        ("seed", run.recipe.get("seed").map_or(String::new(), |seed| seed.to_string())),
        ("hardware", hardware),
        (
            "time",
            if sittings.is_empty() {
                String::new()
            } else {
                let s = if sittings.len() == 1 { "" } else { "s" };
                format!("{seconds:.1} s in {} sitting{s}", sittings.len())
            },
        ),
        ("data sha256", info("data_sha256")),
        ("teacher sha256", info("teacher_sha256")),
        ("second teacher sha256", info("second_teacher_sha256")),
        ("recipe sha256", info("recipe_sha256")),
        ("rslad", info("version")),
        ("commit", info("commit")),
    ];
    entry(&run.name, &facts, Some(run.recipe_text.clone()))
}
