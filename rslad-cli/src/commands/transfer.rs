//! `rslad transfer`: points made on each source, judged on each target.

use crate::args::TransferArgs;
use crate::evaluation::{self, Images};
use crate::exit::Ended;
use crate::inputs;
use crate::output::Output;
use crate::progress::{Show, Work};
use crate::transfer_file::{Cell, Cells, Model, TransferFile};
use crate::weight_files::{self, Stated, Unsaid, Weights};
use crate::{device, interrupt, say, suite, table};
use anyhow::{Context, Result};
use rslad_attacks::Suite;
use rslad_attacks::suite::Column;
use rslad_attacks::transfer::{Threat, needs_surrogate, transfer};
use rslad_data::Dataset;
use rslad_distill::stoppable::Stoppable;
use rslad_models::{Classifier, Frozen, durable};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

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
    let data = inputs::images(&args.data, args.split, args.n)?;
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
    let matrix = TransferFile {
        schema: 1,
        data: evaluation::data_info(&data),
        eps: args.eps,
        seed: args.seed,
        version: env!("CARGO_PKG_VERSION").into(),
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
    Ok(Party { model: Model { path: file.display().to_string(), sha256 }, f: device::frozen(&network)? })
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
                cells.extend(held.iter().enumerate().map(|(target, held)| Cell::of(Some(i), target, held)));
            }
        } else {
            for (i, target) in self.targets.iter().enumerate() {
                let held = self.attack(column, &target.model.path, &target.f, &targets[i..=i])?;
                cells.extend(held.iter().map(|held| Cell::of(None, i, held)));
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

/// A table for each attack: sources down, targets across.
fn report(matrix: &TransferFile) -> Result<()> {
    for column in &matrix.columns {
        let mut header = vec![format!("{}, made on", column.name)];
        header.extend(matrix.targets.iter().map(|target| format!("judged on {}", target.path)));
        let row = |source: Option<usize>| {
            let mut row = vec![source.map_or("the target".into(), |i| matrix.sources[i].path.clone())];
            row.extend(column.of_source(source).map(|cell| table::cell(cell.accuracy, cell.ci95)));
            row
        };
        say::result(table::plain(header, column.sources().into_iter().map(row), 1))?;
    }
    Ok(say::result(format!(
        "accuracy in %, n = {}, eps {}, in brackets the 95 % Wilson interval",
        matrix.data.n, matrix.eps
    ))?)
}
