//! Decisions of a batch: one u8 for each example, 1 or 0.

use candle_core::{DType, Result, Tensor};

/// `yes` or `no`, row by row: tensors whose first dimension is the mask's.
pub(super) fn pick(mask: &Tensor, yes: &Tensor, no: &Tensor) -> Result<Tensor> {
    over(mask, yes.rank())?.broadcast_as(yes.shape())?.where_cond(yes, no)
}

/// A number for each example as a factor of tensors of this rank: `[n, 1, 1, ...]`.
pub(super) fn over(numbers: &Tensor, rank: usize) -> Result<Tensor> {
    let mut dims = vec![1; rank];
    dims[0] = numbers.dim(0)?;
    numbers.reshape(dims)
}

pub(super) fn not(mask: &Tensor) -> Result<Tensor> {
    mask.eq(0u8)
}

pub(super) fn and(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.mul(b)
}

pub(super) fn or(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.maximum(b)
}

/// Whether all numbers of a mask `[n, ...]` are 1, for each example.
pub(super) fn all(mask: &Tensor) -> Result<Tensor> {
    mask.to_dtype(DType::F32)?.flatten_from(1)?.min(1)?.gt(0f32)
}

/// Whether the label is the first of the largest logits, all of them being finite. As [`holds`](crate::aim::holds).
///
/// # Shapes
/// `logits`: `[n, K]`; `y`: `[n]`, u32 below K.
pub(super) fn holds(logits: &Tensor, y: &Tensor) -> Result<Tensor> {
    let y = y.unsqueeze(1)?;
    let own = logits.gather(&y, 1)?; // [n, 1]
    let classes = Tensor::arange(0u32, logits.dim(1)? as u32, logits.device())?.unsqueeze(0)?;
    let first_of_equals = and(&logits.broadcast_eq(&own)?, &classes.broadcast_lt(&y)?)?;
    let beaten = or(&logits.broadcast_gt(&own)?, &first_of_equals)?;
    let finite = logits.abs()?.lt(f32::INFINITY)?; // false of NaN too
    and(&all(&not(&beaten)?)?, &all(&finite)?)
}

/// Whether each point is between these bounds.
pub(super) fn between(x: &Tensor, lower: &Tensor, upper: &Tensor) -> Result<Tensor> {
    all(&and(&x.ge(lower)?, &x.le(upper)?)?)
}

/// The largest absolute value of each example, `[n]`.
pub(super) fn largest(x: &Tensor) -> Result<Tensor> {
    x.abs()?.flatten_from(1)?.max(1)
}

/// Sums in double precision, one for each example.
pub(super) fn sum(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F64)?.flatten_from(1)?.sum(1)
}
