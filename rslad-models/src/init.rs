//! Initial weights: the published distributions from our own seeded streams.
//!
//! Each tensor has a stream of its own, so adding a layer does not change the others. Batch
//! normalizations start as the identity; what the rest starts from is the graph's [`Init`].

use crate::error::Result;
use crate::graph::{Graph, Init, Op};
use crate::params::ParamStore;
use crate::randomness::{Key, Purpose, Stream};
use candle_core::{Device, Tensor};

/// Fills a store of zeros with initial weights.
pub(crate) fn initialize(graph: &Graph, store: &ParamStore, seed: u64) -> Result<()> {
    for (i, node) in graph.nodes().iter().enumerate() {
        let first = graph.first_entry(i);
        match (&node.op, graph.init()) {
            (Op::Conv2d { .. }, Init::PyTorch) => uniform(store, first, fan_in(graph, first), seed)?,
            (Op::Conv2d { out, kernel, .. }, Init::HeNormal) => {
                let deviation = (2.0 / (kernel * kernel * out) as f64).sqrt();
                fill(store, first, seed, |draws| f64::from(draws.normal()) * deviation)?;
            }
            (Op::Linear { .. }, init) => {
                uniform(store, first, fan_in(graph, first), seed)?;
                if init == Init::PyTorch {
                    uniform(store, first + 1, fan_in(graph, first), seed)?;
                }
            }
            (Op::BatchNorm { .. }, _) => {
                for one in [first, first + 3] {
                    store.var(one).set(&store.var(one).ones_like()?)?; // weight, running_var
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What each output of the weight at a place of the entries sums over.
fn fan_in(graph: &Graph, weight: usize) -> usize {
    graph.entries()[weight].shape[1..].iter().product()
}

/// U(-1/sqrt(fan_in), 1/sqrt(fan_in)): kaiming_uniform with a = sqrt(5).
fn uniform(store: &ParamStore, i: usize, fan_in: usize, seed: u64) -> Result<()> {
    let bound = 1.0 / (fan_in as f64).sqrt();
    fill(store, i, seed, |draws| f64::from(draws.symmetric()) * bound)
}

/// Fills entry `i` from the stream of its name.
fn fill(store: &ParamStore, i: usize, seed: u64, draw: impl Fn(&mut Stream) -> f64) -> Result<()> {
    let (entry, var) = (&store.entries()[i], store.var(i));
    let mut draws = Key::new(seed, Purpose::named("init").within(&entry.name)).stream(0);
    let values: Vec<f32> = (0..var.elem_count()).map(|_| draw(&mut draws) as f32).collect();
    Ok(var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?.to_device(var.device())?)?)
}
