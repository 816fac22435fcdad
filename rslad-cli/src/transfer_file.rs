//! `transfer.json`: accuracy of every target on the points of every source. `rslad transfer` writes it, a
//! report reads it.

use crate::result_file::{DataInfo, radius_or_zero};
use rslad_attacks::Linf;
use rslad_attacks::result::Accuracy;
use serde::{Deserialize, Serialize};

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TransferFile {
    pub(crate) schema: u32,
    pub(crate) data: DataInfo,
    #[serde(deserialize_with = "radius_or_zero")]
    pub(crate) eps: Linf,
    pub(crate) seed: u64,
    pub(crate) version: String,
    pub(crate) sources: Vec<Model>,
    pub(crate) targets: Vec<Model>,
    pub(crate) columns: Vec<Cells>,
}

/// A weight file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Model {
    pub(crate) path: String,
    pub(crate) sha256: String,
}

/// One attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cells {
    pub(crate) name: String,
    pub(crate) attack: String,
    pub(crate) cells: Vec<Cell>,
}

/// One target on the points of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// The place of the source among the sources; none where the points are made on the target itself.
    pub(crate) source: Option<usize>,
    pub(crate) target: usize,
    pub(crate) robust: usize,
    pub(crate) n: usize,
    pub(crate) accuracy: f64,
    pub(crate) ci95: (f64, f64),
}

impl Cell {
    /// Of a flag for each image: whether its label held.
    pub(crate) fn of(source: Option<usize>, target: usize, held: &[bool]) -> Self {
        let accuracy = Accuracy::of(held);
        Self {
            source,
            target,
            robust: accuracy.correct,
            n: accuracy.n,
            accuracy: accuracy.share(),
            ci95: accuracy.ci95(),
        }
    }
}

impl Cells {
    /// The sources in order, each once; none stands for the targets themselves.
    pub(crate) fn sources(&self) -> Vec<Option<usize>> {
        let mut sources: Vec<Option<usize>> = self.cells.iter().map(|cell| cell.source).collect();
        sources.dedup();
        sources
    }

    /// The cells of a source, target by target.
    pub(crate) fn of_source(&self, source: Option<usize>) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(move |cell| cell.source == source)
    }
}
