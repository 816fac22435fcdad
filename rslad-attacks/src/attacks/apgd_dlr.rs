//! APGD on the difference-of-logits ratio, untargeted.

use super::{AttackEntry, configured};
use crate::aim::Loss;
use crate::apgd::{self, AdaptiveAscent, Apgd, Rise};
use crate::walk::{Leave, WalkAttack};
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};

/// Projected gradient ascent with an adaptive step size and momentum, on the difference-of-logits ratio. It needs 3
/// classes.
///
/// An example that is misclassified at any iterate has fallen. The images of the others come back.
///
/// # Source
/// Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
/// parameter-free attacks", algorithm 1 and eq. 6, as their released code (fra31/auto-attack a392200) runs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApgdDlr(pub AdaptiveAscent);

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "apgd_dlr",
    about: "ascent with an adaptive step size on the difference-of-logits ratio",
    usual: apgd::USUAL,
    build: configured::<ApgdDlr>,
};

pub(crate) const PURPOSE: Purpose = Purpose::named("attack/apgd_dlr");

impl WalkAttack for ApgdDlr {
    type Walk = Apgd;
    const NAME: &'static str = ENTRY.name;

    fn walk(&self, leave: Leave) -> Apgd {
        self.0.walk(PURPOSE, Rise::Untargeted(Loss::Dlr), leave)
    }
}
