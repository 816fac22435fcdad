//! The CIFAR ResNets: a 3x3 stem without pooling, stages of residual blocks that double the width.
//!
//! Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), in the CIFAR form of
//! the official RSLAD code (`cifar10_models/resnet.py`), whose state-dict names it carries.

use super::Arch;
use super::options::{Blocks, Norm, read, within};
use crate::graph::{Graph, GraphBuilder, NodeId};
use serde::Deserialize;

pub(crate) const RESNET18: Arch = Arch {
    name: "resnet18",
    about: "CIFAR ResNet of basic blocks (He et al. 2016); the paper's larger student",
    published: "classes = 10\nin_channels = 3\nnorm = \"none\"\nwidth = 64\nblocks = \"2,2,2,2\"",
    graph: resnet18,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    classes: usize,
    in_channels: usize,
    norm: Norm,
    width: usize,
    blocks: Blocks,
}

fn resnet18(options: &toml::Table) -> Result<Graph, String> {
    let o: Options = read(options)?;
    let classes = within("classes", o.classes, 2, 100_000)?;
    let width = within("width", o.width, 1, 4096)?;
    let (mut g, x) = GraphBuilder::new(within("in_channels", o.in_channels, 1, 1024)?);
    let x = o.norm.apply(&mut g, x)?;
    let x = g.conv(x, "conv1", width, 3, 1);
    let x = g.batch_norm(x, "bn1");
    let mut x = g.relu(x);
    for (stage, &blocks) in o.blocks.0.iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = basic_block(&mut g, x, &format!("layer{}.{block}", stage + 1), width << stage, stride);
        }
    }
    Ok(g.head(x, "linear", classes))
}

fn basic_block(g: &mut GraphBuilder, x: NodeId, name: &str, out: usize, stride: usize) -> NodeId {
    let h = g.conv(x, &format!("{name}.conv1"), out, 3, stride);
    let h = g.batch_norm(h, &format!("{name}.bn1"));
    let h = g.relu(h);
    let h = g.conv(h, &format!("{name}.conv2"), out, 3, 1);
    let h = g.batch_norm(h, &format!("{name}.bn2"));
    let shortcut = if stride == 1 && g.channels(x) == out {
        x
    } else {
        let s = g.conv(x, &format!("{name}.shortcut.0"), out, 1, stride);
        g.batch_norm(s, &format!("{name}.shortcut.1"))
    };
    let sum = g.add(h, shortcut);
    g.relu(sum)
}
