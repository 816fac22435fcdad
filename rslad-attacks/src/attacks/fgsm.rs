//! FGSM: one step of the whole radius.

use super::{AttackEntry, configured};
use crate::ascent::{ByLabels, ClipStart, SignAscent, Start};
use crate::attack::{Attack, Search, State};
use crate::ball::Order;
use crate::error::Result;
use crate::objectives::CrossEntropy;
use crate::problem::Problem;
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};

/// One step of size eps along the sign of the cross-entropy's gradient, from the image.
///
/// # Source
/// Goodfellow et al. 2015, section 4. Whether RSLAD's FGSM column starts at random is not published; this
/// is the attack that the name defines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fgsm {}

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "fgsm",
    about: "one step of size eps on the cross-entropy, from the image",
    usual: "",
    build: configured::<Fgsm>,
};

const PURPOSE: Purpose = Purpose::named("attack/fgsm");

impl Fgsm {
    fn ascent(step_size: f64) -> SignAscent {
        let (start, clip_start, order) = (Start::Natural, ClipStart::Keep, Order::ProjectClamp);
        SignAscent { steps: 1, step_size, start, clip_start, order }
    }
}

fn objective() -> ByLabels<'static> {
    Box::new(|y| Ok(Box::new(CrossEntropy::new(y)?)))
}

impl Attack for Fgsm {
    fn name(&self) -> &str {
        ENTRY.name
    }

    fn begin(&self, problem: &Problem) -> Result<Box<dyn Search + '_>> {
        Self::ascent(problem.ball().eps().get()).search_by_labels(problem, PURPOSE, objective())
    }

    fn restore(&self, state: &State) -> Result<Box<dyn Search + '_>> {
        Self::ascent(state.eps()?.get()).restore_by_labels(state, PURPOSE, objective())
    }
}
