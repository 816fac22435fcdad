//! Arithmetic over all pixels of a batch in one pass.
//!
//! candle makes a tensor for every elementary operation, and for 65,536 elements and more wakes a thread
//! for each and spins until it has answered: on a machine with other work that took longer than the
//! network whose gradient a step follows.
//!
//! On another device the tensors stay there, and candle's operations do the work in the same order: the same
//! bits, but for the sign of a zero.

use crate::error::{Error, Result};
use candle_core::{CpuStorage, Storage, Tensor};

/// As many values as the compiler needs to know of to work on vectors of them.
const CHUNK: usize = 64;

/// `f` of the values at each place, shaped like the first tensor.
///
/// # Errors
/// When a tensor has another number of elements, or is not f32 on the CPU.
pub(crate) fn map<const N: usize>(tensors: [&Tensor; N], f: impl Fn([f32; N]) -> f32) -> Result<Tensor> {
    let like = tensors[0];
    let n = like.elem_count();
    let contiguous = tensors.iter().map(|t| t.contiguous()).collect::<candle_core::Result<Vec<_>>>()?;
    let held: Vec<_> = contiguous.iter().map(|t| t.storage_and_layout()).collect();
    let mut values: [&[f32]; N] = [&[]; N];
    for (slot, (storage, layout)) in values.iter_mut().zip(&held) {
        let (CpuStorage::F32(all), true) = (on_cpu(storage)?, layout.shape().elem_count() == n) else {
            return Err(Error::Tensor {
                what: "a batch of images",
                got: format!("{:?} {:?}", storage.dtype(), layout.dims()),
                expected: format!("F32 {:?}", like.dims()),
            });
        };
        *slot = &all[layout.start_offset()..][..n];
    }
    let mut mapped = vec![0.0; n];
    let from = values.map(|values| values.as_chunks::<CHUNK>());
    let (chunks, rest) = mapped.as_chunks_mut::<CHUNK>();
    for (chunk, to) in chunks.iter_mut().enumerate() {
        let from = from.map(|(chunks, _)| &chunks[chunk]);
        to.iter_mut().enumerate().for_each(|(i, to)| *to = f(std::array::from_fn(|k| from[k][i])));
    }
    rest.iter_mut().enumerate().for_each(|(i, to)| *to = f(std::array::from_fn(|k| from[k].1[i])));
    Ok(Tensor::from_vec(mapped, like.shape(), like.device())?)
}

/// `x + distance * direction`.
pub(crate) fn away(x: &Tensor, direction: &Tensor, distance: f64) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return Ok((x + (direction * distance)?)?);
    }
    let distance = distance as f32;
    map([x, direction], |[x, direction]| x + direction * distance)
}

/// The values of `bounds` that are nearest to `x`, and the middle ones where that is NaN:
/// `[lower, middle, upper]`. By tensor operations, on any device.
pub(crate) fn nearest(x: &Tensor, [lower, middle, upper]: [&Tensor; 3]) -> Result<Tensor> {
    let x = x.eq(x)?.where_cond(x, middle)?; // NaN equals nothing
    Ok(x.maximum(lower)?.minimum(upper)?.clamp(0f32, 1f32)?)
}

/// 1, -1, or 0 for 0 and NaN, by tensor operations.
pub(crate) fn sign(v: &Tensor) -> Result<Tensor> {
    let signs = |t: Tensor| t.to_dtype(v.dtype());
    Ok((signs(v.gt(0f32)?)? - signs(v.lt(0f32)?)?)?)
}

fn on_cpu(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(values) => Ok(values),
        _ => Err(Error::Tensor {
            what: "a batch of images",
            got: format!("{:?}", storage.device().location()),
            expected: "the CPU".to_owned(),
        }),
    }
}
