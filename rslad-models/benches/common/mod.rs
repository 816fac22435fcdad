//! What all benches of plans measure.

use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput};
use rslad_models::{Classifier, ClosureObjective, Network};
use std::time::Duration;

/// The three ways to run a network: logits, the gradient by the images, and a training pass.
pub(crate) fn passes(c: &mut Criterion, label: &str, network: &Network, x: &Tensor, amount: Throughput) {
    let mut group = c.benchmark_group(label);
    group.sample_size(10).measurement_time(Duration::from_secs(2)).throughput(amount);
    let frozen = network.freeze().expect("weights can be copied");
    group.bench_function(BenchmarkId::from_parameter("logits"), |b| b.iter(|| frozen.logits(x)));
    let objective = ClosureObjective(|_: &[u32], logits: &Tensor| Ok(logits.sqr()?.sum(1)?));
    let gradient = || frozen.gradient(x, &objective);
    group.bench_function(BenchmarkId::from_parameter("gradient"), |b| b.iter(gradient));
    let mut training = network.training();
    let mut train = || -> rslad_models::Result<Vec<Tensor>> {
        let pass = training.forward(x)?;
        let dlogits = pass.logits().clone();
        training.backward(pass, &dlogits)?;
        training.take_gradients()
    };
    group.bench_function(BenchmarkId::from_parameter("train"), |b| b.iter(&mut train));
}

/// A fine pattern; for timing it is as good as photographs.
pub(crate) fn images(batch: usize, channels: usize, side: usize) -> Tensor {
    let n = batch * channels * side * side;
    let values: Vec<f32> = (0..n).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect();
    Tensor::from_vec(values, (batch, channels, side, side), &Device::Cpu).expect("as many values as pixels")
}
