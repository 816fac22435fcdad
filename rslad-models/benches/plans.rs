//! Logits, input gradients and training passes of the networks that matter, on the chosen executor.
//!
//! `cargo bench -p rslad-models --bench plans`; `RSLAD_EXEC` and `RSLAD_THREADS` choose what runs.

mod common;

use common::{images, passes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rslad_models::{ArchSpec, Network};

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
        passes(c, label, &network, &x, Throughput::Elements(batch as u64));
    }
}

criterion_group!(benches, plans);
criterion_main!(benches);
