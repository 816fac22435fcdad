//! The specification of every op, in candle ops with autograd, for any device and float type.
//!
//! Sums run in an order that does not depend on the batch: candle's convolution multiplies one image at
//! a time, and the linear layer is ours because candle's matmul gives other bits for other batch sizes.

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, Pad};
use candle_core::{D, DType, Tensor};

/// How batch normalization gets its statistics.
pub(crate) enum Statistics<'a> {
    /// From the running buffers.
    Running,
    /// From the batch; what was seen is handed back for the running buffers.
    Batch(&'a mut Vec<Seen>),
}

/// The statistics of a batch at one normalization.
pub(crate) struct Seen {
    /// The node.
    pub(crate) node: usize,
    /// Mean per channel, `[C]`.
    pub(crate) mean: Tensor,
    /// Unbiased variance per channel, `[C]`: what PyTorch tracks, while it normalizes by the biased one.
    pub(crate) variance: Tensor,
}

/// Runs `graph` on images `x: [N, C, H, W]` with `params` in the order of its entries; returns the
/// logits `[N, K]`.
pub(crate) fn run(
    graph: &Graph,
    params: &[Tensor],
    x: &Tensor,
    mut statistics: Statistics<'_>,
) -> Result<Tensor> {
    check_images(graph, x)?;
    let mut values: Vec<Option<Tensor>> = vec![None; graph.nodes().len()];
    for (i, node) in graph.nodes().iter().enumerate() {
        let input = |k: usize| values[node.inputs[k].0].as_ref().expect("inputs live until their last use");
        let own = &params[graph.first_entry(i)..];
        let value = match &node.op {
            Op::Input { .. } => x.clone(),
            Op::Normalize { mean, std } => normalize(input(0), mean, std)?,
            Op::Conv2d { stride, pad, groups, .. } => conv2d(input(0), &own[0], *stride, *pad, *groups)?,
            Op::BatchNorm { eps, .. } => match &mut statistics {
                Statistics::Running => batch_norm_running(input(0), own, *eps)?,
                Statistics::Batch(seen) => {
                    let (y, mean, variance) = batch_norm_batch(node, input(0), own, *eps)?;
                    seen.push(Seen { node: i, mean, variance });
                    y
                }
            },
            Op::Relu => relu(input(0))?,
            Op::Silu => input(0).silu()?,
            Op::Add => (input(0) + input(1))?,
            Op::GlobalAvgPool => input(0).flatten_from(2)?.contiguous()?.mean(2)?, // [N, C]
            Op::Linear { .. } => linear(input(0), &own[0], &own[1])?,
        };
        values[i] = Some(value);
        node.inputs.iter().filter(|id| graph.last_use(id.0) == i).for_each(|id| values[id.0] = None);
    }
    Ok(values.pop().flatten().expect("a graph has nodes"))
}

/// An error unless `x` is a batch of images that `graph` can take.
pub(crate) fn check_images(graph: &Graph, x: &Tensor) -> Result<()> {
    match x.dims() {
        &[n, c, h, w] if n > 0 && c == graph.in_channels() => graph.shapes(h, w).map(|_| ()),
        other => Err(Error::Shape {
            what: "the batch of images".into(),
            got: other.to_vec(),
            expected: format!("[N, {}, H, W] with N at least 1", graph.in_channels()),
        }),
    }
}

/// A per-channel tensor `[C]` as `[1, C, 1, 1]`.
fn per_channel(t: &Tensor) -> Result<Tensor> {
    Ok(t.reshape((1, t.elem_count(), 1, 1))?)
}

fn normalize(x: &Tensor, mean: &[f32], std: &[f32]) -> Result<Tensor> {
    let constant = |values: &[f32]| per_channel(&Tensor::new(values, x.device())?.to_dtype(x.dtype())?);
    Ok(x.broadcast_sub(&constant(mean)?)?.broadcast_div(&constant(std)?)?)
}

fn conv2d(x: &Tensor, weight: &Tensor, stride: usize, pad: Pad, groups: usize) -> Result<Tensor> {
    let channels = x.dim(1)?;
    if groups == channels && weight.dim(0)? == channels && groups > 1 {
        return depthwise(x, weight, stride, pad);
    }
    let kernel = weight.dim(2)?;
    if kernel == 1 && stride > 1 && pad == Pad::all(0) {
        return Ok(every(x, stride)?.conv2d(weight, 0, 1, 1, groups)?); // candle's strided one folds the batch
    }
    let unread = |side: usize| (side - kernel) % stride; // lines at the end that no window reaches
    let height = x.dim(2)? + pad.top + pad.bottom;
    let width = x.dim(3)? + pad.left + pad.right;
    let even = unread(height) == unread(width);
    Ok(match pad.symmetric().filter(|_| even) {
        Some(pad) => x.conv2d(weight, pad, stride, 1, groups)?,
        None => {
            // candle's way back takes what is unread of the rows for the columns too: leave nothing
            let x = padded(x, pad, 0)?.narrow(2, 0, height - unread(height))?;
            let x = x.narrow(3, 0, width - unread(width))?.contiguous()?;
            x.conv2d(weight, 0, stride, 1, groups)?
        }
    })
}

/// `x` inside its zero padding, with `extra` more rows and columns at the end.
fn padded(x: &Tensor, pad: Pad, extra: usize) -> Result<Tensor> {
    let x = x.pad_with_zeros(2, pad.top, pad.bottom + extra)?;
    Ok(x.pad_with_zeros(3, pad.left, pad.right + extra)?)
}

/// Every `stride`-th row and column.
fn every(x: &Tensor, stride: usize) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let (oh, ow) = (h.div_ceil(stride), w.div_ceil(stride));
    let x = x.pad_with_zeros(2, 0, oh * stride - h)?.pad_with_zeros(3, 0, ow * stride - w)?;
    let x = x.reshape((n, c, oh, stride, ow, stride))?.narrow(3, 0, 1)?.narrow(5, 0, 1)?;
    Ok(x.contiguous()?.reshape((n, c, oh, ow))?)
}

/// Depthwise convolution as shifted multiply-adds: candle's grouped convolution runs one convolution a
/// channel.
fn depthwise(x: &Tensor, weight: &Tensor, stride: usize, pad: Pad) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let kernel = weight.dim(2)?;
    let oh = (h + pad.top + pad.bottom - kernel) / stride + 1;
    let ow = (w + pad.left + pad.right - kernel) / stride + 1;
    let x = padded(x, pad, stride - 1)?; // room to cut whole strides at every shift
    let mut sum: Option<Tensor> = None;
    for (dy, dx) in (0..kernel).flat_map(|dy| (0..kernel).map(move |dx| (dy, dx))) {
        let window = x.narrow(2, dy, oh * stride)?.narrow(3, dx, ow * stride)?.contiguous()?;
        let window = window.reshape((n, c, oh, stride, ow, stride))?.narrow(3, 0, 1)?.narrow(5, 0, 1)?;
        let window = window.contiguous()?.reshape((n, c, oh, ow))?;
        let tap = weight.narrow(2, dy, 1)?.narrow(3, dx, 1)?.reshape((1, c, 1, 1))?;
        let term = window.broadcast_mul(&tap)?;
        sum = Some(match sum {
            Some(sum) => (sum + term)?,
            None => term,
        });
    }
    sum.ok_or_else(|| Error::Other("a depthwise kernel has taps".into()))
}

/// Eval mode: one scale and shift per channel, computed in f64.
fn batch_norm_running(x: &Tensor, own: &[Tensor], eps: f64) -> Result<Tensor> {
    let wide = |t: &Tensor| t.to_dtype(DType::F64);
    let (weight, bias, mean, var) = (wide(&own[0])?, wide(&own[1])?, wide(&own[2])?, wide(&own[3])?);
    let scale = (weight / (var + eps)?.sqrt()?)?;
    let shift = (bias - (mean * &scale)?)?;
    let y = x.broadcast_mul(&per_channel(&scale.to_dtype(x.dtype())?)?)?;
    Ok(y.broadcast_add(&per_channel(&shift.to_dtype(x.dtype())?)?)?)
}

/// Train mode; returns the output, the batch mean and the unbiased batch variance.
fn batch_norm_batch(node: &Node, x: &Tensor, own: &[Tensor], eps: f64) -> Result<(Tensor, Tensor, Tensor)> {
    let (n, c, h, w) = x.dims4()?;
    let count = n * h * w;
    check_count(node, [n, c, h, w])?;
    let mean = channel_mean(x)?;
    let centered = x.broadcast_sub(&per_channel(&mean)?)?;
    let variance = channel_mean(&centered.sqr()?)?;
    let scale = (&own[0] / (&variance + eps)?.sqrt()?)?;
    let y = centered.broadcast_mul(&per_channel(&scale)?)?.broadcast_add(&per_channel(&own[1])?)?;
    let unbiased = (variance.detach() * (count as f64 / (count - 1) as f64))?;
    Ok((y, mean.detach(), unbiased))
}

/// An error when a batch of this shape has too few values for statistics.
pub(crate) fn check_count(node: &Node, [n, c, h, w]: [usize; 4]) -> Result<()> {
    if n * h * w >= 2 {
        return Ok(());
    }
    Err(Error::Shape {
        what: format!("the input of `{}` in train mode", node.name),
        got: vec![n, c, h, w],
        expected: "at least 2 values per channel; use a larger batch or larger images".into(),
    })
}

/// The mean per channel: over pixels, then over images, which rounds less than one long sum.
fn channel_mean(x: &Tensor) -> Result<Tensor> {
    Ok(x.flatten_from(2)?.contiguous()?.mean(2)?.mean(0)?) // [N, C, HW] -> [N, C] -> [C]
}

/// `max(x, 0)` with PyTorch's derivative at 0, and NaN kept (candle's has derivative 1 there).
fn relu(x: &Tensor) -> Result<Tensor> {
    Ok(x.le(0.0)?.where_cond(&x.zeros_like()?, x)?)
}

/// `x: [N, F]`, `weight: [K, F]`, `bias: [K]`: every row by itself, summed in the order of the features.
fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let products = x.unsqueeze(1)?.broadcast_mul(&weight.unsqueeze(0)?)?; // [N, K, F]
    Ok(products.sum(D::Minus1)?.broadcast_add(bias)?)
}
