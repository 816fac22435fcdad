//! The pre-activation ResNet-18 of DeepMind's robust models: Swish, four-sided SAME padding, 3x3
//! shortcuts, own normalization.
//!
//! Source: He et al., "Identity Mappings in Deep Residual Networks" (ECCV 2016), in the form of Rebuffi et
//! al., "Fixing Data Augmentation to Improve Adversarial Robustness" (2021) and RobustBench
//! (`DMPreActResNet`), whose state-dict names it carries. The shortcut reads the raw input, not the
//! activated one as in the wide ResNets.

use super::Arch;
use super::options::{Blocks, Norm, read, within};
use super::shapes::{Shapes, options};
use super::wide_resnet_swish::same_conv;
use crate::graph::{Graph, GraphBuilder, NodeId};
use serde::Deserialize;

pub(crate) const DM_PREACT_RESNET18: Arch = Arch {
    name: "dm_preact_resnet18",
    about: "pre-activation ResNet with Swish (Rebuffi et al. 2021); the small robust models of RobustBench",
    published: "classes = 10\nin_channels = 3\nnorm = \"cifar10\"\nwidth = 64\nblocks = \"2,2,2,2\"",
    graph: dm_preact_resnet18,
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
}

fn dm_preact_resnet18(options: &toml::Table) -> Result<Graph, String> {
    let o: Options = read(options)?;
    let classes = within("classes", o.classes, 2, 100_000)?;
    let width = within("width", o.width, 1, 4096)?;
    let (mut g, x) = GraphBuilder::new(within("in_channels", o.in_channels, 1, 1024)?);
    let x = o.norm.apply(&mut g, x)?;
    let mut x = g.conv(x, "conv_2d", width, 3, 1);
    for (stage, block, stride) in o.blocks.strides() {
        x = pre_activation_block(&mut g, x, &format!("layer_{stage}.{block}"), width << stage, stride);
    }
    let x = g.batch_norm(x, "batchnorm");
    let x = g.silu(x);
    Ok(g.head(x, "logits", classes))
}

fn options_in(shapes: &Shapes<'_>) -> Option<toml::Table> {
    let mut found = options([
        ("classes", shapes.side("logits.weight", 0)?),
        ("in_channels", shapes.side("conv_2d.weight", 1)?),
        ("width", shapes.side("conv_2d.weight", 0)?),
    ])?;
    found.insert("blocks".into(), shapes.blocks(|stage| format!("layer_{stage}.")).into());
    Some(found)
}

fn pre_activation_block(g: &mut GraphBuilder, x: NodeId, name: &str, out: usize, stride: usize) -> NodeId {
    let h = g.batch_norm(x, &format!("{name}.batchnorm_0"));
    let h = g.silu(h);
    let h = g.conv_with(h, &format!("{name}.conv_2d_1"), same_conv(out, stride));
    let h = g.batch_norm(h, &format!("{name}.batchnorm_1"));
    let h = g.silu(h);
    let h = g.conv(h, &format!("{name}.conv_2d_2"), out, 3, 1);
    let shortcut = if stride == 1 && g.channels(x) == out {
        x
    } else {
        g.conv_with(x, &format!("{name}.shortcut"), same_conv(out, stride))
    };
    g.add(h, shortcut)
}
