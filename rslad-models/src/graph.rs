//! A network as a value: a list of named nodes over a small set of ops, in the order they run.
//!
//! An architecture says once, here, what the network is. Parameter names and shapes, initial weights,
//! costs and every executor are read off this value, so they cannot disagree. Nodes are added in the
//! order of the official code's state dict, which is also a topological order.

mod cost;

pub use cost::Layer;

use crate::error::{Error, Result};

/// A node of a [`Graph`], by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// Its place in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// Zero padding of an image, in pixels on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pad {
    /// Columns before the first.
    pub left: usize,
    /// Columns after the last.
    pub right: usize,
    /// Rows above the first.
    pub top: usize,
    /// Rows below the last.
    pub bottom: usize,
}

impl Pad {
    /// The same padding on all four sides.
    pub const fn all(n: usize) -> Self {
        Self { left: n, right: n, top: n, bottom: n }
    }

    /// The common value, when all four sides have the same.
    pub(crate) fn symmetric(self) -> Option<usize> {
        (self == Self::all(self.left)).then_some(self.left)
    }
}

/// What a node computes from its inputs.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The images, `[N, channels, H, W]` in `[0, 1]`.
    Input {
        /// Image channels.
        channels: usize,
    },
    /// `(x - mean) / std` per channel: the normalization that lives inside the model.
    Normalize {
        /// One mean per channel.
        mean: Vec<f32>,
        /// One standard deviation per channel.
        std: Vec<f32>,
    },
    /// A square convolution without bias. `groups` = channels makes it depthwise.
    Conv2d {
        /// Output channels.
        out: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Step between windows.
        stride: usize,
        /// Zero padding.
        pad: Pad,
        /// Channel groups.
        groups: usize,
    },
    /// Batch normalization with scale and shift.
    BatchNorm {
        /// Added to the variance.
        eps: f64,
        /// Weight of the new batch in the running statistics.
        momentum: f64,
    },
    /// `max(x, 0)`, with derivative 0 at 0.
    Relu,
    /// `x * sigmoid(x)`, also called Swish.
    Silu,
    /// The sum of two inputs of one shape.
    Add,
    /// The mean over all pixels: `[N, C, H, W]` to `[N, C]`.
    GlobalAvgPool,
    /// A matrix and a bias: `[N, F]` to `[N, out]`.
    Linear {
        /// Output features.
        out: usize,
    },
}

/// One step of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The prefix of its entries in a state dict; empty when it has none.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The nodes it reads, all before it.
    pub inputs: Vec<NodeId>,
    /// Channels (or features) of its output.
    pub channels: usize,
}

/// What an entry of a state dict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Trained by the optimizer, subject to weight decay.
    Parameter,
    /// Running statistics of a batch normalization.
    Buffer,
    /// `num_batches_tracked`: an integer scalar.
    Counter,
}

/// One tensor of a state dict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its full name, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: Kind,
}

/// How the weights of a network start, before any training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// PyTorch's defaults: convolution and linear weights and linear biases from
    /// U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
    PyTorch,
    /// As PyTorch's defaults, but convolutions from N(0, 2 / (kernel^2 out)) and linear biases 0: what
    /// the published wide ResNets do.
    HeNormal,
}

/// A network: nodes in the order they run, the last one giving the logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    init: Init,
    entries: Vec<Entry>,
    first_entry: Vec<usize>, // of each node
    last_use: Vec<usize>,    // of each node's output: the last node that reads it
}

impl Graph {
    /// The nodes in the order they run.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The tensors of the state dict, in the order of the official code.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How the weights start.
    pub fn init(&self) -> Init {
        self.init
    }

    /// Where the entries of node `i` begin.
    pub(crate) fn first_entry(&self, i: usize) -> usize {
        self.first_entry[i]
    }

    /// The last node that reads the output of node `i`.
    pub(crate) fn last_use(&self, i: usize) -> usize {
        self.last_use[i]
    }

    /// Channels of the images.
    pub fn in_channels(&self) -> usize {
        self.nodes[0].channels
    }

    /// Means and deviations of the normalization inside the model, if it has one.
    pub fn normalization(&self) -> Option<(&[f32], &[f32])> {
        self.nodes.iter().find_map(|node| match &node.op {
            Op::Normalize { mean, std } => Some((mean.as_slice(), std.as_slice())),
            _ => None,
        })
    }

    /// The number of classes K.
    pub fn n_classes(&self) -> usize {
        self.nodes[self.nodes.len() - 1].channels
    }

    /// The output shape `[C, H, W]` of every node for images of this size (`[F, 1, 1]` after pooling).
    ///
    /// # Errors
    /// When the images are too small for a kernel, or their sides do not fit a residual sum.
    pub fn shapes(&self, height: usize, width: usize) -> Result<Vec<[usize; 3]>> {
        let mut shapes: Vec<[usize; 3]> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let [_, h, w] = node.inputs.first().map_or([0, height, width], |id| shapes[id.0]);
            let (h, w) = match &node.op {
                Op::Conv2d { kernel, stride, pad, .. } => {
                    let out = |side: usize| side.checked_sub(*kernel).map(|rest| rest / stride + 1);
                    let sides = out(h + pad.top + pad.bottom).zip(out(w + pad.left + pad.right));
                    sides.ok_or_else(|| Error::Shape {
                        what: format!("the input of `{}`", node.name),
                        got: vec![h, w],
                        expected: format!("at least {kernel}x{kernel} with its padding; use larger images"),
                    })?
                }
                Op::Add => self.sum_sides(node, &shapes)?,
                Op::GlobalAvgPool | Op::Linear { .. } => (1, 1),
                _ => (h, w),
            };
            shapes.push([node.channels, h, w]);
        }
        Ok(shapes)
    }

    /// The sides of a residual sum, whose branches may halve odd sides differently.
    fn sum_sides(&self, node: &Node, shapes: &[[usize; 3]]) -> Result<(usize, usize)> {
        let [_, h, w] = shapes[node.inputs[0].0];
        let [_, shortcut_h, shortcut_w] = shapes[node.inputs[1].0];
        if (h, w) == (shortcut_h, shortcut_w) {
            return Ok((h, w));
        }
        Err(Error::Shape {
            what: format!("the output of `{}`", self.nodes[node.inputs[1].0].name),
            got: vec![shortcut_h, shortcut_w],
            expected: format!("{h}x{w} like the branch it is added to; use images whose sides halve evenly"),
        })
    }
}

/// Builds a [`Graph`] node by node; a wrong channel count or a missing input cannot be written down.
#[derive(Debug)]
pub struct GraphBuilder {
    nodes: Vec<Node>,
    init: Init,
}

impl GraphBuilder {
    /// A graph whose images have this many channels; returns the builder and the input node.
    pub fn new(channels: usize) -> (Self, NodeId) {
        let node = Node { name: String::new(), op: Op::Input { channels }, inputs: vec![], channels };
        (Self { nodes: vec![node], init: Init::PyTorch }, NodeId(0))
    }

    /// Starts the weights in another way than PyTorch's default.
    pub fn initialize_by(&mut self, init: Init) {
        self.init = init;
    }

    /// Subtract `mean` and divide by `std`, per channel.
    ///
    /// # Panics
    /// When there is not one mean and one deviation per channel; options are checked before they come here.
    pub fn normalize(&mut self, x: NodeId, mean: &[f32], std: &[f32]) -> NodeId {
        assert!(
            mean.len() == self.channels(x) && std.len() == self.channels(x),
            "one mean and std a channel"
        );
        self.push("", Op::Normalize { mean: mean.into(), std: std.into() }, &[x], self.channels(x))
    }

    /// A convolution with `kernel / 2` zeros on every side.
    pub fn conv(&mut self, x: NodeId, name: &str, out: usize, kernel: usize, stride: usize) -> NodeId {
        self.conv_with(x, name, Op::Conv2d { out, kernel, stride, pad: Pad::all(kernel / 2), groups: 1 })
    }

    /// A convolution with every option.
    ///
    /// # Panics
    /// When `op` is not a convolution or its groups do not divide the channels.
    pub fn conv_with(&mut self, x: NodeId, name: &str, op: Op) -> NodeId {
        let Op::Conv2d { out, groups, .. } = op else { panic!("`{name}` is no convolution") };
        assert!(
            self.channels(x).is_multiple_of(groups) && out.is_multiple_of(groups),
            "`{name}`: groups divide the channels"
        );
        self.push(name, op, &[x], out)
    }

    /// Batch normalization with PyTorch's constants: eps 1e-5, momentum 0.1.
    pub fn batch_norm(&mut self, x: NodeId, name: &str) -> NodeId {
        self.push(name, Op::BatchNorm { eps: 1e-5, momentum: 0.1 }, &[x], self.channels(x))
    }

    /// The rectifier.
    pub fn relu(&mut self, x: NodeId) -> NodeId {
        self.push("", Op::Relu, &[x], self.channels(x))
    }

    /// Swish.
    pub fn silu(&mut self, x: NodeId) -> NodeId {
        self.push("", Op::Silu, &[x], self.channels(x))
    }

    /// A residual sum.
    ///
    /// # Panics
    /// When the channel counts differ.
    pub fn add(&mut self, a: NodeId, b: NodeId) -> NodeId {
        assert_eq!(self.channels(a), self.channels(b), "a residual sum needs equal channels");
        self.push("", Op::Add, &[a, b], self.channels(a))
    }

    /// Global average pooling and a linear layer: the logits. Ends the graph.
    pub fn head(mut self, x: NodeId, name: &str, classes: usize) -> Graph {
        let pooled = self.push("", Op::GlobalAvgPool, &[x], self.channels(x));
        self.push(name, Op::Linear { out: classes }, &[pooled], classes);
        self.finish()
    }

    /// The channels of a node's output.
    pub fn channels(&self, x: NodeId) -> usize {
        self.nodes[x.0].channels
    }

    fn push(&mut self, name: &str, op: Op, inputs: &[NodeId], channels: usize) -> NodeId {
        self.nodes.push(Node { name: name.to_string(), op, inputs: inputs.to_vec(), channels });
        NodeId(self.nodes.len() - 1)
    }

    fn finish(self) -> Graph {
        let mut entries = Vec::new();
        let mut first_entry = Vec::with_capacity(self.nodes.len());
        let mut last_use: Vec<usize> = (0..self.nodes.len()).collect();
        for (i, node) in self.nodes.iter().enumerate() {
            first_entry.push(entries.len());
            let fan_in = node.inputs.first().map_or(0, |x| self.nodes[x.0].channels);
            entries.extend(entries_of(node, fan_in));
            node.inputs.iter().for_each(|x| last_use[x.0] = i);
        }
        Graph { nodes: self.nodes, init: self.init, entries, first_entry, last_use }
    }
}

/// The state-dict entries of a node, in PyTorch's order.
fn entries_of(node: &Node, fan_in: usize) -> Vec<Entry> {
    let entry = |field: &str, shape: &[usize], kind| Entry {
        name: format!("{}.{field}", node.name),
        shape: shape.to_vec(),
        kind,
    };
    let c = node.channels;
    match node.op {
        Op::Conv2d { out, kernel, groups, .. } => {
            vec![entry("weight", &[out, fan_in / groups, kernel, kernel], Kind::Parameter)]
        }
        Op::BatchNorm { .. } => vec![
            entry("weight", &[c], Kind::Parameter),
            entry("bias", &[c], Kind::Parameter),
            entry("running_mean", &[c], Kind::Buffer),
            entry("running_var", &[c], Kind::Buffer),
            entry("num_batches_tracked", &[], Kind::Counter),
        ],
        Op::Linear { out } => {
            vec![entry("weight", &[out, fan_in], Kind::Parameter), entry("bias", &[out], Kind::Parameter)]
        }
        _ => vec![],
    }
}
