//! The report as numbers and words: `report.json`, described by `schemas/report.schema.json`.

use crate::grid::file::Row as RowKey;
use crate::model_cost::Cost;
use serde::{Deserialize, Serialize};

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) version: String,
    pub(crate) title: String,
    /// What must stand over every number.
    pub(crate) stamp: Option<String>,
    /// What was found, in sentences.
    pub(crate) verdict: Vec<String>,
    /// What the table is about.
    pub(crate) about: Option<String>,
    /// Where the published values come from.
    pub(crate) paper: Option<String>,
    /// The radius of the table.
    pub(crate) eps: Option<String>,
    /// The images of the table.
    pub(crate) images: Option<String>,
    pub(crate) columns: Vec<Column>,
    pub(crate) groups: Vec<Group>,
    pub(crate) pairs: Vec<Pair>,
    /// The smallest difference that the paired tests can see, in words.
    pub(crate) power: Option<String>,
    pub(crate) runs: Vec<Run>,
    pub(crate) radii: Vec<RadiusCurve>,
    pub(crate) classes: Vec<ClassTable>,
    pub(crate) funnels: Vec<Funnel>,
    pub(crate) transfers: Vec<Transfer>,
    pub(crate) checks: Vec<Check>,
    pub(crate) provenance: Vec<Provenance>,
    pub(crate) remake: Option<String>,
}

/// A column of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) heading: String,
}

/// The rows of one architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) heading: String,
    pub(crate) rows: Vec<Row>,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) key: RowKey,
    pub(crate) label: String,
    /// `best`, `last` or `best on test`.
    pub(crate) checkpoint: String,
    /// What the model costs, where its evaluation says so.
    pub(crate) size: Option<Cost>,
    /// One for each column.
    pub(crate) cells: Vec<Cell>,
}

/// A cell of the table; shares are in [0, 1].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) measured: Option<Measured>,
    pub(crate) published: Option<Published>,
    /// Measured less published.
    pub(crate) difference: Option<f64>,
    pub(crate) mark: Mark,
}

/// A measured share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// The mean over seeds.
    pub(crate) accuracy: f64,
    /// The Wilson interval of the images; what seeds do is not in it.
    pub(crate) ci95: (f64, f64),
    pub(crate) n: usize,
    pub(crate) seeds: Vec<Seed>,
}

/// One training seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seed {
    pub(crate) seed: u64,
    pub(crate) correct: usize,
    pub(crate) accuracy: f64,
}

/// A published share and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) accuracy: f64,
    pub(crate) source: String,
}

/// How measured and published stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    /// The published value is inside the measured interval.
    Inside,
    /// Measured lies above it.
    Better,
    /// Measured lies below it.
    Worse,
    /// Nothing was measured.
    NotRun,
    /// Nothing was published.
    Unpublished,
    /// The stamp says that the two must not be compared.
    NotComparable,
}

/// Two methods on the same images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) group: String,
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) checkpoint: String,
    pub(crate) seed: u64,
    pub(crate) column: String,
    pub(crate) n: usize,
    /// Images that only the first, only the second stands.
    pub(crate) only_a: usize,
    pub(crate) only_b: usize,
    /// Share of a less share of b.
    pub(crate) difference: f64,
    /// Exact McNemar, two-sided.
    pub(crate) p: f64,
}

/// A training run over its epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) label: String,
    pub(crate) group: String,
    pub(crate) method: String,
    pub(crate) seed: u64,
    /// `validation` or `test`: whose images the curve is of, and who chose the best.
    pub(crate) on: String,
    pub(crate) n: usize,
    pub(crate) points: Vec<RunPoint>,
    pub(crate) best_epoch: Option<u64>,
    /// Epochs after which the learning rate drops.
    pub(crate) drops: Vec<u64>,
    /// Robust share at the best epoch less that at the last, on the images of the curve.
    pub(crate) drop: Option<f64>,
}

/// An evaluation within a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunPoint {
    pub(crate) epoch: u64,
    pub(crate) clean: f64,
    pub(crate) robust: f64,
}

/// Robust accuracy of a model at several radii.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RadiusCurve {
    pub(crate) label: String,
    pub(crate) group: String,
    pub(crate) method: String,
    pub(crate) column: String,
    pub(crate) points: Vec<RadiusPoint>,
}

/// A radius of a curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RadiusPoint {
    pub(crate) eps: f64,
    pub(crate) accuracy: f64,
    pub(crate) ci95: (f64, f64),
}

/// Robust accuracy by class, and where what falls goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassTable {
    pub(crate) label: String,
    pub(crate) group: String,
    pub(crate) column: String,
    pub(crate) classes: Vec<ClassRow>,
    /// Counts, rows the label, columns the answer under attack; where the evaluation kept the answers.
    pub(crate) confusion: Option<Vec<Vec<usize>>>,
}

/// A class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassRow {
    pub(crate) class: String,
    pub(crate) n: usize,
    pub(crate) robust: usize,
}

/// What stands after each attack of an ensemble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Funnel {
    pub(crate) label: String,
    pub(crate) group: String,
    pub(crate) method: String,
    pub(crate) column: String,
    pub(crate) n: usize,
    pub(crate) stages: Vec<Stage>,
}

/// A stage of a funnel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stage {
    pub(crate) name: String,
    pub(crate) standing: usize,
}

/// Accuracy on images made on another model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) column: String,
    pub(crate) eps: String,
    pub(crate) n: usize,
    pub(crate) sources: Vec<String>,
    pub(crate) targets: Vec<String>,
    /// Rows are sources, columns targets.
    pub(crate) accuracy: Vec<Vec<f64>>,
}

/// A reason to believe the numbers, or not to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) claim: String,
    pub(crate) outcome: Verdict,
    pub(crate) detail: String,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Holds,
    Fails,
    NotRun,
}

/// Where numbers come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Provenance {
    pub(crate) name: String,
    /// What is known of it, such as hashes, hardware and times.
    pub(crate) facts: Vec<(String, String)>,
    /// The recipe or the suite in full.
    pub(crate) text: Option<String>,
}

impl Report {
    /// Whether students of one architecture differ in size, so that it belongs into the table.
    pub(crate) fn compares_sizes(&self) -> bool {
        self.groups.iter().any(|group| {
            let sizes = group.rows.iter().filter_map(|row| Some(row.size.as_ref()?.parameters));
            sizes.collect::<std::collections::BTreeSet<u64>>().len() > 1
        })
    }

    /// All rows, in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Group, &Row)> {
        self.groups.iter().flat_map(|group| group.rows.iter().map(move |row| (group, row)))
    }
}
