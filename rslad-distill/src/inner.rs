//! The inner maximization as a recipe writes it.

use rslad_attacks::ascent::{ClipStart, SignAscent, Start};
use rslad_attacks::{Linf, Order, StepSize};
use serde::{Deserialize, Serialize};

/// How the start is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartKind {
    /// At x_nat.
    Natural,
    /// x_nat + U(-eps, eps).
    Uniform,
    /// x_nat + start_std N(0, 1).
    Gaussian,
}

/// The mode in which the student is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttackMode {
    /// Eval mode, as TRADES and RSLAD.
    Frozen,
    /// Train mode, each of the attack's forwards moving the running statistics, as the released SAT,
    /// ARD and IAD.
    BatchStatistics,
}

/// `[inner]` of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InnerConfig {
    /// The radius.
    pub eps: Linf,
    /// The step of one iteration.
    pub step_size: StepSize,
    /// The number of iterations.
    pub steps: usize,
    /// Where they start.
    pub start: StartKind,
    /// The deviation of a gaussian start, in pixel intensity; 0 for the other starts.
    pub start_std: f64,
    /// Whether the start is brought into the ball and `[0, 1]` before the first gradient.
    pub clip_start: ClipStart,
    /// The order of the two halves of a projection.
    pub order: Order,
    /// The mode of the student.
    pub view: AttackMode,
}

impl InnerConfig {
    /// The ascent it describes.
    pub(crate) fn ascent(&self) -> SignAscent {
        let start = match self.start {
            StartKind::Natural => Start::Natural,
            StartKind::Uniform => Start::Uniform,
            StartKind::Gaussian => Start::Gaussian { std: self.start_std },
        };
        SignAscent {
            steps: self.steps,
            step_size: self.step_size.resolve(self.eps),
            start,
            clip_start: self.clip_start,
            order: self.order,
        }
    }

    /// What is wrong with it, if anything: key, value, expectation and fix.
    pub(crate) fn problem(&self) -> Option<String> {
        let (eps, step) = (self.eps.get(), self.step_size.resolve(self.eps));
        if eps == 0.0 {
            return Some("`inner.eps` is 0, expected a radius in (0, 1]; write \"8/255\"".into());
        }
        if !(step > 0.0 && step <= 2.0 * eps) {
            return Some(format!(
                "`inner.step_size` is {} at eps {}, expected above 0 and at most twice the radius; are the two swapped?",
                self.step_size, self.eps
            ));
        }
        if !(1..=10_000).contains(&self.steps) {
            return Some(format!("`inner.steps` is {}, expected 1 to 10000", self.steps));
        }
        let std = self.start_std;
        let (right, expected) = match self.start {
            StartKind::Gaussian => (std > 0.0 && std <= 1.0, "above 0 and at most 1; write 0.001"),
            StartKind::Natural | StartKind::Uniform => (std == 0.0, "0 unless `start = \"gaussian\"`"),
        };
        (!right).then(|| format!("`inner.start_std` is {std}, expected {expected}"))
    }
}
