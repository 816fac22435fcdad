//! FAB toward target classes: the third attack of AutoAttack.

use super::{AttackEntry, configured};
use crate::attack::{Attack, Search, State};
use crate::error::Result;
use crate::fab::{Boundary, FabWalk, Reach};
use crate::problem::Problem;
use crate::walk::{Leave, Walkers};
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
#[serde(deny_unknown_fields)]
pub struct FabT {
    /// The number of iterations.
    pub iterations: NonZeroUsize,
    /// How many target classes, from the most likely wrong one down.
    pub targets: NonZeroUsize,
    /// How many starts for each target: the image, then random ones.
    pub restarts: NonZeroUsize,
    /// The largest weight of the image's own projection in an iteration.
    pub alpha_max: f64,
    /// By how much a projection overshoots, 1 being not at all.
    pub eta: f64,
    /// What share of the way from the image a misclassified point keeps before the next iteration.
    pub beta: f64,
}

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "fab_t",
    about: "the nearest misclassified point, along the boundaries to likely classes",
    usual: "iterations = 100\ntargets = 9\nrestarts = 1\nalpha_max = 0.1\neta = 1.05\nbeta = 0.9",
    build: configured::<FabT>,
};

const PURPOSE: Purpose = Purpose::named("attack/fab_t");

impl FabT {
    /// A search whose fallen examples leave when this says.
    ///
    /// # Errors
    /// When the attack cannot start on the problem.
    pub fn search(&self, problem: &Problem, leave: Leave) -> Result<Box<dyn Search + '_>> {
        Ok(Box::new(Walkers::begin(self.walk(leave), problem)?))
    }

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

    fn walk(&self, leave: Leave) -> FabWalk {
        FabWalk {
            purpose: PURPOSE,
            boundary: Boundary::Targeted(2..self.targets.get() + 2),
            iterations: self.iterations.get(),
            restarts: self.restarts.get(),
            alpha_max: self.alpha_max,
            eta: self.eta,
            beta: self.beta,
            leave,
            reach: Reach::Ball,
        }
    }
}

impl Attack for FabT {
    fn name(&self) -> &str {
        ENTRY.name
    }

    fn begin(&self, problem: &Problem) -> Result<Box<dyn Search + '_>> {
        self.search(problem, Leave::AtOnce)
    }

    fn restore(&self, state: &State) -> Result<Box<dyn Search + '_>> {
        Ok(Box::new(Walkers::restore(self.walk(Leave::AtOnce), state)?))
    }

    fn adapted(&self, n_classes: usize) -> Option<String> {
        super::fewer_targets(self.targets.get(), n_classes)
    }
}
