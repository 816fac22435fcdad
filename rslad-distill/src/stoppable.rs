//! A classifier that refuses to go on once it is told to stop.

use candle_core::{Device, Tensor};
use rslad_models::{Classifier, Error, Gradient, Memory, Objective, Result};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};

/// Passes images on until the flag is raised, then fails: an attack of minutes ends within one pass.
///
/// Both may be borrowed or shared.
pub struct Stoppable<F, S> {
    f: F,
    stop: S,
}

impl<F, S> Stoppable<F, S>
where
    F: Deref<Target: Classifier>,
    S: Deref<Target = AtomicBool>,
{
    /// A classifier that `stop` ends.
    pub fn new(f: F, stop: S) -> Self {
        Self { f, stop }
    }

    fn check(&self) -> Result<()> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Error::Other("told to stop".into())),
            false => Ok(()),
        }
    }
}

impl<F, S> Classifier for Stoppable<F, S>
where
    F: Deref<Target: Classifier> + Send + Sync,
    S: Deref<Target = AtomicBool> + Send + Sync,
{
    fn n_classes(&self) -> usize {
        self.f.n_classes()
    }

    fn device(&self) -> Device {
        self.f.device()
    }

    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        self.check()?;
        self.f.logits(x)
    }

    fn logits_again(&self, ids: &[u64], x: &Tensor, memory: &mut Memory) -> Result<Tensor> {
        self.check()?;
        self.f.logits_again(ids, x, memory)
    }

    fn gradient(&self, x: &Tensor, objective: &dyn Objective) -> Result<Gradient> {
        self.check()?;
        self.f.gradient(x, objective)
    }

    fn gradients(&self, x: &Tensor, objectives: &[&dyn Objective]) -> Result<Vec<Gradient>> {
        self.check()?;
        self.f.gradients(x, objectives)
    }
}
