//! APGD on the difference-of-logits ratio, untargeted.

use super::{AttackEntry, configured};
use crate::aim::Loss;
use crate::apgd::{Apgd, Rise};
use crate::attack::{Attack, Search, State};
use crate::error::Result;
use crate::problem::Problem;
use crate::walk::{Leave, Walkers};
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Projected gradient ascent with an adaptive step size and momentum, on the difference-of-logits ratio. It needs 3
/// classes.
///
/// An example that is misclassified at any iterate has fallen. The images of the others come back.
///
/// # Source
/// Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
/// parameter-free attacks", algorithm 1 and eq. 6, as their released code (fra31/auto-attack a392200) runs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApgdDlr {
    /// The number of iterations.
    pub iterations: NonZeroUsize,
    /// How many random starts, while an example stands.
    pub restarts: NonZeroUsize,
    /// The share of iterations between two checkpoints that must raise the loss.
    pub rho: f64,
    /// How many gradients are averaged at a point (expectation over transformation): 1 but for
    /// randomized classifiers.
    pub eot: NonZeroUsize,
}

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "apgd_dlr",
    about: "ascent with an adaptive step size on the difference-of-logits ratio",
    usual: "iterations = 100\nrestarts = 1\nrho = 0.75\neot = 1",
    build: configured::<ApgdDlr>,
};

pub(crate) const PURPOSE: Purpose = Purpose::named("attack/apgd_dlr");

impl ApgdDlr {
    /// A search whose fallen examples leave when this says.
    ///
    /// # Errors
    /// When the attack cannot start on the problem.
    pub fn search(&self, problem: &Problem, leave: Leave) -> Result<Box<dyn Search + '_>> {
        Ok(Box::new(Walkers::begin(self.walk(leave), problem)?))
    }

    fn walk(&self, leave: Leave) -> Apgd {
        Apgd {
            purpose: PURPOSE,
            loss: Rise::Untargeted(Loss::Dlr),
            iterations: self.iterations.get(),
            restarts: self.restarts.get(),
            rho: self.rho,
            eot: self.eot.get(),
            leave,
        }
    }
}

impl Attack for ApgdDlr {
    fn name(&self) -> &str {
        ENTRY.name
    }

    fn begin(&self, problem: &Problem) -> Result<Box<dyn Search + '_>> {
        self.search(problem, Leave::AtOnce)
    }

    fn restore(&self, state: &State) -> Result<Box<dyn Search + '_>> {
        Ok(Box::new(Walkers::restore(self.walk(Leave::AtOnce), state)?))
    }
}
