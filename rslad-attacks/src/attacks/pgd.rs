//! PGD on the cross-entropy: the columns PGD_SAT and PGD_TRADES of the papers' tables.

use super::{AttackEntry, StartRule, configured};
use crate::ascent::{ByLabels, ClipStart, SignAscent};
use crate::attack::{Attack, Search, State};
use crate::ball::Order;
use crate::error::Result;
use crate::linf::{Linf, StepSize};
use crate::objectives::CrossEntropy;
use crate::problem::Problem;
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Projected gradient ascent on the cross-entropy, judged at its last iterate.
///
/// # Source
/// Madry et al. 2018. PGD_SAT of the RSLAD tables: 20 steps of 2/255, uniform start, clipped;
/// PGD_TRADES: the same with steps of 0.003 (TRADES' own evaluation has eps 0.031 and does not clip the
/// start).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pgd {
    /// The number of steps.
    pub steps: NonZeroUsize,
    /// The size of a step.
    pub step_size: StepSize,
    /// Where it starts.
    pub start: StartRule,
    /// Whether the start is clipped before the first gradient.
    pub clip_start: ClipStart,
}

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "pgd",
    about: "projected gradient ascent on the cross-entropy, judged at the last step",
    usual: "steps = 20\nstep_size = \"2/255\"\nstart = \"uniform\"\nclip_start = \"clip\"",
    build: configured::<Pgd>,
};

const PURPOSE: Purpose = Purpose::named("attack/pgd");

impl Pgd {
    fn ascent(&self, eps: Linf) -> SignAscent {
        SignAscent {
            steps: self.steps.get(),
            step_size: self.step_size.resolve(eps),
            start: self.start.into(),
            clip_start: self.clip_start,
            order: Order::ProjectClamp,
        }
    }
}

fn objective() -> ByLabels<'static> {
    Box::new(|y| Ok(Box::new(CrossEntropy::new(y)?)))
}

impl Attack for Pgd {
    fn name(&self) -> &str {
        ENTRY.name
    }

    fn begin(&self, problem: &Problem) -> Result<Box<dyn Search + '_>> {
        self.ascent(problem.ball().eps()).search_by_labels(problem, PURPOSE, objective())
    }

    fn restore(&self, state: &State) -> Result<Box<dyn Search + '_>> {
        self.ascent(state.eps()?).restore_by_labels(state, PURPOSE, objective())
    }
}
