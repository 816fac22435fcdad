//! CW-inf: projected gradient ascent on the Carlini-Wagner margin.

use super::{AttackEntry, StartRule, configured};
use crate::ascent::{ByLabels, ClipStart, SignAscent};
use crate::attack::{Attack, Search, State};
use crate::ball::Order;
use crate::error::Result;
use crate::linf::{Linf, StepSize};
use crate::objectives::Margin;
use crate::problem::Problem;
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// PGD on the margin loss instead of the cross-entropy, judged at its last iterate.
///
/// # Units
/// `confidence` in logits.
///
/// # Source
/// Carlini and Wagner 2017 for the loss, Madry's challenge code for ascending it with PGD. RSLAD states
/// 20 steps and released no code; confidence 50 (never binding for usual logits) is that of IAD and the
/// codes derived from it, which take 30 steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CwInf {
    /// The number of steps.
    pub steps: NonZeroUsize,
    /// The size of a step.
    pub step_size: StepSize,
    /// Where it starts.
    pub start: StartRule,
    /// Whether the start is clipped before the first gradient.
    pub clip_start: ClipStart,
    /// By how much another class must lead before pushing stops.
    pub confidence: f64,
}

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "cw_inf",
    about: "projected gradient ascent on the Carlini-Wagner margin",
    usual: "steps = 20\nstep_size = \"2/255\"\nstart = \"uniform\"\nclip_start = \"clip\"\nconfidence = 50.0",
    build: configured::<CwInf>,
};

const PURPOSE: Purpose = Purpose::named("attack/cw_inf");

impl CwInf {
    fn ascent(&self, eps: Linf) -> SignAscent {
        SignAscent {
            steps: self.steps.get(),
            step_size: self.step_size.resolve(eps),
            start: self.start.into(),
            clip_start: self.clip_start,
            order: Order::ProjectClamp,
        }
    }

    fn objective(&self) -> ByLabels<'_> {
        Box::new(|y| Ok(Box::new(Margin::new(y, self.confidence)?)))
    }
}

impl Attack for CwInf {
    fn name(&self) -> &str {
        ENTRY.name
    }

    fn begin(&self, problem: &Problem) -> Result<Box<dyn Search + '_>> {
        self.ascent(problem.ball().eps()).search_by_labels(problem, PURPOSE, self.objective())
    }

    fn restore(&self, state: &State) -> Result<Box<dyn Search + '_>> {
        self.ascent(state.eps()?).restore_by_labels(state, PURPOSE, self.objective())
    }
}
