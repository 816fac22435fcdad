//! APGD on the margin: what AutoAttack adds on models of two classes, where its ratio has no meaning.

use super::{AttackEntry, configured};
use crate::aim::Loss;
use crate::apgd::{self, AdaptiveAscent, Apgd, Rise};
use crate::walk::{Leave, WalkAttack};
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};

/// Projected gradient ascent with an adaptive step size and momentum, on how far the best wrong class
/// leads the label. Unlike the cross-entropy its gradient does not vanish on confident models.
///
/// An example that is misclassified at any iterate has fallen. The images of the others come back.
///
/// # Source
/// Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
/// parameter-free attacks", algorithm 1; the loss is that of Carlini and Wagner 2017.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApgdMargin(pub AdaptiveAscent);

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "apgd_margin",
    about: "ascent with an adaptive step size on the margin",
    usual: apgd::USUAL,
    build: configured::<ApgdMargin>,
};

const PURPOSE: Purpose = Purpose::named("attack/apgd_margin");

impl WalkAttack for ApgdMargin {
    type Walk = Apgd;
    const NAME: &'static str = ENTRY.name;

    fn walk(&self, leave: Leave) -> Apgd {
        self.0.walk(PURPOSE, Rise::Untargeted(Loss::Margin), leave)
    }
}
