//! What an optimizer does to large tensors: one step of stochastic gradient descent in two passes over
//! memory, and a norm in one.

use super::engine::{Engine, Threads};
use super::weights::with_values;
use crate::error::Result;
use candle_core::{CpuStorage, DType, InplaceOp2, InplaceOp3, Layout, Tensor, Var, bail};

/// The factors of a step: `v = momentum v + (g + weight_decay w); w = w - lr v`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descent {
    /// The learning rate.
    pub lr: f64,
    /// What remains of the velocity.
    pub momentum: f64,
    /// The pull to zero.
    pub weight_decay: f64,
}

/// Elements that a thread takes at a time.
const CHUNK: usize = 1 << 15;

impl Descent {
    /// One step of a parameter, its velocity and the weight itself in place. Every product and sum is
    /// rounded by itself, as in a chain of tensor operations.
    ///
    /// # Shapes
    /// All three alike, of one float type and on one device.
    ///
    /// # Errors
    /// When they are not.
    pub fn step(&self, w: &Var, velocity: &mut Tensor, gradient: &Tensor) -> Result<()> {
        if !w.device().is_cpu() {
            return self.step_by_tensors(w, velocity, gradient);
        }
        let threads = Threads::new(Engine::from_environment()?.threads)?;
        let threads = threads.for_work(8 * w.elem_count() as u64);
        let w = w.as_detached_tensor();
        velocity.inplace_op3(&gradient.contiguous()?, &w, &Accelerate(self, &threads))?;
        w.inplace_op2(velocity, &Move(self, &threads))?;
        Ok(())
    }

    /// The same as a chain of tensor operations, on any device. In f32 the bits are those of the two passes.
    fn step_by_tensors(&self, w: &Var, velocity: &mut Tensor, gradient: &Tensor) -> Result<()> {
        let own = w.as_detached_tensor();
        let pull = (gradient.detach() + (&own * self.weight_decay)?)?;
        *velocity = ((&*velocity * self.momentum)? + pull)?;
        w.set(&(&own - (&*velocity * self.lr)?)?)?;
        Ok(())
    }
}

/// The sum of the squares of all elements, in double precision. Parts of fixed size are put together in
/// order, so it does not depend on threads.
///
/// # Errors
/// When the tensor is not of floats.
pub fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    if tensor.dtype() != DType::F32 || !tensor.device().is_cpu() {
        return Ok(tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()?);
    }
    let threads = Threads::new(Engine::from_environment()?.threads)?;
    let threads = threads.for_work(8 * tensor.elem_count() as u64);
    with_values(tensor, |values| {
        let mut parts: Vec<(&[f32], f64)> = values.chunks(CHUNK).map(|part| (part, 0.0)).collect();
        threads.each(&mut parts, |_, (part, sum)| {
            let (lines, rest) = part.as_chunks::<16>();
            let mut sums = [0.0; 16];
            for line in lines {
                sums.iter_mut().zip(line).for_each(|(sum, &v)| *sum += f64::from(v) * f64::from(v));
            }
            let rest = rest.iter().map(|&v| f64::from(v) * f64::from(v));
            *sum = sums.into_iter().chain(rest).sum();
        });
        parts.iter().map(|(_, sum)| sum).sum()
    })
}

struct Accelerate<'a>(&'a Descent, &'a Threads);
struct Move<'a>(&'a Descent, &'a Threads);

impl InplaceOp3 for Accelerate<'_> {
    fn name(&self) -> &'static str {
        "accelerate"
    }

    fn cpu_fwd(
        &self,
        v: &mut CpuStorage,
        v_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> candle_core::Result<()> {
        let ranges = [range(v_layout)?, range(g_layout)?, range(w_layout)?];
        let [at_v, at_g, at_w] = ranges;
        let Descent { momentum, weight_decay, .. } = *self.0;
        match (v, g, w) {
            (CpuStorage::F32(v), CpuStorage::F32(g), CpuStorage::F32(w)) => {
                let (momentum, decay) = (momentum as f32, weight_decay as f32);
                let others = [&g[at_g], &w[at_w]];
                each(self.1, &mut v[at_v], others, |v, [g, w]| momentum * v + (g + decay * w));
            }
            (CpuStorage::F64(v), CpuStorage::F64(g), CpuStorage::F64(w)) => {
                let others = [&g[at_g], &w[at_w]];
                each(self.1, &mut v[at_v], others, |v, [g, w]| momentum * v + (g + weight_decay * w));
            }
            _ => bail!("weight, velocity and gradient are of several types, expected one float type"),
        }
        Ok(())
    }
}

impl InplaceOp2 for Move<'_> {
    fn name(&self) -> &'static str {
        "move"
    }

    fn cpu_fwd(
        &self,
        w: &mut CpuStorage,
        w_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (at_w, at_v, lr) = (range(w_layout)?, range(v_layout)?, self.0.lr);
        match (w, v) {
            (CpuStorage::F32(w), CpuStorage::F32(v)) => {
                let lr = lr as f32;
                each(self.1, &mut w[at_w], [&v[at_v]], |w, [v]| w - lr * v);
            }
            (CpuStorage::F64(w), CpuStorage::F64(v)) => {
                each(self.1, &mut w[at_w], [&v[at_v]], |w, [v]| w - lr * v);
            }
            _ => bail!("weight and velocity are of several types, expected one float type"),
        }
        Ok(())
    }
}

/// Where a tensor's values lie in its storage.
fn range(layout: &Layout) -> candle_core::Result<std::ops::Range<usize>> {
    match layout.contiguous_offsets() {
        Some((first, end)) => Ok(first..end),
        None => bail!("a tensor of the optimizer is not contiguous"),
    }
}

/// `own = f(own, others)` for every element.
fn each<T: Copy + Send + Sync, const N: usize>(
    threads: &Threads,
    own: &mut [T],
    others: [&[T]; N],
    f: impl Fn(T, [T; N]) -> T + Sync,
) {
    let mut chunks: Vec<&mut [T]> = own.chunks_mut(CHUNK).collect();
    threads.each(&mut chunks, |i, own| {
        let others = others.map(|o| &o[i * CHUNK..][..own.len()]);
        for (j, own) in own.iter_mut().enumerate() {
            *own = f(*own, others.map(|o| o[j]));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_chain_of_tensor_operations_takes_the_same_step_to_the_bit() {
        let wave = |scale: f64| {
            let ramp = Tensor::arange(0f32, 70_001.0, &Device::Cpu).unwrap(); // longer than two parts
            (ramp * scale).unwrap().sin().unwrap()
        };
        let descent = Descent { lr: 0.1, momentum: 0.9, weight_decay: 2e-4 };
        let [w, chained] = [(); 2].map(|()| Var::from_tensor(&wave(0.37)).unwrap());
        let [mut v, mut chained_v] = [(); 2].map(|()| wave(0.11).copy().unwrap());
        let bits = |t: &Tensor| t.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        for scale in [1.3, 0.7] {
            descent.step(&w, &mut v, &wave(scale)).unwrap();
            descent.step_by_tensors(&chained, &mut chained_v, &wave(scale)).unwrap();
            assert_eq!(bits(&v), bits(&chained_v));
            assert_eq!(bits(w.as_tensor()), bits(chained.as_tensor()));
        }
    }
}
