//! A small plain network for tests and quick experiments: three stages of convolution, batch
//! normalization and ReLU with strides 1, 2, 2, then the head.

use super::Arch;
use super::options::{Norm, read, within};
use super::shapes::{Shapes, options};
use crate::graph::{Graph, GraphBuilder};
use serde::Deserialize;

pub(crate) const TINY_CNN: Arch = Arch {
    name: "tiny_cnn",
    about: "three conv-BN-ReLU stages of widths w, 2w, 4w; for tests and quick experiments",
    published: "classes = 10\nin_channels = 3\nnorm = \"none\"\nwidth = 16",
    graph: tiny_cnn,
    options: options_in,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    classes: usize,
    in_channels: usize,
    norm: Norm,
    width: usize,
}

fn tiny_cnn(options: &toml::Table) -> Result<Graph, String> {
    let o: Options = read(options)?;
    let classes = within("classes", o.classes, 2, 100_000)?;
    let width = within("width", o.width, 1, 4096)?;
    let (mut g, x) = GraphBuilder::new(within("in_channels", o.in_channels, 1, 1024)?);
    let mut x = o.norm.apply(&mut g, x)?;
    for (i, stride) in [(1, 1), (2, 2), (3, 2)] {
        let h = g.conv(x, &format!("conv{i}"), width << (i - 1), 3, stride);
        let h = g.batch_norm(h, &format!("bn{i}"));
        x = g.relu(h);
    }
    Ok(g.head(x, "linear", classes))
}

fn options_in(shapes: &Shapes<'_>) -> Option<toml::Table> {
    options([
        ("classes", shapes.side("linear.weight", 0)?),
        ("in_channels", shapes.side("conv1.weight", 1)?),
        ("width", shapes.side("conv1.weight", 0)?),
    ])
}
