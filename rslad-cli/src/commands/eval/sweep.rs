//! `rslad eval --eps-sweep`: the same evaluation at several radii, the points of a robustness curve.

use super::Prepared;
use crate::args::EvalArgs;
use crate::progress::Show;
use crate::result_file::ResultFile;
use crate::{say, table};
use anyhow::{Context, Result};
use rslad_attacks::Linf;
use rslad_models::durable;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

/// `curve.json`.
#[derive(Serialize)]
struct Curve {
    schema: u32,
    points: Vec<Point>,
}

#[derive(Serialize)]
struct Point {
    eps: Linf,
    /// As a number.
    radius: f64,
    /// The evaluation's directory, below that of the curve.
    dir: String,
    n: usize,
    clean: f64,
    /// Robust accuracy by column, with its interval.
    columns: BTreeMap<String, Robust>,
}

#[derive(Serialize)]
struct Robust {
    accuracy: f64,
    ci95: (f64, f64),
}

pub(super) fn run(args: &EvalArgs, prepared: &Prepared, show: Show, stop: &AtomicBool) -> Result<()> {
    let mut results: Vec<(String, ResultFile)> = Vec::new();
    for &eps in &args.eps_sweep {
        let dir = format!("eps-{}", eps.to_string().replace('/', "_"));
        let introduce = || super::introduce(args, &prepared.data, eps, "--eps-sweep");
        let (result, _) = prepared.evaluate(args, eps, &args.out.join(&dir), show, stop, introduce)?;
        results.push((dir, result));
    }
    let points = results.iter().map(|(dir, result)| point(dir, result)).collect();
    let file = args.out.join("curve.json");
    let text = serde_json::to_string_pretty(&Curve { schema: 1, points }).context("curve.json")? + "\n";
    durable::write(&file, text.as_bytes())?;
    let names: Vec<String> = results.iter().map(|(_, result)| format!("eps {}", result.eps)).collect();
    let rows: Vec<(&str, &ResultFile)> =
        names.iter().zip(&results).map(|(name, (_, result))| (name.as_str(), result)).collect();
    say::result(table::of_results(&rows))?;
    Ok(say::result(file.display())?)
}

fn point(dir: &str, result: &ResultFile) -> Point {
    let robust = |c: &rslad_attacks::result::ColumnSummary| {
        (c.name.clone(), Robust { accuracy: c.accuracy, ci95: c.ci95 })
    };
    Point {
        eps: result.eps,
        radius: result.eps.get(),
        dir: dir.to_owned(),
        n: result.clean.n,
        clean: result.clean.accuracy,
        columns: result.columns.iter().map(robust).collect(),
    }
}
