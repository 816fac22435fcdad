//! MobileNetV2 for small images: a stem and first stage without stride, blocks of pointwise, depthwise
//! and pointwise convolution.
//!
//! Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (CVPR 2018), in the
//! CIFAR form of the official RSLAD code (`cifar10_models/mobilenet_v2.py`), whose state-dict names it
//! carries. It differs from the paper's network: ReLU and not ReLU6, a residual around every block of
//! stride 1 (with a projection where the channels change), strides 1 in the stem and the second stage.

use super::Arch;
use super::options::{Norm, read, within};
use super::shapes::{Shapes, options};
use crate::graph::{Graph, GraphBuilder, NodeId, Op, Pad};
use serde::Deserialize;

pub(crate) const MOBILENET_V2: Arch = Arch {
    name: "mobilenet_v2",
    about: "MobileNetV2 in its CIFAR form (Sandler et al. 2018); the paper's smaller student",
    published: "classes = 10\nin_channels = 3\nnorm = \"none\"\ndivisor = 1",
    graph: mobilenet_v2,
    options: options_in,
};

/// (expansion, output channels, blocks, stride of the first) of each stage.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    classes: usize,
    in_channels: usize,
    norm: Norm,
    divisor: usize,
}

fn mobilenet_v2(options: &toml::Table) -> Result<Graph, String> {
    let o: Options = read(options)?;
    let classes = within("classes", o.classes, 2, 100_000)?;
    let divisor = o.divisor;
    if ![1, 2, 4, 8].contains(&divisor) {
        return Err(format!("`divisor` is {divisor}, expected 1, 2, 4 or 8: it divides every channel count"));
    }
    let (mut g, x) = GraphBuilder::new(within("in_channels", o.in_channels, 1, 1024)?);
    let x = o.norm.apply(&mut g, x)?;
    let x = g.conv(x, "conv1", 32 / divisor, 3, 1);
    let x = g.batch_norm(x, "bn1");
    let mut x = g.relu(x);
    let strides = STAGES.iter().flat_map(|&(expansion, out, blocks, stride)| {
        (0..blocks).map(move |block| (expansion, out, if block == 0 { stride } else { 1 }))
    });
    for (i, (expansion, out, stride)) in strides.enumerate() {
        x = block(&mut g, x, &format!("layers.{i}"), expansion, out / divisor, stride);
    }
    let x = g.conv(x, "conv2", 1280 / divisor, 1, 1);
    let x = g.batch_norm(x, "bn2");
    let x = g.relu(x);
    Ok(g.head(x, "linear", classes))
}

fn options_in(shapes: &Shapes<'_>) -> Option<toml::Table> {
    options([
        ("classes", shapes.side("linear.weight", 0)?),
        ("in_channels", shapes.side("conv1.weight", 1)?),
        ("divisor", 32usize.checked_div(shapes.side("conv1.weight", 0)?)?),
    ])
}

fn block(g: &mut GraphBuilder, x: NodeId, name: &str, expansion: usize, out: usize, stride: usize) -> NodeId {
    let wide = g.channels(x) * expansion;
    let h = g.conv(x, &format!("{name}.conv1"), wide, 1, 1);
    let h = g.batch_norm(h, &format!("{name}.bn1"));
    let h = g.relu(h);
    let depthwise = Op::Conv2d { out: wide, kernel: 3, stride, pad: Pad::all(1), groups: wide };
    let h = g.conv_with(h, &format!("{name}.conv2"), depthwise);
    let h = g.batch_norm(h, &format!("{name}.bn2"));
    let h = g.relu(h);
    let h = g.conv(h, &format!("{name}.conv3"), out, 1, 1);
    let h = g.batch_norm(h, &format!("{name}.bn3")); // a linear bottleneck: no activation after it
    if stride > 1 {
        return h;
    }
    let shortcut = if g.channels(x) == out {
        x
    } else {
        let s = g.conv(x, &format!("{name}.shortcut.0"), out, 1, 1);
        g.batch_norm(s, &format!("{name}.shortcut.1"))
    };
    g.add(h, shortcut)
}
