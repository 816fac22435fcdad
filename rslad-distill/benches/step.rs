//! Steps of RSLAD, without the teacher's part: its ten iterations, two training passes and the update.
//!
//! `cargo bench -p rslad-distill`; `RSLAD_EXEC` and `RSLAD_THREADS` choose what runs.

use candle_core::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rslad_attacks::Draws;
use rslad_distill::inner::InnerConfig;
use rslad_distill::method::{Method, Progress};
use rslad_distill::methods;
use rslad_distill::optim::Sgd;
use rslad_distill::step::{Players, StepConfig, StepInput, step};
use rslad_models::{ArchSpec, Network};
use std::time::Duration;

/// The released code's, at CIFAR-10's radius.
const INNER: &str = "eps = '8/255'\nstep_size = '2/255'\nsteps = 10\nstart = 'gaussian'\nstart_std = 0.001\n\
                     clip_start = 'keep'\norder = 'project_clamp'\nview = 'frozen'";
const METHOD: &str = "name = 'rslad'\nalpha = 0.8333333333333334\nkl_scale = 1.0";
const STUDENTS: &[(&str, &str, &str)] = &[
    ("resnet18-w16", "resnet18", "width = 16"),
    ("mobilenet_v2", "mobilenet_v2", ""),
    ("resnet18", "resnet18", ""),
];
const BATCH: usize = 32;

fn network(arch: &str, options: &str) -> Network {
    let spec = ArchSpec::published(arch, &options.parse().expect("options are TOML"));
    Network::new(&spec.expect("a registered architecture"), 0).expect("options are inside their domains")
}

fn steps(c: &mut Criterion) {
    let inner: InnerConfig = toml::from_str(INNER).expect("keys of an inner attack");
    let method = methods::build(&METHOD.parse().expect("TOML")).expect("keys of RSLAD");
    let teacher = network("tiny_cnn", "in_channels = 3\nwidth = 4").freeze().expect("weights can be copied");
    let pixels: Vec<f32> = (0..BATCH * 3 * 32 * 32).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect();
    let x = Tensor::from_vec(pixels, (BATCH, 3, 32, 32), &Device::Cpu).expect("as many values as pixels");
    let y = Tensor::zeros(BATCH, candle_core::DType::U32, &Device::Cpu).expect("a tensor of labels");
    let ids: Vec<u64> = (0..BATCH as u64).collect();
    let mut group = c.benchmark_group("step");
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(BATCH as u64));
    for &(label, arch, options) in STUDENTS {
        let student = network(arch, options);
        let mut players = Players::new(&student, Some(&teacher), None).expect("students and teachers agree");
        let mut sgd = Sgd::new(0.9, 2e-4);
        let config = StepConfig { inner: Some(&inner), ..StepConfig::default() };
        let progress = Progress { epoch: 1, epochs: 1 };
        let draws = Draws::Keyed { seed: 0, epoch: 1 };
        let input = StepInput { x: &x, y: &y, ids: &ids, soft_labels: None, draws, progress };
        let mut descend = |method: &dyn Method| {
            let out = step(method, &config, &mut players, &input).expect("a step");
            sgd.step(student.parameters(), &out.gradients, 0.01).expect("an update");
        };
        group.bench_function(label, |b| b.iter(|| descend(method.as_ref())));
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
