//! What becomes of a step whose loss or gradient is not finite, or whose gradient is too large.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// `[guard]` of a recipe. Without it no gradient is clipped, and the first step that is not finite ends
/// the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardConfig {
    /// Steps in a row that are left out when their loss or gradient is not finite: weights, momentum and
    /// running statistics stay as they were. One more ends the run.
    pub skip: u64,
    /// The L2 norm to which a larger gradient is scaled down; 0 for none.
    pub clip_norm: f64,
}

/// What to do with a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Follow its gradient times this factor.
    Take(f64),
    /// Leave it out.
    Skip,
    /// End the run, because this is not finite.
    Stop(&'static str),
}

impl GuardConfig {
    /// Judges a step after `skipped` steps in a row that were left out.
    pub(crate) fn judge(guard: Option<&Self>, loss: f64, grad_norm: f64, skipped: u64) -> Verdict {
        let wrong =
            [("the loss", loss), ("the gradient", grad_norm)].into_iter().find(|(_, v)| !v.is_finite());
        match (wrong, guard) {
            (Some(_), Some(guard)) if skipped < guard.skip => Verdict::Skip,
            (Some((what, _)), _) => Verdict::Stop(what),
            (None, Some(guard)) if guard.clip_norm > 0.0 && grad_norm > guard.clip_norm => {
                Verdict::Take(guard.clip_norm / grad_norm)
            }
            (None, _) => Verdict::Take(1.0),
        }
    }

    /// What is wrong with it, if anything: key, value, expectation.
    pub(crate) fn problem(&self) -> Option<String> {
        let norm = self.clip_norm;
        (!(norm >= 0.0 && norm.is_finite()))
            .then(|| format!("`guard.clip_norm` is {norm}, expected a norm above 0, or 0 for none"))
    }
}

/// The gradients times a factor; as they are for 1.
pub(crate) fn scaled(gradients: Vec<Tensor>, factor: f64) -> candle_core::Result<Vec<Tensor>> {
    if factor == 1.0 {
        return Ok(gradients);
    }
    gradients.iter().map(|gradient| gradient * factor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_taken_clipped_skipped_or_ends_the_run() {
        let guard = |skip, clip_norm| Some(GuardConfig { skip, clip_norm });
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let cases = [
            (None, (1.0, 9.0, 0), Verdict::Take(1.0)),
            (None, (nan, 9.0, 0), Verdict::Stop("the loss")),
            (None, (1.0, inf, 0), Verdict::Stop("the gradient")),
            (guard(0, 0.0), (1.0, 9.0, 0), Verdict::Take(1.0)),
            (guard(0, 0.0), (inf, 9.0, 0), Verdict::Stop("the loss")),
            (guard(0, 3.0), (1.0, 9.0, 0), Verdict::Take(1.0 / 3.0)),
            (guard(0, 3.0), (1.0, 3.0, 0), Verdict::Take(1.0)),
            (guard(0, 3.0), (1.0, inf, 0), Verdict::Stop("the gradient")),
            (guard(2, 3.0), (nan, nan, 1), Verdict::Skip),
            (guard(2, 3.0), (nan, nan, 2), Verdict::Stop("the loss")),
            (guard(2, 3.0), (1.0, 1.0, 2), Verdict::Take(1.0)),
        ];
        for (guard, (loss, norm, skipped), expected) in cases {
            let verdict = GuardConfig::judge(guard.as_ref(), loss, norm, skipped);
            assert_eq!(verdict, expected, "{guard:?}, loss {loss}, norm {norm}, {skipped} skipped");
        }
    }

    #[test]
    fn a_norm_must_be_a_norm() {
        for norm in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(
                GuardConfig { skip: 0, clip_norm: norm }.problem().unwrap().contains("`guard.clip_norm`")
            );
        }
        assert_eq!(GuardConfig { skip: 3, clip_norm: 0.0 }.problem(), None);
    }
}
