//! Adversarial weight perturbation, an option of any method: the student descends at weights that have
//! first been moved, layer by layer, to where its loss is larger.
//!
//! Source: Wu et al., "Adversarial Weight Perturbation Helps Robust Generalization" (NeurIPS 2020),
//! with one ascent step as its released code: only weights of two and more dimensions move, by
//! `gamma |w| g / |g|` each; the running statistics of the ascent's forwards are dropped (there, a proxy
//! network takes them). There the weight decay of the step sees the moved weights, here those it acts on.

use crate::error::Result;
use crate::method::Progress;
use crate::optim::global_norm;
use candle_core::Tensor;
use rslad_models::Network;
use serde::{Deserialize, Serialize};

/// `[awp]` of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwpConfig {
    /// The size of a perturbation, relative to the norm of the weights it moves.
    pub gamma: f64,
    /// Epochs before it sets in.
    pub warmup: u64,
}

impl AwpConfig {
    /// Whether weights are perturbed in this epoch.
    pub(crate) fn is_on(&self, progress: Progress) -> bool {
        progress.epoch > self.warmup
    }

    /// Moves the weights up the gradients, which come in the order of `Network::parameters`.
    pub(crate) fn perturb(&self, student: &Network, gradients: &[Tensor]) -> Result<()> {
        for ((_, w), g) in student.parameters().zip(gradients).filter(|(_, g)| g.rank() > 1) {
            let here = w.as_detached_tensor();
            let (size, steepness) = (global_norm([&here])?, global_norm([g])?);
            if steepness > 0.0 {
                w.set(&(here + (g * (self.gamma * size / steepness))?)?)?;
            }
        }
        Ok(())
    }

    /// What is wrong with it, if anything: key, value, expectation.
    pub(crate) fn problem(&self) -> Option<String> {
        let gamma = self.gamma;
        (!(gamma > 0.0 && gamma <= 1.0))
            .then(|| format!("`awp.gamma` is {gamma}, expected above 0 and at most 1; write 0.005"))
    }
}
