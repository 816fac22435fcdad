//! APGD on the margin: what AutoAttack adds on models of two classes, where its ratio has no meaning.

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

/// Projected gradient ascent with an adaptive step size and momentum, on how far the best wrong class
/// leads the label. Unlike the cross-entropy its gradient does not vanish on confident models.
///
/// An example that is misclassified at any iterate has fallen. The images of the others come back.
///
/// # Source
/// Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
/// parameter-free attacks", algorithm 1; the loss is that of Carlini and Wagner 2017.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApgdMargin {
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
    name: "apgd_margin",
    about: "ascent with an adaptive step size on the margin",
    usual: "iterations = 100\nrestarts = 1\nrho = 0.75\neot = 1",
    build: configured::<ApgdMargin>,
};

const PURPOSE: Purpose = Purpose::named("attack/apgd_margin");

impl ApgdMargin {
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
            loss: Rise::Untargeted(Loss::Margin),
            iterations: self.iterations.get(),
            restarts: self.restarts.get(),
            rho: self.rho,
            eot: self.eot.get(),
            leave,
        }
    }
}

impl Attack for ApgdMargin {
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
