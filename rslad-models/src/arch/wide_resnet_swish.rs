//! The wide ResNets of DeepMind's robust models: Swish, four-sided SAME padding, own normalization.
//!
//! Source: Gowal et al., "Uncovering the Limits of Adversarial Training against Norm-Bounded Adversarial
//! Examples" (2020), `model_zoo.py` of the released code; the official RSLAD code carries a copy
//! (`cifar100_models/wideresnet.py`). State-dict names are theirs. The released CIFAR-100 teacher runs
//! there under the CIFAR-10 statistics: `norm` says which are meant.

use super::options::{Norm, blocks_per_group, read, within};
use super::shapes::{Shapes, options};
use super::{Arch, Preset};
use crate::graph::{Graph, GraphBuilder, NodeId, Op, Pad};
use serde::Deserialize;

pub(crate) const DM_WRN: Arch = Arch {
    name: "dm_wrn",
    about: "wide ResNet with Swish and its own normalization (Gowal et al. 2020); the paper's CIFAR-100 teacher",
    published: "classes = 10\nin_channels = 3\nnorm = \"cifar10\"\ndepth = 70\nwidth = 16",
    graph: dm_wrn,
    options: options_in,
};

pub(crate) const WRN70_16: Preset =
    Preset { name: "wrn70-16", arch: "dm_wrn", options: "depth = 70\nwidth = 16" };
pub(crate) const WRN94_16: Preset =
    Preset { name: "wrn94-16", arch: "dm_wrn", options: "depth = 94\nwidth = 16" };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    classes: usize,
    in_channels: usize,
    norm: Norm,
    depth: usize,
    width: usize,
}

fn dm_wrn(options: &toml::Table) -> Result<Graph, String> {
    let o: Options = read(options)?;
    let classes = within("classes", o.classes, 2, 100_000)?;
    let blocks = blocks_per_group(o.depth)?;
    let width = within("width", o.width, 1, 256)?;
    let (mut g, x) = GraphBuilder::new(within("in_channels", o.in_channels, 1, 1024)?);
    let x = o.norm.apply(&mut g, x)?;
    let mut x = g.conv(x, "init_conv", 16, 3, 1);
    for (group, stride) in [(0, 1), (1, 2), (2, 2)] {
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            x = swish_block(
                &mut g,
                x,
                &format!("layer.{group}.block.{block}"),
                (16 << group) * width,
                stride,
            );
        }
    }
    let x = g.batch_norm(x, "batchnorm");
    let x = g.silu(x);
    Ok(g.head(x, "logits", classes))
}

fn options_in(shapes: &Shapes<'_>) -> Option<toml::Table> {
    options([
        ("classes", shapes.side("logits.weight", 0)?),
        ("in_channels", shapes.side("init_conv.weight", 1)?),
        ("depth", 6 * shapes.count("layer.0.block.") + 4),
        ("width", shapes.side("layer.0.block.0.conv_0.weight", 0)? / 16),
    ])
}

/// Where the channels change, the shortcut reads the activated input; elsewhere it is the raw one.
fn swish_block(g: &mut GraphBuilder, x: NodeId, name: &str, out: usize, stride: usize) -> NodeId {
    let activated = g.batch_norm(x, &format!("{name}.batchnorm_0"));
    let activated = g.silu(activated);
    let h = g.conv_with(activated, &format!("{name}.conv_0"), same_conv(out, stride));
    let h = g.batch_norm(h, &format!("{name}.batchnorm_1"));
    let h = g.silu(h);
    let h = g.conv(h, &format!("{name}.conv_1"), out, 3, 1);
    let shortcut =
        if g.channels(x) == out { x } else { g.conv(activated, &format!("{name}.shortcut"), out, 1, stride) };
    g.add(h, shortcut)
}

/// A 3x3 convolution padded as TensorFlow pads `SAME` on even sides: with stride 2 on the right and the
/// bottom only.
pub(super) fn same_conv(out: usize, stride: usize) -> Op {
    let pad = if stride == 1 { Pad::all(1) } else { Pad { left: 0, right: 1, top: 0, bottom: 1 } };
    Op::Conv2d { out, kernel: 3, stride, pad, groups: 1 }
}
