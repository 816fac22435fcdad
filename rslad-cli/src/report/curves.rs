//! Curves: training runs over epochs, models over radii, ensembles over their attacks.

use super::gather::{Found, RunDir};
use super::labels;
use super::model::{Column, Funnel, RadiusCurve, RadiusPoint, Run, RunPoint, Stage};
use super::rows::{Placed, counts, order, text};
use crate::grid::file::Role;
use std::collections::BTreeMap;

/// Training runs that were evaluated more than once on the way.
pub(crate) fn runs(found: &Found, placed: &[Placed<'_>]) -> Vec<Run> {
    let all = found.runs.iter().map(|run| {
        let row = placed.iter().find(|p| p.run.is_some_and(|own| std::ptr::eq(own, run)));
        let label = row.map_or_else(|| labels::method(&text(run, "method", "name")), Placed::label);
        (run.name.clone(), self::run(run, label, found.is_teacher(run)))
    });
    let mut all: Vec<(String, Run)> = all.filter(|(_, run)| run.points.len() > 1).collect();
    let names: Vec<_> = all.iter().map(|(_, run)| (run.group.clone(), run.label.clone(), run.seed)).collect();
    for ((name, run), own) in all.iter_mut().zip(&names) {
        if names.iter().filter(|other| *other == own).count() > 1 {
            run.label = name.clone(); // only its directory tells it from another
        }
    }
    let mut all: Vec<Run> = all.into_iter().map(|(_, run)| run).collect();
    all.sort_by_key(|run| {
        (run.group.starts_with(TEACHER), run.group.clone(), order(&run.method), run.label.clone(), run.seed)
    });
    all
}

const TEACHER: &str = "Teacher";

fn run(run: &RunDir, label: String, is_teacher: bool) -> Run {
    let number = |event: &serde_json::Value, key: &str| event[key].as_f64().unwrap_or(f64::NAN);
    let points: Vec<RunPoint> = run
        .evals
        .iter()
        .map(|event| RunPoint {
            epoch: event["epoch"].as_u64().unwrap_or(0),
            clean: number(event, "clean"),
            robust: number(event, "robust"),
        })
        .collect();
    let is_best = |event: &&serde_json::Value| event["best"].as_bool() == Some(true);
    let best_epoch = run.evals.iter().rev().find(is_best).and_then(|event| event["epoch"].as_u64());
    let best = points.iter().find(|point| Some(point.epoch) == best_epoch);
    let drop = best.zip(points.last()).map(|(best, last)| best.robust - last.robust);
    let drops = run.recipe.get("schedule").and_then(|s| s.get("drops")).and_then(|d| d.as_array());
    let last_epoch = points.last().map_or(0, |point| point.epoch);
    let drops = drops.into_iter().flatten().filter_map(|drop| drop.as_integer()).map(|drop| drop as u64);
    let method = text(run, "method", "name");
    let arch = labels::arch(&text(run, "student", "arch"));
    Run {
        label,
        group: if is_teacher { format!("{TEACHER} {arch}") } else { arch },
        seed: run.recipe.get("seed").and_then(|seed| seed.as_integer()).unwrap_or(0) as u64,
        on: run.evals.last().and_then(|e| e["on"].as_str()).unwrap_or("unknown").into(),
        n: run.evals.last().and_then(|e| e["n"].as_u64()).unwrap_or(0) as usize,
        best_epoch,
        drops: drops.filter(|&drop| drop < last_epoch).collect(),
        drop,
        points,
        method,
    }
}

/// Robust accuracy of each model at each radius it was attacked at, for the attacks that were run at
/// three radii or more.
pub(crate) fn radii(placed: &[Placed<'_>]) -> Vec<RadiusCurve> {
    let mut curves: BTreeMap<(String, String), (usize, RadiusCurve)> = BTreeMap::new();
    for (position, p) in placed.iter().enumerate().filter(|(_, p)| p.key.role == Role::Student) {
        for column in p.eval.result.columns.iter().filter(|_| p.eval.eps().is_finite()) {
            let Some(accuracy) = counts(p.eval, &column.name) else { continue };
            let key = (p.eval.result.model.sha256.clone(), column.name.clone());
            let (_, curve) = curves.entry(key).or_insert_with(|| (position, empty(p, &column.name)));
            let eps = p.eval.eps();
            if curve.points.iter().all(|point| point.eps != eps) {
                curve.points.push(RadiusPoint { eps, accuracy: accuracy.share(), ci95: accuracy.ci95() });
            }
        }
    }
    let mut curves: Vec<(usize, RadiusCurve)> =
        curves.into_values().filter(|(_, c)| c.points.len() >= 3).collect();
    curves.sort_by_key(|(position, _)| *position);
    curves.iter_mut().for_each(|(_, curve)| curve.points.sort_by(|a, b| a.eps.total_cmp(&b.eps)));
    curves.into_iter().map(|(_, curve)| curve).collect()
}

fn empty(p: &Placed<'_>, column: &str) -> RadiusCurve {
    RadiusCurve {
        label: p.label(),
        group: p.group(),
        method: p.key.method.clone(),
        column: labels::column(column),
        points: vec![],
    }
}

/// What stands after each attack of an ensemble.
pub(crate) fn funnels(evals: &[&Placed<'_>], columns: &[Column]) -> Vec<Funnel> {
    let mut all = vec![];
    for p in evals {
        for column in p.eval.result.columns.iter().filter(|column| !column.funnel.is_empty()) {
            let heading = columns.iter().find(|c| c.name == column.name).map_or(&column.name, |c| &c.heading);
            let clean = Stage { name: "clean".into(), standing: p.eval.result.clean.correct };
            let stages = column.funnel.iter().filter(|stage| stage.name != "clean");
            let stages = stages.map(|stage| Stage { name: stage.name.clone(), standing: stage.robust });
            all.push(Funnel {
                label: format!("{} ({})", p.label(), p.key.checkpoint.name()),
                group: p.group(),
                method: p.key.method.clone(),
                column: heading.clone(),
                n: column.n,
                stages: std::iter::once(clean).chain(stages).collect(),
            });
        }
    }
    all
}
