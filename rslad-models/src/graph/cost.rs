//! What a network costs, layer by layer: read off its graph, so a summary cannot disagree with what runs.

use super::{Graph, Kind, Op};
use crate::error::Result;

/// A node of a graph as a row of a summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The prefix of its entries in a state dict; empty when it has none.
    pub name: String,
    /// What it computes, in a word: see [`Op::kind`].
    pub kind: &'static str,
    /// The shape of its output for one image, `[C, H, W]` (`[F, 1, 1]` after pooling).
    pub shape: [usize; 3],
    /// Trained scalars.
    pub parameters: usize,
    /// Scalars of its running statistics, the counter not counted.
    pub buffers: usize,
    /// Multiply-accumulates for one image; 0 for all but convolutions and linear layers.
    pub macs: u64,
}

impl Layer {
    /// Floats of its output for one image.
    pub fn activations(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }
}

impl Op {
    /// The op in a word, for summaries.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::Normalize { .. } => "normalize",
            Op::Conv2d { groups: 1, .. } => "conv",
            Op::Conv2d { out, groups, .. } if out == groups => "depthwise",
            Op::Conv2d { .. } => "grouped conv",
            Op::BatchNorm { .. } => "batch norm",
            Op::Relu => "relu",
            Op::Silu => "silu",
            Op::Add => "add",
            Op::GlobalAvgPool => "average",
            Op::Linear { .. } => "linear",
        }
    }
}

impl Graph {
    /// Every node with its cost for images of this size, in the order they run.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn layers(&self, height: usize, width: usize) -> Result<Vec<Layer>> {
        let shapes = self.shapes(height, width)?;
        let layer = |(i, shape): (usize, [usize; 3])| Layer {
            name: self.nodes[i].name.clone(),
            kind: self.nodes[i].op.kind(),
            shape,
            parameters: self.scalars(i, Kind::Parameter),
            buffers: self.scalars(i, Kind::Buffer),
            macs: self.macs_of(i, shape),
        };
        Ok(shapes.into_iter().enumerate().map(layer).collect())
    }

    /// Multiply-accumulates of one forward pass of one image, convolutions and linear layers only.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn macs(&self, height: usize, width: usize) -> Result<u64> {
        Ok(self.layers(height, width)?.iter().map(|l| l.macs).sum())
    }

    /// Floats of all outputs of one image, the image itself not counted: what a forward takes when a
    /// backward is to follow and nothing is recomputed.
    ///
    /// # Errors
    /// As [`Graph::shapes`].
    pub fn activations(&self, height: usize, width: usize) -> Result<u64> {
        Ok(self.layers(height, width)?.iter().skip(1).map(Layer::activations).sum())
    }

    /// The number of trained scalars.
    pub fn n_parameters(&self) -> usize {
        (0..self.nodes.len()).map(|i| self.scalars(i, Kind::Parameter)).sum()
    }

    /// Scalars of one kind in the entries of node `i`.
    fn scalars(&self, i: usize, kind: Kind) -> usize {
        let end = self.first_entry.get(i + 1).copied().unwrap_or(self.entries.len());
        let own = self.entries[self.first_entry[i]..end].iter().filter(|e| e.kind == kind);
        own.map(|e| e.shape.iter().product::<usize>()).sum()
    }

    fn macs_of(&self, i: usize, [out, h, w]: [usize; 3]) -> u64 {
        let fan_in = |i: usize| self.nodes[self.nodes[i].inputs[0].0].channels as u64;
        match self.nodes[i].op {
            Op::Conv2d { kernel, groups, .. } => {
                (out * h * w * kernel * kernel) as u64 * fan_in(i) / groups as u64
            }
            Op::Linear { .. } => out as u64 * fan_in(i),
            _ => 0,
        }
    }
}
