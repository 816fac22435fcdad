//! FAB toward target classes: the third attack of AutoAttack.

use super::{AttackEntry, configured, targeted};
use crate::attack::Search;
use crate::error::Result;
use crate::fab::{Boundary, BoundarySearch, FabWalk, Reach};
use crate::problem::Problem;
use crate::walk::{Leave, WalkAttack, Walkers};
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// The nearest misclassified point, looked for along the boundaries to the most likely wrong classes in
/// turn; a point of any wrong class counts.
///
/// An example has fallen where the nearest misclassified point that was found is in the ball. A farther
/// one is discarded; the images of the examples that stand come back. Only restarts draw random numbers.
///
/// # Source
/// Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack",
/// algorithm 1, as their released code (fra31/auto-attack a392200) runs it: without the final search that
/// the paper describes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct FabT {
    /// How many target classes, from the most likely wrong one down.
    pub targets: NonZeroUsize,
    /// How it searches along the boundary to each.
    #[serde(flatten)]
    pub search: BoundarySearch,
}

impl TryFrom<toml::Table> for FabT {
    type Error = toml::de::Error;

    fn try_from(keys: toml::Table) -> std::result::Result<Self, Self::Error> {
        targeted(keys).map(|(targets, search)| Self { targets, search })
    }
}

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "fab_t",
    about: "the nearest misclassified point, along the boundaries to likely classes",
    usual: "iterations = 100\ntargets = 9\nrestarts = 1\nalpha_max = 0.1\neta = 1.05\nbeta = 0.9",
    build: configured::<FabT>,
};

const PURPOSE: Purpose = Purpose::named("attack/fab_t");

impl FabT {
    /// The attack as its authors first meant it: a search for the nearest misclassified point, in the ball
    /// or not, along the boundary to the class of this rank among the logits of the clean image (the
    /// label of a correctly classified image has rank 1). The image comes back where none is found.
    ///
    /// # Errors
    /// When the attack cannot start on the problem.
    pub fn nearest(&self, rank: usize, problem: &Problem) -> Result<Box<dyn Search + '_>> {
        let (boundary, reach) = (Boundary::Targeted(rank..rank + 1), Reach::Anywhere);
        let walk = FabWalk { boundary, reach, ..self.walk(Leave::AtEnd) };
        Ok(Box::new(Walkers::begin(walk, problem)?))
    }
}

impl WalkAttack for FabT {
    type Walk = FabWalk;
    const NAME: &'static str = ENTRY.name;

    fn walk(&self, leave: Leave) -> FabWalk {
        self.search.walk(PURPOSE, Boundary::Targeted(2..self.targets.get() + 2), leave)
    }

    fn adapted(&self, n_classes: usize) -> Option<String> {
        super::fewer_targets(self.targets.get(), n_classes)
    }
}
