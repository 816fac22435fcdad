//! APGD toward target classes: the second attack of AutoAttack.

use super::{AttackEntry, configured, targeted};
use crate::apgd::{AdaptiveAscent, Apgd, Rise};
use crate::attack::Search;
use crate::error::Result;
use crate::problem::Problem;
use crate::walk::{Leave, WalkAttack, Walkers};
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
#[serde(try_from = "toml::Table")]
pub struct ApgdT {
    /// How many target classes, from the most likely wrong one down.
    pub targets: NonZeroUsize,
    /// How it ascends toward each.
    #[serde(flatten)]
    pub ascent: AdaptiveAscent,
}

impl TryFrom<toml::Table> for ApgdT {
    type Error = toml::de::Error;

    fn try_from(keys: toml::Table) -> std::result::Result<Self, Self::Error> {
        targeted(keys).map(|(targets, ascent)| Self { targets, ascent })
    }
}

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "apgd_t",
    about: "ascent with an adaptive step size on the targeted difference-of-logits ratio",
    usual: "iterations = 100\ntargets = 9\nrestarts = 1\nrho = 0.75\neot = 1",
    build: configured::<ApgdT>,
};

const PURPOSE: Purpose = Purpose::named("attack/apgd_t");

impl ApgdT {
    /// A search toward one class only: the one of this rank among the logits of the clean image, where
    /// the label of a correctly classified image has rank 1.
    ///
    /// # Errors
    /// When the attack cannot start on the problem.
    pub fn toward(&self, rank: usize, problem: &Problem, leave: Leave) -> Result<Box<dyn Search + '_>> {
        let walk = Apgd { loss: Rise::Targeted(rank..rank + 1), ..self.walk(leave) };
        Ok(Box::new(Walkers::begin(walk, problem)?))
    }
}

impl WalkAttack for ApgdT {
    type Walk = Apgd;
    const NAME: &'static str = ENTRY.name;

    fn walk(&self, leave: Leave) -> Apgd {
        self.ascent.walk(PURPOSE, Rise::Targeted(2..self.targets.get() + 2), leave)
    }

    fn adapted(&self, n_classes: usize) -> Option<String> {
        super::fewer_targets(self.targets.get(), n_classes)
    }
}
