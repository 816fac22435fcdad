//! The seam between networks and attacks: images to logits, and the gradient of an objective on logits
//! with respect to the images. No parameters, no mode, no optimizer.
//!
//! Attacks and losses speak logits. A derivative with respect to logits is a small tensor in closed
//! form; the network's share is one pull-back to the images. So a plan that runs a network forward and
//! backward without an autograd graph can stand behind this trait unseen.

use crate::error::Result;
use candle_core::{Device, Tensor};
use std::any::Any;

/// A function from images to class scores that can be attacked.
///
/// Implement `logits` with candle ops and the provided `gradient` differentiates through them.
pub trait Classifier: Send + Sync {
    /// The number of classes K.
    fn n_classes(&self) -> usize;

    /// Where it computes. Images from elsewhere are answered too, at the price of carrying them over.
    fn device(&self) -> Device {
        Device::Cpu
    }

    /// The class scores of a batch.
    ///
    /// # Shapes
    /// `x`: `[N, C, H, W]`, f32 in `[0, 1]`, on any device; returns `[N, K]` on the same. Row i depends on
    /// image i alone.
    ///
    /// # Errors
    /// When the images do not fit the network.
    fn logits(&self, x: &Tensor) -> Result<Tensor>;

    /// As [`Classifier::logits`], to the bit, for images that are asked about again and again with few pixels
    /// changed, as Square does: `ids` says which image each row is, and `memory` is handed from call to call.
    ///
    /// The provided method remembers nothing; an executor that can compute again what a change reaches, and
    /// only that, overrides it. Images that a call leaves out are forgotten.
    ///
    /// # Shapes
    /// As [`Classifier::logits`]; `ids`: N of them, all different.
    ///
    /// # Errors
    /// As [`Classifier::logits`].
    fn logits_again(&self, _ids: &[u64], x: &Tensor, _memory: &mut Memory) -> Result<Tensor> {
        self.logits(x)
    }

    /// The objective at `x` and its gradient with respect to `x`.
    ///
    /// The provided method differentiates `logits` with candle's autograd; executors with a backward
    /// pass of their own override it.
    ///
    /// # Shapes
    /// `x`: `[N, C, H, W]`, f32 in `[0, 1]`. The objective is asked about rows `0..N`, in one call or
    /// several.
    ///
    /// # Errors
    /// When the images do not fit the network or the objective fails.
    fn gradient(&self, x: &Tensor, objective: &dyn Objective) -> Result<Gradient> {
        let x = candle_core::Var::from_tensor(&x.detach())?;
        let logits = self.logits(x.as_tensor())?; // [N, K]
        pull_back(&x, &logits, x.device(), objective)
    }

    /// Several objectives at `x` and their gradients: what attacks on every class need.
    ///
    /// The provided method asks [`Classifier::gradient`] for each; executors that can go back several
    /// times after one forward override it.
    ///
    /// # Shapes
    /// As [`Classifier::gradient`]; one answer for each objective, in order.
    ///
    /// # Errors
    /// As [`Classifier::gradient`].
    fn gradients(&self, x: &Tensor, objectives: &[&dyn Objective]) -> Result<Vec<Gradient>> {
        objectives.iter().map(|objective| self.gradient(x, *objective)).collect()
    }
}

/// What a classifier remembers of the forwards of [`Classifier::logits_again`]. A new one is empty; which classifier it
/// is handed to may change, and then it is as good as new.
#[derive(Default)]
pub struct Memory(pub(crate) Option<Box<dyn Any + Send>>);

/// The gradient of an objective through logits that candle's autograd connects to `x`. The objective is asked
/// on `device`, where its own data are, and the answer is there.
pub(crate) fn pull_back(
    x: &candle_core::Var,
    logits: &Tensor,
    device: &Device,
    objective: &dyn Objective,
) -> Result<Gradient> {
    let detached = logits.detach().to_device(device)?;
    let rows: Vec<u32> = (0..logits.dim(0)? as u32).collect();
    let (loss, dlogits) = objective.value_and_grad(&rows, &detached)?; // [N], [N, K]
    let dlogits = dlogits.detach().to_device(logits.device())?;
    let grads = (logits * dlogits)?.sum_all()?.backward()?;
    let dx = match grads.get(x.as_tensor()) {
        Some(dx) => dx.clone(),
        None => x.as_tensor().zeros_like()?, // logits that do not depend on x, such as a constant classifier's
    };
    Ok(Gradient { logits: detached, loss, dx: dx.to_device(device)? })
}

/// What `Classifier::gradient` returns.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// The class scores, `[N, K]`.
    pub logits: Tensor,
    /// The objective of each example, `[N]`.
    pub loss: Tensor,
    /// The gradient of the sum of `loss` with respect to the images, shaped like them.
    pub dx: Tensor,
}

/// A per-example function of logits with its derivative: what an attack ascends.
pub trait Objective: Sync {
    /// The value of each example and its derivative with respect to that example's logits.
    ///
    /// # Shapes
    /// `rows`: which examples of the objective (its labels, its soft targets) the logits belong to,
    /// `[n]`; `logits`: `[n, K]`; returns `([n], [n, K])`.
    ///
    /// # Errors
    /// When the logits do not fit the objective's own data.
    fn value_and_grad(&self, rows: &[u32], logits: &Tensor) -> Result<(Tensor, Tensor)>;
}

/// An objective from a differentiable closure on logits: `(rows, logits [n, K]) -> [n]`.
///
/// candle's autograd differentiates the closure, on the small logits tensor only.
pub struct ClosureObjective<F>(pub F);

impl<F: Fn(&[u32], &Tensor) -> Result<Tensor> + Sync> Objective for ClosureObjective<F> {
    fn value_and_grad(&self, rows: &[u32], logits: &Tensor) -> Result<(Tensor, Tensor)> {
        let logits = candle_core::Var::from_tensor(&logits.detach())?;
        let value = (self.0)(rows, logits.as_tensor())?; // [n]
        let grads = value.sum_all()?.backward()?;
        let grad = match grads.get(logits.as_tensor()) {
            Some(grad) => grad.clone(),
            None => logits.as_tensor().zeros_like()?,
        };
        Ok((value.detach(), grad))
    }
}
