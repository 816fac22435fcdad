//! APGD toward target classes: the second attack of AutoAttack.

use super::{AttackEntry, configured};
use crate::apgd::{Apgd, Rise};
use crate::attack::{Attack, Search, State};
use crate::error::Result;
use crate::problem::Problem;
use crate::walk::{Leave, Walkers};
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Projected gradient ascent with an adaptive step size and momentum, on the targeted difference-of-logits
/// ratio, toward the most likely wrong classes of the clean image in turn.
///
/// It needs 4 classes. A model with fewer wrong classes than `targets` is attacked toward all of them.
/// The released code takes 9 targets also for 100 classes; other implementations of the same name take
/// all 99, which is stronger and slower.
///
/// An example that is misclassified at any iterate has fallen. The images of the others come back.
///
/// # Source
/// Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
/// parameter-free attacks", algorithm 1 and eq. 7, as their released code (fra31/auto-attack a392200) runs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApgdT {
    /// The number of iterations.
    pub iterations: NonZeroUsize,
    /// How many target classes, from the most likely wrong one down.
    pub targets: NonZeroUsize,
    /// How many random starts for each target, while an example stands.
    pub restarts: NonZeroUsize,
    /// The share of iterations between two checkpoints that must raise the loss.
    pub rho: f64,
    /// How many gradients are averaged at a point (expectation over transformation): 1 but for
    /// randomized classifiers.
    pub eot: NonZeroUsize,
}

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "apgd_t",
    about: "ascent with an adaptive step size on the targeted difference-of-logits ratio",
    usual: "iterations = 100\ntargets = 9\nrestarts = 1\nrho = 0.75\neot = 1",
    build: configured::<ApgdT>,
};

const PURPOSE: Purpose = Purpose::named("attack/apgd_t");

impl ApgdT {
    /// A search whose fallen examples leave when this says.
    ///
    /// # Errors
    /// When the attack cannot start on the problem.
    pub fn search(&self, problem: &Problem, leave: Leave) -> Result<Box<dyn Search + '_>> {
        Ok(Box::new(Walkers::begin(self.walk(leave), problem)?))
    }

    /// A search toward one class only: the one of this rank among the logits of the clean image, where
    /// the label of a correctly classified image has rank 1.
    ///
    /// # Errors
    /// When the attack cannot start on the problem.
    pub fn toward(&self, rank: usize, problem: &Problem, leave: Leave) -> Result<Box<dyn Search + '_>> {
        let walk = Apgd { loss: Rise::Targeted(rank..rank + 1), ..self.walk(leave) };
        Ok(Box::new(Walkers::begin(walk, problem)?))
    }

    fn walk(&self, leave: Leave) -> Apgd {
        Apgd {
            purpose: PURPOSE,
            loss: Rise::Targeted(2..self.targets.get() + 2),
            iterations: self.iterations.get(),
            restarts: self.restarts.get(),
            rho: self.rho,
            eot: self.eot.get(),
            leave,
        }
    }
}

impl Attack for ApgdT {
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
