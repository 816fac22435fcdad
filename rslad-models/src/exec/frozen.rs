//! Eval mode: a snapshot of a network that can be asked for logits and input gradients, nothing else.

use super::reference::{self, Statistics};
use crate::classifier::Classifier;
use crate::error::Result;
use crate::graph::Graph;
use crate::network::Network;
use candle_core::Tensor;
use std::sync::Arc;

/// A network in eval mode: running statistics, no parameter gradients, no buffers to update.
///
/// It is a snapshot: training the network afterwards does not change it until [`Frozen::refresh`].
#[derive(Clone, Debug)]
pub struct Frozen {
    graph: Arc<Graph>,
    params: Vec<Tensor>,
}

impl Frozen {
    pub(crate) fn new(network: &Network) -> Result<Self> {
        Ok(Self { graph: network.graph_handle(), params: snapshot(network)? })
    }

    /// Takes the network's present weights and statistics.
    ///
    /// # Errors
    /// When copying fails.
    ///
    /// # Panics
    /// When `network` has another graph than the one that was frozen.
    pub fn refresh(&mut self, network: &Network) -> Result<()> {
        assert!(*self.graph == *network.graph(), "a frozen view follows the network it was made from");
        self.params = snapshot(network)?;
        Ok(())
    }
}

fn snapshot(network: &Network) -> Result<Vec<Tensor>> {
    let store = network.params();
    (0..store.entries().len()).map(|i| Ok(store.var(i).as_detached_tensor().copy()?)).collect()
}

impl Classifier for Frozen {
    fn n_classes(&self) -> usize {
        self.graph.n_classes()
    }

    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        reference::run(&self.graph, &self.params, x, Statistics::Running)
    }
}
