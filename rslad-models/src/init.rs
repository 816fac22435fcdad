//! Initial weights: PyTorch's default distributions from our own seeded streams.
//!
//! Convolutions and linear layers draw from U(-1/sqrt(fan_in), 1/sqrt(fan_in)) (kaiming_uniform with
//! a = sqrt(5)), the linear bias from the same bounds; batch normalisations start as the identity. Each
//! tensor has a stream of its own, so adding a layer does not change the others.

use crate::error::Result;
use crate::graph::{Entry, Graph, Kind, Op};
use crate::params::ParamStore;
use crate::randomness::{Key, Purpose};
use candle_core::{Device, Tensor};

/// Fills a store with initial weights.
pub(crate) fn initialize(graph: &Graph, store: &ParamStore, seed: u64) -> Result<()> {
    for (i, node) in graph.nodes().iter().enumerate() {
        let first = graph.first_entry(i);
        match node.op {
            Op::Conv2d { .. } => fill_uniform(graph, store, first, first, seed)?,
            Op::Linear { .. } => {
                fill_uniform(graph, store, first, first, seed)?;
                fill_uniform(graph, store, first + 1, first, seed)?;
            }
            Op::BatchNorm { .. } => {
                for one in [first, first + 3] {
                    store.var(one).set(&store.var(one).ones_like()?)?; // weight, running_var
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Fills entry `i` from the bounds that the fan-in of the weight `weight` gives.
fn fill_uniform(graph: &Graph, store: &ParamStore, i: usize, weight: usize, seed: u64) -> Result<()> {
    let fan_in: usize = graph.entries()[weight].shape[1..].iter().product();
    let bound = 1.0 / (fan_in as f64).sqrt();
    let Entry { name, shape, kind } = &graph.entries()[i];
    debug_assert_eq!(*kind, Kind::Parameter);
    let mut draws = Key::new(seed, Purpose::named("init").within(name)).stream(0);
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|_| (f64::from(draws.symmetric()) * bound) as f32).collect();
    store
        .var(i)
        .set(&Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?.to_device(store.var(i).device())?)?;
    Ok(())
}
