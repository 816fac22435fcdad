//! A network: its graph, its parameters, and the views that run it.

use crate::arch::ArchSpec;
use crate::error::{Error, Result};
use crate::exec::{Frozen, Training};
use crate::graph::Graph;
use crate::params::ParamStore;
use crate::{checkpoint, init};
use candle_core::{Device, Tensor, Var};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// An architecture with weights.
#[derive(Debug)]
pub struct Network {
    arch: ArchSpec,
    graph: Arc<Graph>,
    params: ParamStore,
}

impl Network {
    /// A network with initial weights from `seed`, on the CPU.
    ///
    /// # Errors
    /// When the architecture or an option of it is unknown or outside its domain.
    pub fn new(arch: &ArchSpec, seed: u64) -> Result<Self> {
        let graph = arch.graph()?;
        let params = ParamStore::zeros(&graph, &Device::Cpu)?;
        init::initialize(&graph, &params, seed)?;
        Ok(Self { arch: arch.clone(), graph: Arc::new(graph), params })
    }

    /// A network with given weights.
    ///
    /// # Errors
    /// As [`Network::new`], and when the tensors do not fit: see [`ParamStore::load_state_dict`].
    pub fn with_state_dict(arch: &ArchSpec, tensors: &HashMap<String, Tensor>) -> Result<Self> {
        let network = Self::new(arch, 0)?;
        network.params.load_state_dict(tensors)?;
        Ok(network)
    }

    /// A network of any graph with random weights and statistics, for tests of the executors.
    #[cfg(test)]
    pub(crate) fn of_graph(graph: Graph, seed: u64) -> Result<Self> {
        use crate::randomness::{Key, Purpose};
        let params = ParamStore::zeros(&graph, &Device::Cpu)?;
        init::initialize(&graph, &params, seed)?;
        for (i, e) in graph.entries().iter().enumerate().filter(|(_, e)| e.shape.len() == 1) {
            let mut draws = Key::new(seed, Purpose::named("test").within(&e.name)).stream(0);
            let center = if e.name.ends_with("mean") || e.name.ends_with("bias") { 0.0 } else { 1.0 };
            let values: Vec<f32> = (0..e.shape[0]).map(|_| center + 0.5 * draws.symmetric()).collect();
            params.var(i).set(&Tensor::new(values, &Device::Cpu)?)?;
        }
        let arch = ArchSpec { arch: "test".into(), options: toml::Table::new() };
        Ok(Self { arch, graph: Arc::new(graph), params })
    }

    /// A network from a checkpoint of ours, with what its file says of its making.
    ///
    /// # Errors
    /// When the file is missing, damaged, of a newer format, or does not hold a network of ours.
    pub fn load(path: &Path) -> Result<(Self, checkpoint::Provenance)> {
        let checkpoint = checkpoint::read(path)?;
        let damaged = |e: Error| Error::Checkpoint { path: path.into(), message: e.to_string() };
        let network = Self::with_state_dict(&checkpoint.arch, &checkpoint.tensors).map_err(damaged)?;
        Ok((network, checkpoint.provenance))
    }

    /// Writes weights, architecture and provenance to one safetensors file: to a temporary file, synced,
    /// then renamed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path, provenance: &checkpoint::Provenance) -> Result<()> {
        checkpoint::write(path, &self.arch, &self.params.state_dict()?, provenance)
    }

    /// The architecture and its options.
    pub fn arch(&self) -> &ArchSpec {
        &self.arch
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(crate) fn graph_handle(&self) -> Arc<Graph> {
        Arc::clone(&self.graph)
    }

    /// All tensors.
    pub fn params(&self) -> &ParamStore {
        &self.params
    }

    /// The trained tensors with their names: what an optimizer may change.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.params.parameters()
    }

    /// The network in train mode.
    pub fn training(&self) -> Training<'_> {
        Training::new(self)
    }

    /// A snapshot in eval mode.
    ///
    /// # Errors
    /// When copying the weights fails.
    pub fn freeze(&self) -> Result<Frozen> {
        Frozen::new(self)
    }
}
