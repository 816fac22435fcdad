//! FAB, untargeted: a gradient for every class in each iteration.

use super::{AttackEntry, configured};
use crate::attack::{Attack, Search, State};
use crate::error::Result;
use crate::fab::{Boundary, FabWalk, Reach};
use crate::problem::Problem;
use crate::walk::{Leave, Walkers};
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

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
#[serde(deny_unknown_fields)]
pub struct Fab {
    /// The number of iterations.
    pub iterations: NonZeroUsize,
    /// How many starts: the image, then random ones.
    pub restarts: NonZeroUsize,
    /// The largest weight of the image's own projection in an iteration.
    pub alpha_max: f64,
    /// By how much a projection overshoots, 1 being not at all.
    pub eta: f64,
    /// What share of the way from the image a misclassified point keeps before the next iteration.
    pub beta: f64,
}

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "fab",
    about: "the nearest misclassified point, along the nearest boundary",
    usual: "iterations = 100\nrestarts = 1\nalpha_max = 0.1\neta = 1.05\nbeta = 0.9",
    build: configured::<Fab>,
};

const PURPOSE: Purpose = Purpose::named("attack/fab");

impl Fab {
    /// A search whose fallen examples leave when this says.
    ///
    /// # Errors
    /// When the attack cannot start on the problem.
    pub fn search(&self, problem: &Problem, leave: Leave) -> Result<Box<dyn Search + '_>> {
        Ok(Box::new(Walkers::begin(self.walk(leave), problem)?))
    }

    /// The attack as its authors first meant it: a search for the nearest misclassified point, in the ball
    /// or not. The image comes back where none is found.
    ///
    /// # Errors
    /// When the attack cannot start on the problem.
    pub fn nearest(&self, problem: &Problem) -> Result<Box<dyn Search + '_>> {
        let walk = FabWalk { reach: Reach::Anywhere, ..self.walk(Leave::AtEnd) };
        Ok(Box::new(Walkers::begin(walk, problem)?))
    }

    fn walk(&self, leave: Leave) -> FabWalk {
        FabWalk {
            purpose: PURPOSE,
            boundary: Boundary::Nearest,
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

impl Attack for Fab {
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
