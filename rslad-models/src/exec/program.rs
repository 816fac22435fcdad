//! A graph as the steps that a plan runs: batch normalization folded into convolutions in eval mode,
//! residual sums and rectifiers fused into the step before them.
//!
//! A program knows no image size and no weights. Steps read and write values; a value that ends in a
//! rectifier says so, and whoever completes its gradient closes it where the value is not above 0.

use crate::graph::{Graph, NodeId, Op, Pad};
use crate::kernels::{Window, pointwise::Curve};

/// How batch normalization is lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Folded into the convolution before it, or a scale and a shift.
    Eval,
    /// A step of its own, with the statistics of the batch.
    Train,
}

/// A tensor between steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// The node whose output it is.
    pub(super) node: usize,
    pub(super) channels: usize,
    pub(super) rectified: bool,
}

/// What a step does to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A convolution or a linear layer, over all channels.
    Conv(Conv),
    /// A convolution that keeps channels apart.
    Depthwise(Conv),
    /// A scale and a shift per channel, then a curve.
    Affine(Scale, Curve),
    /// Batch normalization by the statistics of the batch; its node.
    Norm(usize),
    /// The mean over all pixels.
    Mean,
}

impl Kind {
    /// Whether a gradient goes to parameters of it.
    pub(super) fn has_parameters(self) -> bool {
        matches!(self, Self::Conv(_) | Self::Depthwise(_) | Self::Norm(_))
    }
}

/// A convolution with where its numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conv {
    /// The entry of the weight.
    pub(super) weight: usize,
    /// The entry of the bias.
    pub(super) bias: Option<usize>,
    /// The node of the batch normalization folded in.
    pub(super) folded: Option<usize>,
    pub(super) window: Window,
}

impl Conv {
    /// The padding forward and backward when Winograd's algorithm pays for these channels: enough of
    /// them for its transforms.
    pub(super) fn winograd(&self, inputs: usize, outputs: usize) -> Option<[Pad; 2]> {
        let Window { kernel, stride, pad } = self.window;
        let enough = inputs.min(outputs) >= 16;
        let rest = |side: usize| 2_usize.checked_sub(side);
        let backward = Pad {
            left: rest(pad.left)?,
            right: rest(pad.right)?,
            top: rest(pad.top)?,
            bottom: rest(pad.bottom)?,
        };
        (kernel == 3 && stride == 1 && enough).then_some([pad, backward])
    }
}

/// Where a scale and a shift come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    One,
    /// A normalization by constants; its node.
    Constants(usize),
    /// Running statistics; the node of the batch normalization.
    Running(usize),
}

/// `target = rectify(kind(source) + add)`, the rectifier if the target has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) kind: Kind,
    pub(super) source: usize,
    pub(super) add: Option<usize>,
    pub(super) target: usize,
}

/// The steps of a graph. Value 0 is the images, the last one the logits.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) mode: Mode,
    pub(super) steps: Vec<Step>,
    pub(super) values: Vec<Value>,
}

impl Program {
    /// The padding of a step that may use Winograd's algorithm, forward and backward.
    pub(super) fn winograd(&self, step: &Step) -> Option<[Pad; 2]> {
        let Kind::Conv(conv) = step.kind else { return None };
        conv.winograd(self.values[step.source].channels, self.values[step.target].channels)
    }

    /// The steps of a graph, or `None` when an op of it has no kernel (groups other than 1 and the
    /// number of channels).
    pub(super) fn lower(graph: &Graph, mode: Mode) -> Option<Self> {
        Lowering::new(graph, mode).run()
    }
}

struct Lowering<'g> {
    graph: &'g Graph,
    mode: Mode,
    readers: Vec<Vec<usize>>,     // of each node
    value_of: Vec<Option<usize>>, // of each node; none for nodes inside a step
    absorbed: Vec<bool>,          // nodes that an earlier step took in
    program: Program,
}

impl<'g> Lowering<'g> {
    fn new(graph: &'g Graph, mode: Mode) -> Self {
        let n = graph.nodes().len();
        let mut readers = vec![Vec::new(); n];
        for (i, node) in graph.nodes().iter().enumerate() {
            node.inputs.iter().for_each(|id| readers[id.0].push(i));
        }
        let program = Program { mode, steps: Vec::new(), values: Vec::new() };
        Self { graph, mode, readers, value_of: vec![None; n], absorbed: vec![false; n], program }
    }

    fn run(mut self) -> Option<Program> {
        for i in 0..self.graph.nodes().len() {
            let needed = !self.readers[i].is_empty() || i + 1 == self.graph.nodes().len();
            if !self.absorbed[i] && needed {
                self.node(i)?;
            }
        }
        Some(self.program)
    }

    fn node(&mut self, i: usize) -> Option<()> {
        let node = &self.graph.nodes()[i];
        let first = self.graph.first_entry(i);
        let channels = |id: &NodeId| self.graph.nodes()[id.0].channels;
        let conv = |window, bias| Conv { weight: first, bias, folded: None, window };
        match &node.op {
            Op::Input { .. } => {
                self.define(i, false);
            }
            Op::Conv2d { out, kernel, stride, pad, groups } => {
                let conv = conv(Window { kernel: *kernel, stride: *stride, pad: *pad }, None);
                let inputs = channels(&node.inputs[0]);
                let kind: fn(Conv) -> Kind = match *groups {
                    1 => Kind::Conv,
                    g if g == inputs && inputs == *out => Kind::Depthwise,
                    _ => return None,
                };
                let (folded, last) = self.fold(i);
                self.emit(kind(Conv { folded, ..conv }), i, last);
            }
            Op::Linear { .. } => self.emit(Kind::Conv(conv(Window::POINT, Some(first + 1))), i, i),
            Op::Normalize { .. } => self.emit_curve(Scale::Constants(i), i),
            Op::BatchNorm { .. } if self.mode == Mode::Train => self.emit(Kind::Norm(i), i, i),
            Op::BatchNorm { .. } => self.emit_curve(Scale::Running(i), i),
            Op::Relu => self.emit(Kind::Affine(Scale::One, Curve::Identity), i, i),
            Op::Silu => self.emit(Kind::Affine(Scale::One, Curve::Silu), i, i),
            Op::Add => self.emit(Kind::Affine(Scale::One, Curve::Identity), i, i),
            Op::GlobalAvgPool => self.emit(Kind::Mean, i, i),
        }
        Some(())
    }

    /// The batch normalization to fold into convolution `i`, and the node that the two give.
    fn fold(&mut self, i: usize) -> (Option<usize>, usize) {
        match self.only_reader(i) {
            Some(j)
                if self.mode == Mode::Eval && matches!(self.graph.nodes()[j].op, Op::BatchNorm { .. }) =>
            {
                self.absorbed[j] = true;
                (Some(j), j)
            }
            _ => (None, i),
        }
    }

    /// A scale and shift, with the Swish that follows.
    fn emit_curve(&mut self, scale: Scale, i: usize) {
        match self.only_reader(i) {
            Some(j) if self.graph.nodes()[j].op == Op::Silu => {
                self.absorbed[j] = true;
                self.emit(Kind::Affine(scale, Curve::Silu), i, j);
            }
            _ => self.emit(Kind::Affine(scale, Curve::Identity), i, i),
        }
    }

    /// A step that reads what node `i` reads and computes node `last`, with the sum and the rectifier
    /// that follow.
    fn emit(&mut self, kind: Kind, i: usize, mut last: usize) {
        let node = &self.graph.nodes()[i];
        let read = |id: &NodeId, s: &Self| s.value_of[id.0].expect("what a step reads was computed before");
        let source = read(&node.inputs[0], self);
        let mut add = node.inputs.get(1).map(|id| read(id, self));
        let mut rectified = node.op == Op::Relu;
        let sum = self.sum_after(last).filter(|_| add.is_none() && !rectified);
        if let Some((sum, other)) = sum {
            (self.absorbed[sum], add, last) = (true, Some(other), sum);
        }
        if let Some(j) =
            self.only_reader(last).filter(|&j| self.graph.nodes()[j].op == Op::Relu && !rectified)
        {
            (self.absorbed[j], rectified, last) = (true, true, j);
        }
        let target = self.define(last, rectified);
        self.program.steps.push(Step { kind, source, add, target });
    }

    /// The sum that is the only reader of a node and whose other operand is there already.
    fn sum_after(&self, i: usize) -> Option<(usize, usize)> {
        let sum = self.only_reader(i).filter(|&j| self.graph.nodes()[j].op == Op::Add)?;
        let other = self.graph.nodes()[sum].inputs.iter().find(|id| id.0 != i)?;
        Some((sum, self.value_of[other.0]?))
    }

    fn only_reader(&self, i: usize) -> Option<usize> {
        match self.readers[i].as_slice() {
            [one] => Some(*one),
            _ => None,
        }
    }

    fn define(&mut self, node: usize, rectified: bool) -> usize {
        let value = self.program.values.len();
        self.program.values.push(Value { node, channels: self.graph.nodes()[node].channels, rectified });
        self.value_of[node] = Some(value);
        value
    }
}

impl Window {
    /// The largest border on each side.
    pub(super) fn widest(a: Pad, b: Pad) -> Pad {
        Pad {
            left: a.left.max(b.left),
            right: a.right.max(b.right),
            top: a.top.max(b.top),
            bottom: a.bottom.max(b.bottom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ArchSpec;

    fn lowered(mode: Mode) -> Program {
        let graph = ArchSpec::published("resnet18", &"width = 8".parse().unwrap()).unwrap().graph().unwrap();
        Program::lower(&graph, mode).unwrap()
    }

    #[test]
    fn in_eval_mode_a_residual_network_is_its_convolutions_and_its_head() {
        let program = lowered(Mode::Eval);
        let convs = program.steps.iter().filter(|s| matches!(s.kind, Kind::Conv(_))).count();
        assert_eq!((convs, program.steps.len()), (21, 22)); // 20 convolutions, the linear layer, the mean
        assert_eq!(program.steps.iter().filter(|s| s.add.is_some()).count(), 8);
        assert_eq!(program.values.iter().filter(|v| v.rectified).count(), 17);
    }

    #[test]
    fn in_train_mode_normalizations_take_in_sums_and_rectifiers() {
        let program = lowered(Mode::Train);
        let norms: Vec<_> = program.steps.iter().filter(|s| matches!(s.kind, Kind::Norm(_))).collect();
        assert_eq!((norms.len(), program.steps.len()), (20, 42));
        assert_eq!(norms.iter().filter(|s| s.add.is_some()).count(), 8);
    }
}
