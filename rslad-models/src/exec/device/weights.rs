//! The numbers of a network on the device, and the shapes of its program's values at an image size.

use super::launch::Launch;
use super::ops::Ops;
use super::shape::{Dims, Geometry};
use crate::error::Result;
use crate::exec::program::{Conv, Kind, Program, Scale, Step};
use crate::graph::{Graph, Op};
use candle_core::{Device, Tensor};

/// What a step of a program needs.
pub(super) enum Numbers<M> {
    None,
    /// `[outputs, k, k, inputs]`, or of a depthwise convolution `[channels, k, k]`.
    Conv {
        weight: M,
        bias: Option<M>,
    },
    /// Nothing is 1, or 0.
    Affine {
        scale: Option<M>,
        shift: Option<M>,
    },
    /// Weight and bias of a normalization by the batch.
    Norm {
        weight: M,
        bias: M,
        eps: f64,
    },
}

/// The numbers of all steps: those of `params`, in the order of the graph's entries.
pub(super) fn numbers<L: Launch>(
    ops: &Ops<L>,
    graph: &Graph,
    program: &Program,
    params: &[Tensor],
) -> Result<Vec<Numbers<L::Memory>>> {
    let of_step = |step: &Step| match step.kind {
        Kind::Conv(conv) | Kind::Depthwise(conv) => convolution(ops, graph, &conv, params),
        Kind::Affine(Scale::One, _) => Ok(Numbers::Affine { scale: None, shift: None }),
        Kind::Affine(Scale::Constants(node), _) => constants(ops, graph, node, params[0].device()),
        Kind::Affine(Scale::Running(node), _) => {
            let [scale, shift] = running(ops, graph, node, params)?;
            Ok(Numbers::Affine { scale: Some(scale), shift: Some(shift) })
        }
        Kind::Norm(node) => {
            let first = graph.first_entry(node);
            let (weight, bias) = (ops.vector(&params[first])?, ops.vector(&params[first + 1])?);
            Ok(Numbers::Norm { weight, bias, eps: eps(graph, node) })
        }
        Kind::Mean => Ok(Numbers::None),
    };
    program.steps.iter().map(of_step).collect()
}

fn convolution<L: Launch>(
    ops: &Ops<L>,
    graph: &Graph,
    conv: &Conv,
    params: &[Tensor],
) -> Result<Numbers<L::Memory>> {
    let dims = weight_dims(conv, params[conv.weight].dims());
    let weight = ops.import(&params[conv.weight], dims)?;
    let Some(node) = conv.folded else {
        let bias = conv.bias.map(|entry| ops.vector(&params[entry])).transpose()?;
        return Ok(Numbers::Conv { weight, bias });
    };
    let [scale, shift] = running(ops, graph, node, params)?;
    let weight = ops.fold(&weight, [dims.images, dims.len() / dims.images], &scale)?;
    Ok(Numbers::Conv { weight, bias: Some(shift) })
}

/// Weights as a tensor whose images are the outputs.
pub(super) fn weight_dims(conv: &Conv, shape: &[usize]) -> Dims {
    let k = conv.window.kernel; // a linear layer's is 1
    Dims { images: shape[0], channels: shape[1], height: k, width: k }
}

/// The normalization inside the model.
fn constants<L: Launch>(
    ops: &Ops<L>,
    graph: &Graph,
    node: usize,
    device: &Device,
) -> Result<Numbers<L::Memory>> {
    let Op::Normalize { mean, std } = &graph.nodes()[node].op else {
        unreachable!("constants belong to a normalization")
    };
    let scale: Vec<f64> = std.iter().map(|s| 1.0 / f64::from(*s)).collect();
    let shift = mean.iter().zip(&scale).map(|(m, s)| (-f64::from(*m) * s) as f32).collect();
    let scale = scale.iter().map(|&s| s as f32).collect();
    let vector = |values: Vec<f32>| ops.vector(&Tensor::new(values, device)?);
    Ok(Numbers::Affine { scale: Some(vector(scale)?), shift: Some(vector(shift)?) })
}

fn running<L: Launch>(ops: &Ops<L>, graph: &Graph, node: usize, params: &[Tensor]) -> Result<[L::Memory; 2]> {
    let first = graph.first_entry(node);
    let vector = |i: usize| ops.vector(&params[first + i]);
    let vectors = [vector(0)?, vector(1)?, vector(2)?, vector(3)?];
    ops.running(graph.nodes()[node].channels, vectors.each_ref(), eps(graph, node))
}

fn eps(graph: &Graph, node: usize) -> f64 {
    match graph.nodes()[node].op {
        Op::BatchNorm { eps, .. } => eps,
        _ => unreachable!("statistics belong to a batch normalization"),
    }
}

/// The values of a program for so many images of a size.
pub(super) struct Shapes(Vec<Dims>);

impl Shapes {
    pub(super) fn new(graph: &Graph, program: &Program, [images, height, width]: [usize; 3]) -> Result<Self> {
        let shapes = graph.shapes(height, width)?;
        let dims = |value: &crate::exec::program::Value| {
            let [channels, height, width] = shapes[value.node];
            Dims { images, channels, height, width }
        };
        Ok(Self(program.values.iter().map(dims).collect()))
    }

    pub(super) fn of(&self, value: usize) -> Dims {
        self.0[value]
    }

    pub(super) fn geometry(&self, step: &Step, conv: &Conv) -> Geometry {
        Geometry { window: conv.window, from: self.of(step.source), to: self.of(step.target) }
    }
}
