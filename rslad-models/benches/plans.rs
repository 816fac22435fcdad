//! Logits, input gradients and training passes of the networks that matter, on the chosen executor.
//!
//! `cargo bench -p rslad-models`; `RSLAD_EXEC` and `RSLAD_THREADS` choose what runs.

use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rslad_models::{ArchSpec, Classifier, ClosureObjective, Network};
use std::time::Duration;

/// (label, architecture, options, batch, side)
const NETWORKS: &[(&str, &str, &str, usize, usize)] = &[
    ("quickstart", "resnet18", "width = 8\nblocks = '1,1,1'\nin_channels = 1", 128, 8),
    ("resnet18-w16", "resnet18", "width = 16", 32, 32),
    ("mobilenet_v2", "mobilenet_v2", "", 32, 32),
    ("resnet18", "resnet18", "", 32, 32),
];

fn plans(c: &mut Criterion) {
    for &(label, arch, options, batch, side) in NETWORKS {
        let options = options.parse().expect("options are TOML");
        let spec = ArchSpec::published(arch, &options).expect("a registered architecture");
        let network = Network::new(&spec, 0).expect("options are inside their domains");
        let x = images(batch, network.graph().in_channels(), side);
        let mut group = c.benchmark_group(label);
        group.sample_size(10).measurement_time(Duration::from_secs(5));
        group.throughput(Throughput::Elements(batch as u64));

        let frozen = network.freeze().expect("weights can be copied");
        group.bench_function(BenchmarkId::from_parameter("logits"), |b| b.iter(|| frozen.logits(&x)));
        let objective = ClosureObjective(|_: &[u32], logits: &Tensor| Ok(logits.sqr()?.sum(1)?));
        let gradient = || frozen.gradient(&x, &objective);
        group.bench_function(BenchmarkId::from_parameter("gradient"), |b| b.iter(gradient));
        let mut training = network.training();
        let mut train = || -> rslad_models::Result<Vec<Tensor>> {
            let pass = training.forward(&x)?;
            let dlogits = pass.logits().clone();
            training.backward(pass, &dlogits)?;
            training.take_gradients()
        };
        group.bench_function(BenchmarkId::from_parameter("train"), |b| b.iter(&mut train));
    }
}

/// A fine pattern; for timing it is as good as photographs.
fn images(batch: usize, channels: usize, side: usize) -> Tensor {
    let n = batch * channels * side * side;
    let values: Vec<f32> = (0..n).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect();
    Tensor::from_vec(values, (batch, channels, side, side), &Device::Cpu).expect("as many values as pixels")
}

criterion_group!(benches, plans);
criterion_main!(benches);
