//! `rslad transfer`: points made on each source, judged on each target.

use crate::args::TransferArgs;
use crate::evaluation::{self, Images};
use crate::exit::Ended;
use crate::inputs;
use crate::output::Output;
use crate::progress::{Show, Work};
use crate::result_file::DataInfo;
use crate::weight_files::{self, Stated, Unsaid, Weights};
use crate::{interrupt, say, suite, table};
use anyhow::{Context, Result};
use rslad_attacks::result::Accuracy;
use rslad_attacks::suite::Column;
use rslad_attacks::transfer::{Threat, needs_surrogate, transfer};
use rslad_attacks::{Linf, Suite};
use rslad_data::Dataset;
use rslad_distill::stoppable::Stoppable;
use rslad_models::{Classifier, Frozen, durable};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// `transfer.json`.
#[derive(Serialize)]
struct Matrix {
    schema: u32,
    data: DataInfo,
    eps: Linf,
    seed: u64,
    version: &'static str,
    sources: Vec<Model>,
    targets: Vec<Model>,
    columns: Vec<Cells>,
}

#[derive(Clone, Serialize)]
struct Model {
    path: String,
    sha256: String,
}

/// One attack.
#[derive(Serialize)]
struct Cells {
    name: String,
    attack: String,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    /// The place of the source among the sources; none where the points are made on the target itself.
    source: Option<usize>,
    target: usize,
    robust: usize,
    n: usize,
    accuracy: f64,
    ci95: (f64, f64),
}

struct Party {
    model: Model,
    f: Frozen,
}

struct Arena<'a> {
    sources: Vec<Party>,
    targets: Vec<Party>,
    images: Images<'a>,
    n: usize,
    threat: Threat,
    show: Show,
    stop: &'a AtomicBool,
}

pub(crate) fn run(args: &TransferArgs, quiet: bool) -> Result<()> {
    let resolved = suite::resolve(std::slice::from_ref(&args.suite), &[])?;
    suite::check_use(std::slice::from_ref(&args.suite), rslad_attacks::suite::Use::Transfer)?;
    let data = inputs::open(&args.data, args.split)?;
    let data = args.n.map(|n| data.limit(n as usize)).transpose()?.unwrap_or(data);
    let read = |files: &[PathBuf]| files.iter().map(|file| party(file, &data)).collect::<Result<Vec<_>>>();
    let show = Show::here(quiet);
    let stop = interrupt::flag(show)?;
    let arena = Arena {
        sources: read(&args.source)?,
        targets: read(&args.target)?,
        images: Images::new(&data, None),
        n: data.len(),
        threat: Threat { eps: args.eps, seed: args.seed, lanes: args.batch_size as usize },
        show,
        stop: &stop,
    };
    let out = Output::open(&args.out)?;
    let _lock = out.lock()?;
    let columns = arena.columns(&resolved.suite)?;
    let models = |parties: &[Party]| parties.iter().map(|party| party.model.clone()).collect();
    let matrix = Matrix {
        schema: 1,
        data: evaluation::data_info(&data),
        eps: args.eps,
        seed: args.seed,
        version: env!("CARGO_PKG_VERSION"),
        sources: models(&arena.sources),
        targets: models(&arena.targets),
        columns,
    };
    report(&matrix)?;
    durable::write(&out.file("suite.toml"), resolved.text.as_bytes())?;
    let text = serde_json::to_string_pretty(&matrix).context("transfer.json")? + "\n";
    durable::write(&out.file("transfer.json"), text.as_bytes())?;
    Ok(say::result(out.file("transfer.json").display())?)
}

fn party(file: &Path, data: &Dataset) -> Result<Party> {
    let Weights { network, sha256, .. } = weight_files::weights(file, &Stated::nothing(), Unsaid::Refuse)?;
    inputs::check_fit(&network, data).with_context(|| file.display().to_string())?;
    Ok(Party { model: Model { path: file.display().to_string(), sha256 }, f: network.freeze()? })
}

impl Arena<'_> {
    fn columns(&self, suite: &Suite) -> Result<Vec<Cells>> {
        suite.columns.iter().map(|column| self.column(column)).collect()
    }

    fn column(&self, column: &Column) -> Result<Cells> {
        let targets: Vec<&dyn Classifier> = self.targets.iter().map(|t| &t.f as &dyn Classifier).collect();
        let mut cells = Vec::new();
        if needs_surrogate(column.attack.as_ref()) {
            for (i, source) in self.sources.iter().enumerate() {
                let held = self.attack(column, &source.model.path, &source.f, &targets)?;
                cells.extend(held.iter().enumerate().map(|(target, held)| cell(Some(i), target, held)));
            }
        } else {
            for (i, target) in self.targets.iter().enumerate() {
                let held = self.attack(column, &target.model.path, &target.f, &targets[i..=i])?;
                cells.extend(held.iter().map(|held| cell(None, i, held)));
            }
        }
        Ok(Cells { name: column.name.clone(), attack: column.attack.name().to_owned(), cells })
    }

    fn attack(
        &self,
        column: &Column,
        on: &str,
        f: &Frozen,
        targets: &[&dyn Classifier],
    ) -> Result<Vec<Vec<bool>>> {
        let mut work = Work::new(self.show, &format!("{} on {on}", column.name), self.n as u64, 0);
        let f = Stoppable::new(f, self.stop);
        let mut done = |n: usize| work.advance(n as u64, || "images".into());
        match transfer(&f, targets, column.attack.as_ref(), &self.images, self.threat, &mut done) {
            Err(_) if self.stop.load(Ordering::Relaxed) => Err(Ended::EvaluationInterrupted.into()),
            outcome => Ok(outcome?),
        }
    }
}

fn cell(source: Option<usize>, target: usize, held: &[bool]) -> Cell {
    let accuracy = Accuracy::of(held);
    Cell {
        source,
        target,
        robust: accuracy.correct,
        n: accuracy.n,
        accuracy: accuracy.share(),
        ci95: accuracy.ci95(),
    }
}

/// A table for each attack: sources down, targets across.
fn report(matrix: &Matrix) -> Result<()> {
    for column in &matrix.columns {
        let mut header = vec![format!("{}, made on", column.name)];
        header.extend(matrix.targets.iter().map(|target| format!("judged on {}", target.path)));
        let row = |source: Option<usize>| {
            let mut row = vec![source.map_or("the target".into(), |i| matrix.sources[i].path.clone())];
            let own = column.cells.iter().filter(|cell| cell.source == source);
            row.extend(own.map(|cell| table::cell(cell.accuracy, cell.ci95)));
            row
        };
        let mut sources: Vec<Option<usize>> = column.cells.iter().map(|cell| cell.source).collect();
        sources.dedup();
        say::result(table::plain(header, sources.into_iter().map(row), 1))?;
    }
    Ok(say::result(format!(
        "accuracy in %, n = {}, eps {}, in brackets the 95 % Wilson interval",
        matrix.data.n, matrix.eps
    ))?)
}
