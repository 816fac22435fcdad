//! The CIFAR ResNets: a 3x3 stem without pooling, stages of residual blocks that double the width.
//!
//! Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), in the CIFAR form of
//! the official RSLAD code (`cifar10_models/resnet.py`), whose state-dict names it carries.

use super::Arch;
use super::options::{Blocks, Norm, read, within};
use super::shapes::{Shapes, options};
use crate::graph::{Graph, GraphBuilder, NodeId};
use serde::Deserialize;

pub(crate) const RESNET18: Arch = Arch {
    name: "resnet18",
    about: "CIFAR ResNet of basic blocks (He et al. 2016); the paper's larger student",
    published: "classes = 10\nin_channels = 3\nnorm = \"none\"\nwidth = 64\nblocks = \"2,2,2,2\"",
    graph: |options| resnet(options, basic_block),
    options: options_in,
};

pub(crate) const RESNET34: Arch = Arch {
    name: "resnet34",
    about: "the deeper CIFAR ResNet of basic blocks (He et al. 2016)",
    published: "classes = 10\nin_channels = 3\nnorm = \"none\"\nwidth = 64\nblocks = \"3,4,6,3\"",
    graph: |options| resnet(options, basic_block),
    options: options_in,
};

pub(crate) const RESNET50: Arch = Arch {
    name: "resnet50",
    about: "CIFAR ResNet of bottleneck blocks (He et al. 2016); the paper's black-box surrogate",
    published: "classes = 10\nin_channels = 3\nnorm = \"none\"\nwidth = 64\nblocks = \"3,4,6,3\"",
    graph: |options| resnet(options, bottleneck),
    options: options_in,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    classes: usize,
    in_channels: usize,
    norm: Norm,
    width: usize,
    blocks: Blocks,
    /// 2 halves the image at once, a quarter of the work; no published network does, and files from before
    /// it was an option do not have it.
    #[serde(default = "unstrided")]
    stem_stride: usize,
}

fn unstrided() -> usize {
    1
}

fn options_in(shapes: &Shapes<'_>) -> Option<toml::Table> {
    let mut found = options([
        ("classes", shapes.side("linear.weight", 0)?),
        ("in_channels", shapes.side("conv1.weight", 1)?),
        ("width", shapes.side("conv1.weight", 0)?),
    ])?;
    found.insert("blocks".into(), shapes.blocks(|stage| format!("layer{}.", stage + 1)).into());
    Some(found)
}

/// Adds a block: its input, name, width and stride.
type Block = fn(&mut GraphBuilder, NodeId, &str, usize, usize) -> NodeId;

fn resnet(options: &toml::Table, block: Block) -> Result<Graph, String> {
    let o: Options = read(options)?;
    let classes = within("classes", o.classes, 2, 100_000)?;
    let width = within("width", o.width, 1, 4096)?;
    let (mut g, x) = GraphBuilder::new(within("in_channels", o.in_channels, 1, 1024)?);
    let x = o.norm.apply(&mut g, x)?;
    let x = g.conv(x, "conv1", width, 3, within("stem_stride", o.stem_stride, 1, 2)?);
    let x = g.batch_norm(x, "bn1");
    let mut x = g.relu(x);
    for (stage, i, stride) in o.blocks.strides() {
        x = block(&mut g, x, &format!("layer{}.{i}", stage + 1), width << stage, stride);
    }
    Ok(g.head(x, "linear", classes))
}

fn basic_block(g: &mut GraphBuilder, x: NodeId, name: &str, width: usize, stride: usize) -> NodeId {
    let h = g.conv(x, &format!("{name}.conv1"), width, 3, stride);
    let h = g.batch_norm(h, &format!("{name}.bn1"));
    let h = g.relu(h);
    let h = g.conv(h, &format!("{name}.conv2"), width, 3, 1);
    let h = g.batch_norm(h, &format!("{name}.bn2"));
    residual(g, x, h, name, stride)
}

/// 1x1 down, 3x3, 1x1 up to four times the width.
fn bottleneck(g: &mut GraphBuilder, x: NodeId, name: &str, width: usize, stride: usize) -> NodeId {
    let h = g.conv(x, &format!("{name}.conv1"), width, 1, 1);
    let h = g.batch_norm(h, &format!("{name}.bn1"));
    let h = g.relu(h);
    let h = g.conv(h, &format!("{name}.conv2"), width, 3, stride);
    let h = g.batch_norm(h, &format!("{name}.bn2"));
    let h = g.relu(h);
    let h = g.conv(h, &format!("{name}.conv3"), 4 * width, 1, 1);
    let h = g.batch_norm(h, &format!("{name}.bn3"));
    residual(g, x, h, name, stride)
}

/// `relu(h + x)`, with `x` projected where its shape differs.
fn residual(g: &mut GraphBuilder, x: NodeId, h: NodeId, name: &str, stride: usize) -> NodeId {
    let out = g.channels(h);
    let shortcut = if stride == 1 && g.channels(x) == out {
        x
    } else {
        let s = g.conv(x, &format!("{name}.shortcut.0"), out, 1, stride);
        g.batch_norm(s, &format!("{name}.shortcut.1"))
    };
    let sum = g.add(h, shortcut);
    g.relu(sum)
}
