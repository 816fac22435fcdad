//! FAB, untargeted: a gradient for every class in each iteration.

use super::{AttackEntry, configured};
use crate::attack::Search;
use crate::error::Result;
use crate::fab::{Boundary, BoundarySearch, FabWalk, Reach};
use crate::problem::Problem;
use crate::walk::{Leave, WalkAttack, Walkers};
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};

/// The nearest misclassified point, looked for along whichever boundary is nearest in the linear view: as
/// many gradients in an iteration as there are other classes, so `fab_t` is what large label sets get.
///
/// An example has fallen where the nearest misclassified point that was found is in the ball. A farther
/// one is discarded; the images of the examples that stand come back. Only restarts draw random numbers.
///
/// # Source
/// Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack",
/// algorithm 1, as their released code (fra31/auto-attack a392200) runs it: without the final search that
/// the paper describes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fab(pub BoundarySearch);

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "fab",
    about: "the nearest misclassified point, along the nearest boundary",
    usual: "iterations = 100\nrestarts = 1\nalpha_max = 0.1\neta = 1.05\nbeta = 0.9",
    build: configured::<Fab>,
};

const PURPOSE: Purpose = Purpose::named("attack/fab");

impl Fab {
    /// The attack as its authors first meant it: a search for the nearest misclassified point, in the ball
    /// or not. The image comes back where none is found.
    ///
    /// # Errors
    /// When the attack cannot start on the problem.
    pub fn nearest(&self, problem: &Problem) -> Result<Box<dyn Search + '_>> {
        let walk = FabWalk { reach: Reach::Anywhere, ..self.walk(Leave::AtEnd) };
        Ok(Box::new(Walkers::begin(walk, problem)?))
    }
}

impl WalkAttack for Fab {
    type Walk = FabWalk;
    const NAME: &'static str = ENTRY.name;

    fn walk(&self, leave: Leave) -> FabWalk {
        self.0.walk(PURPOSE, Boundary::Nearest, leave)
    }
}
