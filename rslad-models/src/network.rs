//! A network: its graph, its parameters, and the views that run it.

use crate::arch::ArchSpec;
use crate::error::{Error, Result};
use crate::exec::{Frozen, Training};
use crate::graph::Graph;
use crate::params::ParamStore;
use crate::{checkpoint, init};
use candle_core::{DType, Device, Tensor, Var};
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
        let params = ParamStore::zeros(&graph, DType::F32, &Device::Cpu)?;
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

    /// The same network in double precision, for images in f64: what tells rounding from error when a
    /// result differs from another program's. Slow, and never saved.
    ///
    /// # Errors
    /// When copying the weights fails.
    pub fn in_double_precision(&self) -> Result<Self> {
        let params = ParamStore::zeros(&self.graph, DType::F64, &Device::Cpu)?;
        params.load_state_dict(&self.params.state_dict()?.into_iter().collect())?;
        Ok(Self { arch: self.arch.clone(), graph: Arc::clone(&self.graph), params })
    }

    /// A network from a checkpoint of ours, with what its file says of its making.
    ///
    /// # Errors
    /// When the file is missing, damaged, of a newer format, or does not hold a network of ours.
    pub fn load(path: &Path) -> Result<(Self, checkpoint::Provenance)> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
        Self::from_bytes(&bytes, path)
    }

    /// A network from the bytes of a checkpoint of ours; `origin` names it in errors.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn from_bytes(bytes: &[u8], origin: &Path) -> Result<(Self, checkpoint::Provenance)> {
        let checkpoint = checkpoint::parse(bytes, origin)?;
        let damaged = |e: Error| Error::Checkpoint { path: origin.into(), message: e.to_string() };
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
