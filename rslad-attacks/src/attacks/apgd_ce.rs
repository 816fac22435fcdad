//! APGD on the cross-entropy: the first attack of AutoAttack.

use super::{AttackEntry, configured};
use crate::aim::Loss;
use crate::apgd::{self, AdaptiveAscent, Apgd, Rise};
use crate::walk::{Leave, WalkAttack};
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};

/// Projected gradient ascent with an adaptive step size and momentum, on the cross-entropy.
///
/// An example that is misclassified at any iterate has fallen. The images of the others come back.
///
/// # Source
/// Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
/// parameter-free attacks", algorithm 1, as their released code (fra31/auto-attack a392200) runs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApgdCe(pub AdaptiveAscent);

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "apgd_ce",
    about: "ascent with an adaptive step size on the cross-entropy",
    usual: apgd::USUAL,
    build: configured::<ApgdCe>,
};

const PURPOSE: Purpose = Purpose::named("attack/apgd_ce");

impl WalkAttack for ApgdCe {
    type Walk = Apgd;
    const NAME: &'static str = ENTRY.name;

    fn walk(&self, leave: Leave) -> Apgd {
        self.0.walk(PURPOSE, Rise::Untargeted(Loss::CrossEntropy), leave)
    }
}
