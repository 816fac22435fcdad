//! Each kernel by itself: networks of one kind of layer, in multiply-adds a second (shown as elements).
//!
//! `cargo bench -p rslad-models --bench layers`; `RSLAD_EXEC` and `RSLAD_THREADS` choose what runs. A gradient does the
//! multiply-adds of a forward twice and a training pass three times; what is shown divides those of the forward by the time.

mod common;

use common::{images, passes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rslad_models::Network;
use rslad_models::graph::{Graph, GraphBuilder, NodeId, Op, Pad};

const BATCH: usize = 32;

/// A layer where it stands in a network of the paper: a label, what it is, channels in and out, the side of its images.
struct Layer(&'static str, Kind, usize, usize, usize);

enum Kind {
    /// Kernel and stride.
    Convolution(usize, usize),
    Depthwise,
    /// Batch normalization and a rectifier, behind a depthwise convolution: nothing normalizes an image.
    Normalization,
}

const LAYERS: &[Layer] = &[
    Layer("first layer, 3 to 64, 32x32", Kind::Convolution(3, 1), 3, 64, 32),
    Layer("3x3, 8, 32x32", Kind::Convolution(3, 1), 8, 8, 32),
    Layer("3x3, 16, 32x32", Kind::Convolution(3, 1), 16, 16, 32),
    Layer("3x3, 32, 16x16", Kind::Convolution(3, 1), 32, 32, 16),
    Layer("3x3, 64, 32x32", Kind::Convolution(3, 1), 64, 64, 32),
    Layer("3x3, 128, 16x16", Kind::Convolution(3, 1), 128, 128, 16),
    Layer("3x3, 256, 8x8", Kind::Convolution(3, 1), 256, 256, 8),
    Layer("3x3, 512, 4x4", Kind::Convolution(3, 1), 512, 512, 4),
    Layer("3x3 by 2, 64 to 128, 32x32", Kind::Convolution(3, 2), 64, 128, 32),
    Layer("3x3 by 2, 16 to 32, 32x32", Kind::Convolution(3, 2), 16, 32, 32),
    Layer("1x1 by 2, 64 to 128, 32x32", Kind::Convolution(1, 2), 64, 128, 32),
    Layer("1x1, 24 to 144, 32x32", Kind::Convolution(1, 1), 24, 144, 32),
    Layer("1x1, 144 to 24, 32x32", Kind::Convolution(1, 1), 144, 24, 32),
    Layer("1x1, 384 to 64, 8x8", Kind::Convolution(1, 1), 384, 64, 8),
    Layer("depthwise, 144, 32x32", Kind::Depthwise, 144, 144, 32),
    Layer("depthwise, 384, 8x8", Kind::Depthwise, 384, 384, 8),
    Layer("normalization, 64, 32x32", Kind::Normalization, 64, 64, 32),
];

/// A network of layers that keep their shape, one after the other, so that images enter and leave seldom.
const REPEATED: usize = 4;

impl Layer {
    fn graph(&self) -> Graph {
        let &Self(_, _, inputs, outputs, _) = self;
        let (mut graph, mut x) = GraphBuilder::new(inputs);
        let repeated = if inputs == outputs { REPEATED } else { 1 };
        for i in 0..repeated {
            x = self.add_to(&mut graph, x, i);
        }
        graph.head(x, "head", 10)
    }

    fn add_to(&self, graph: &mut GraphBuilder, x: NodeId, i: usize) -> NodeId {
        let &Self(_, ref kind, channels, out, _) = self;
        let name = format!("layer{i}");
        let depthwise = Op::Conv2d { out, kernel: 3, stride: 1, pad: Pad::all(1), groups: channels };
        match *kind {
            Kind::Convolution(kernel, stride) => graph.conv(x, &name, out, kernel, stride),
            Kind::Depthwise => graph.conv_with(x, &name, depthwise),
            Kind::Normalization => {
                let x = graph.conv_with(x, &name, depthwise);
                let x = graph.batch_norm(x, &format!("norm{i}"));
                graph.relu(x)
            }
        }
    }
}

fn layers(c: &mut Criterion) {
    for layer in LAYERS {
        let &Layer(label, _, channels, _, side) = layer;
        let network = Network::from_graph(layer.graph(), 0).expect("a graph has weights");
        let macs = network.graph().macs(side, side).expect("the images fit");
        let x = images(BATCH, channels, side);
        passes(c, label, &network, &x, Throughput::Elements(BATCH as u64 * macs));
    }
}

criterion_group!(benches, layers);
criterion_main!(benches);
