//! A network: its graph, its parameters, and the views that run it.

use crate::arch::ArchSpec;
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::exec::{Frozen, Training};
use crate::graph::Graph;
use crate::params::ParamStore;
use crate::{checkpoint, init, params};
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
    precision: Precision,
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
        Ok(Self { arch: arch.clone(), graph: Arc::new(graph), params, precision: Precision::F32 })
    }

    /// A network with given weights.
    ///
    /// # Errors
    /// As [`Network::new`], and when the tensors do not fit: see [`ParamStore::load_state_dict`].
    pub fn with_state_dict(arch: &ArchSpec, tensors: &HashMap<String, Tensor>) -> Result<Self> {
        let graph = arch.graph()?;
        params::check_fit(graph.entries(), tensors)?; // a file's options alone must not cost memory
        let params = ParamStore::zeros(&graph, DType::F32, &Device::Cpu)?;
        params.load_state_dict(tensors)?;
        Ok(Self { arch: arch.clone(), graph: Arc::new(graph), params, precision: Precision::F32 })
    }

    /// The same network on another device.
    ///
    /// # Errors
    /// When copying the weights fails.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        self.copied(self.dtype(), device)
    }

    /// This network on a device: as it is, where it is there already.
    ///
    /// # Errors
    /// As [`Network::to_device`].
    pub fn moved_to(self, device: &Device) -> Result<Self> {
        if self.device().same_device(device) { Ok(self) } else { self.to_device(device) }
    }

    /// Where its weights are.
    pub fn device(&self) -> &Device {
        self.params.var(0).device()
    }

    /// The same network, whose views on a GPU multiply in other numbers.
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The numbers that its views multiply in on a GPU.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The same network in double precision, for images in f64: what tells rounding from error when a
    /// result differs from another program's. Slow, and never saved.
    ///
    /// # Errors
    /// When copying the weights fails.
    pub fn in_double_precision(&self) -> Result<Self> {
        self.copied(DType::F64, self.device())
    }

    fn copied(&self, float: DType, device: &Device) -> Result<Self> {
        let params = self.params.copied(&self.graph, float, device)?;
        let (arch, graph) = (self.arch.clone(), Arc::clone(&self.graph));
        Ok(Self { arch, graph, params, precision: self.precision })
    }

    /// A network of a graph that no registry holds, with initial weights from `seed`: for experiments.
    /// It trains and answers as any other; a checkpoint of it names no architecture and does not load.
    ///
    /// # Errors
    /// When making the tensors fails.
    pub fn from_graph(graph: Graph, seed: u64) -> Result<Self> {
        let params = ParamStore::zeros(&graph, DType::F32, &Device::Cpu)?;
        init::initialize(&graph, &params, seed)?;
        let arch = ArchSpec { arch: "unregistered".into(), options: toml::Table::new() };
        Ok(Self { arch, graph: Arc::new(graph), params, precision: Precision::F32 })
    }

    /// A network of any graph with random weights and statistics, for tests of the executors.
    #[cfg(test)]
    pub(crate) fn of_graph(graph: Graph, seed: u64) -> Result<Self> {
        use crate::randomness::{Key, Purpose};
        let network = Self::from_graph(graph, seed)?;
        let Self { graph, params, .. } = &network;
        for (i, e) in graph.entries().iter().enumerate().filter(|(_, e)| e.shape.len() == 1) {
            let mut draws = Key::new(seed, Purpose::named("test").within(&e.name)).stream(0);
            let center = if e.name.ends_with("mean") || e.name.ends_with("bias") { 0.0 } else { 1.0 };
            let values: Vec<f32> = (0..e.shape[0]).map(|_| center + 0.5 * draws.symmetric()).collect();
            params.var(i).set(&Tensor::new(values, &Device::Cpu)?)?;
        }
        Ok(network)
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
        Self::of_checkpoint(&checkpoint::parse(bytes, origin)?, origin)
    }

    /// The network of a checkpoint of ours; `origin` names its file in errors.
    ///
    /// # Errors
    /// When its architecture is unknown, or its tensors do not fit.
    pub fn of_checkpoint(
        checkpoint: &checkpoint::Checkpoint,
        origin: &Path,
    ) -> Result<(Self, checkpoint::Provenance)> {
        let damaged = |e: Error| Error::Checkpoint { path: origin.into(), message: e.to_string() };
        let network = Self::with_state_dict(&checkpoint.arch, &checkpoint.tensors).map_err(damaged)?;
        Ok((network, checkpoint.provenance.clone()))
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

    /// The type of its weights: f32, but for [`Network::in_double_precision`].
    pub fn dtype(&self) -> DType {
        self.params.var(0).dtype()
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
        Frozen::new(self, self.precision)
    }

    /// A snapshot in eval mode that multiplies in f32, whatever the network's views do: for evaluations.
    ///
    /// # Errors
    /// As [`Network::freeze`].
    pub fn freeze_exactly(&self) -> Result<Frozen> {
        Frozen::new(self, Precision::F32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::{Classifier, ClosureObjective};
    use crate::graph::GraphBuilder;

    /// Images to batch normalization to logits: each pixel of the reference batch as an image of its own,
    /// so that pooling has nothing to average, and an identity as the linear layer.
    fn lone_batch_norm(channels: usize) -> Network {
        let (mut g, x) = GraphBuilder::new(channels);
        let x = g.batch_norm(x, "bn");
        let graph = g.head(x, "linear", channels);
        let network = Network::of_graph(graph, 0).unwrap();
        let ones = Tensor::ones(channels, DType::F32, &Device::Cpu).unwrap();
        let zeros = ones.zeros_like().unwrap();
        let identity = Tensor::eye(channels, DType::F32, &Device::Cpu).unwrap();
        for (place, t) in [(2, &zeros), (3, &ones), (5, &identity), (6, &zeros)] {
            network.params.var(place).set(t).unwrap(); // the running statistics and the linear layer
        }
        network
    }

    fn pixels(t: &Tensor) -> Tensor {
        let rows = t.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap(); // [N, H, W, C]
        let (n, h, w, c) = rows.dims4().unwrap();
        rows.reshape((n * h * w, c, 1, 1)).unwrap()
    }

    fn assert_close(what: &str, ours: &Tensor, truth: &Tensor) {
        let values = |t: &Tensor| -> Vec<f64> {
            t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        let (ours, truth) = (values(ours), values(truth));
        assert_eq!(ours.len(), truth.len());
        let largest = truth.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let error = ours.iter().zip(&truth).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
        assert!(error < 1e-6 * largest, "{what}: off by {error:e} of {largest:e}");
    }

    #[test]
    fn batch_normalization_matches_pytorch_over_three_batches() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/batchnorm.safetensors");
        let goldens = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
        let network = lone_batch_norm(5);
        for (place, name) in [(0, "weight"), (1, "bias")] {
            network.params.var(place).set(&goldens[name]).unwrap();
        }
        for batch in 0..3 {
            let golden = |name: &str| &goldens[&format!("{name}{batch}")];
            let truth = |name: &str| &goldens[&format!("{name}{batch}64")];
            let (x, gy) = (pixels(golden("x")), pixels(golden("gy")).flatten_from(1).unwrap());

            let before = network.params.state_dict().unwrap().into_iter().collect();
            let attacked = lone_batch_norm(5);
            attacked.params.load_state_dict(&before).unwrap();
            let training = attacked.training();
            let weighted = ClosureObjective(|_: &[u32], y: &Tensor| Ok((y * &gy)?.sum(1)?));
            let dx = training.attack_view().gradient(&x, &weighted).unwrap().dx;
            assert_close("dx", &dx, &pixels(truth("gx")));

            let mut training = network.training();
            let pass = training.forward(&x).unwrap();
            assert_close("y", pass.logits(), &pixels(truth("train_y")));
            training.backward(pass, &gy).unwrap();
            let gradients = training.take_gradients().unwrap();
            assert_close("dweight", &gradients[0], truth("gw"));
            assert_close("dbias", &gradients[1], truth("gb"));
            for (place, name) in [(2, "running_mean"), (3, "running_var")] {
                let running = network.params.var(place).as_tensor();
                assert_close(name, running, truth(name));
            }
            let eval_y = network.freeze().unwrap().logits(&x).unwrap();
            assert_close("eval y", &eval_y, &pixels(truth("eval_y")));
        }
    }
}
