//! Train mode: forwards with batch statistics, parameter gradients, running statistics.

use super::reference::{self, Seen, Statistics};
use crate::classifier::Classifier;
use crate::error::{Error, Result};
use crate::graph::{Kind, Op};
use crate::network::Network;
use candle_core::Tensor;
use std::sync::Mutex;

/// A network in train mode. Every forward normalises by batch statistics and updates the running ones;
/// gradients of several backwards add up until they are taken.
pub struct Training<'n> {
    network: &'n Network,
    gradients: Vec<Option<Tensor>>, // one per parameter
    buffers: Mutex<()>,             // held while running statistics change
}

/// One forward in train mode, alive until its backward.
pub struct Pass {
    tracked: Tensor,
    logits: Tensor,
}

impl Pass {
    /// The logits, `[N, K]`.
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }
}

impl<'n> Training<'n> {
    pub(crate) fn new(network: &'n Network) -> Self {
        let n = network.params().parameters().count();
        Self { network, gradients: vec![None; n], buffers: Mutex::new(()) }
    }

    /// A forward with batch statistics; updates the running statistics as PyTorch does (momentum 0.1,
    /// biased variance to normalise, unbiased to track).
    ///
    /// # Shapes
    /// `x`: `[N, C, H, W]`, f32 in `[0, 1]`.
    ///
    /// # Errors
    /// When the images do not fit, or a normalisation sees fewer than two values per channel.
    pub fn forward(&mut self, x: &Tensor) -> Result<Pass> {
        let params = self.tensors(|i| self.network.params().var(i).as_tensor().clone());
        let mut seen = Vec::new();
        let tracked =
            reference::run(self.network.graph(), &params, &x.detach(), Statistics::Batch(&mut seen))?;
        self.track(&seen, None)?;
        Ok(Pass { logits: tracked.detach(), tracked })
    }

    /// Adds the parameter gradients of `sum(logits * dlogits)`.
    ///
    /// # Shapes
    /// `dlogits`: `[N, K]`, the derivative of the loss with respect to the logits of `pass`.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn backward(&mut self, pass: Pass, dlogits: &Tensor) -> Result<()> {
        let grads = (pass.tracked * dlogits.detach())?.sum_all()?.backward()?;
        for (sum, (_, var)) in self.gradients.iter_mut().zip(self.network.params().parameters()) {
            let Some(grad) = grads.get(var.as_tensor()) else { continue };
            *sum = Some(match sum.take() {
                Some(sum) => (sum + grad)?,
                None => grad.detach(),
            });
        }
        Ok(())
    }

    /// Takes the gradients that have added up, one for each of `Network::parameters`, in order.
    ///
    /// # Errors
    /// When a parameter has none, because no backward has run.
    pub fn take_gradients(&mut self) -> Result<Vec<Tensor>> {
        let names = self.network.params().parameters().map(|(name, _)| name);
        let taken = self.gradients.iter_mut().map(Option::take).zip(names);
        let missing =
            |name: &str| Error::Other(format!("parameter `{name}` has no gradient: run a backward first"));
        taken.map(|(grad, name)| grad.ok_or_else(|| missing(name))).collect()
    }

    /// The network as the released ARD, IAD and SAT codes attack it: in train mode, through batch
    /// statistics, each forward updating the running ones. Rows of a batch influence each other here,
    /// so it is the one view whose results depend on how examples are batched.
    pub fn attack_view(&self) -> AttackView<'_> {
        AttackView { training: self }
    }

    /// Replaces the running statistics by their plain average over these batches: what averaged weights
    /// need before they are evaluated.
    ///
    /// # Errors
    /// When a batch does not fit.
    pub fn reestimate<E: From<Error>>(
        &mut self,
        batches: impl IntoIterator<Item = std::result::Result<Tensor, E>>,
    ) -> std::result::Result<(), E> {
        let params = self.tensors(|i| self.network.params().var(i).as_detached_tensor());
        for (i, x) in batches.into_iter().enumerate() {
            let mut seen = Vec::new();
            reference::run(self.network.graph(), &params, &x?, Statistics::Batch(&mut seen))?;
            self.track(&seen, Some(1.0 / (i + 1) as f64))?;
        }
        Ok(())
    }

    fn tensors(&self, get: impl Fn(usize) -> Tensor) -> Vec<Tensor> {
        (0..self.network.params().entries().len()).map(get).collect()
    }

    /// Moves the running statistics toward what was seen, by each normalisation's momentum or `weight`.
    fn track(&self, seen: &[Seen], weight: Option<f64>) -> Result<()> {
        let _guard = self.buffers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (graph, store) = (self.network.graph(), self.network.params());
        for Seen { node, mean, variance } in seen {
            let Op::BatchNorm { momentum, .. } = graph.nodes()[*node].op else { continue };
            let weight = weight.unwrap_or(momentum);
            let first = graph.first_entry(*node);
            for (entry, batch) in [(first + 2, mean), (first + 3, variance)] {
                let running = store.var(entry);
                running.set(&((running.as_detached_tensor() * (1.0 - weight))? + (batch * weight)?)?)?;
            }
            let counter = store.var(first + 4);
            debug_assert_eq!(store.entries()[first + 4].kind, Kind::Counter);
            counter.set(&(counter.as_detached_tensor() + 1.0)?)?;
        }
        Ok(())
    }
}

/// A network attacked in train mode: see [`Training::attack_view`].
pub struct AttackView<'t> {
    training: &'t Training<'t>,
}

impl Classifier for AttackView<'_> {
    fn n_classes(&self) -> usize {
        self.training.network.graph().n_classes()
    }

    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let t = self.training;
        let params = t.tensors(|i| t.network.params().var(i).as_detached_tensor());
        let mut seen = Vec::new();
        let logits = reference::run(t.network.graph(), &params, x, Statistics::Batch(&mut seen))?;
        t.track(&seen, None)?;
        Ok(logits)
    }
}
