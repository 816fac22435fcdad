//! Wide ResNets: pre-activation residual blocks in three groups, `width` times as wide as the first ones.
//!
//! Source: Zagoruyko and Komodakis, "Wide Residual Networks" (BMVC 2016), in the form of the TRADES code
//! (`models/wideresnet.py`), whose state-dict names and He-normal initialization it carries. The TRADES
//! class also builds a `sub_block1` that its forward never uses; it is no part of the network here.

use super::options::{Norm, blocks_per_group, read, within};
use super::shapes::{Shapes, options};
use super::{Arch, Preset};
use crate::graph::{Graph, GraphBuilder, Init, NodeId};
use serde::Deserialize;

pub(crate) const WRN: Arch = Arch {
    name: "wrn",
    about: "wide ResNet with ReLU (Zagoruyko and Komodakis 2016), as in TRADES; the paper's CIFAR-10 teacher",
    published: "classes = 10\nin_channels = 3\nnorm = \"none\"\ndepth = 34\nwidth = 10",
    graph: wrn,
    options: options_in,
};

pub(crate) const WRN34_10: Preset =
    Preset { name: "wrn34-10", arch: "wrn", options: "depth = 34\nwidth = 10" };
pub(crate) const WRN28_10: Preset =
    Preset { name: "wrn28-10", arch: "wrn", options: "depth = 28\nwidth = 10" };
pub(crate) const WRN34_20: Preset =
    Preset { name: "wrn34-20", arch: "wrn", options: "depth = 34\nwidth = 20" };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    classes: usize,
    in_channels: usize,
    norm: Norm,
    depth: usize,
    width: usize,
}

fn wrn(options: &toml::Table) -> Result<Graph, String> {
    let o: Options = read(options)?;
    let classes = within("classes", o.classes, 2, 100_000)?;
    let blocks = blocks_per_group(o.depth)?;
    let width = within("width", o.width, 1, 256)?;
    let (mut g, x) = GraphBuilder::new(within("in_channels", o.in_channels, 1, 1024)?);
    g.initialize_by(Init::HeNormal);
    let x = o.norm.apply(&mut g, x)?;
    let mut x = g.conv(x, "conv1", 16, 3, 1);
    for (group, stride) in [(1, 1), (2, 2), (3, 2)] {
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            let name = format!("block{group}.layer.{block}");
            x = pre_activation_block(&mut g, x, &name, (16 << (group - 1)) * width, stride);
        }
    }
    let x = g.batch_norm(x, "bn1");
    let x = g.relu(x);
    Ok(g.head(x, "fc", classes))
}

fn options_in(shapes: &Shapes<'_>) -> Option<toml::Table> {
    options([
        ("classes", shapes.side("fc.weight", 0)?),
        ("in_channels", shapes.side("conv1.weight", 1)?),
        ("depth", 6 * shapes.count("block1.layer.") + 4),
        ("width", shapes.side("block1.layer.0.conv1.weight", 0)? / 16),
    ])
}

/// Where the channels change, the shortcut reads the activated input; elsewhere it is the raw one.
fn pre_activation_block(g: &mut GraphBuilder, x: NodeId, name: &str, out: usize, stride: usize) -> NodeId {
    let activated = g.batch_norm(x, &format!("{name}.bn1"));
    let activated = g.relu(activated);
    let h = g.conv(activated, &format!("{name}.conv1"), out, 3, stride);
    let h = g.batch_norm(h, &format!("{name}.bn2"));
    let h = g.relu(h);
    let h = g.conv(h, &format!("{name}.conv2"), out, 3, 1);
    let shortcut = if g.channels(x) == out {
        x
    } else {
        g.conv(activated, &format!("{name}.convShortcut"), out, 1, stride)
    };
    g.add(h, shortcut)
}
