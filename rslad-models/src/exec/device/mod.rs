//! The program of a graph on a GPU: convolutions through cuDNN, everything else by kernels of our own.
//!
//! What is decided is decided here, on the processor, in code that knows no CUDA: which kernels run, on which
//! tensors, in which order, with how many threads. Below it is one seam, [`Launch`]: memory, a launch by name, a
//! convolution. The GPU implements it in `kernels/cuda`; tests implement it by twins of the kernels in Rust, run
//! whole networks on them, and compare the kernels' own source, compiled for the processor, with the twins. So
//! what has to be believed of a machine without a GPU is the seam, and nothing else.
//!
//! Tensors are pixels in rows with channels last. Nothing waits for the GPU: a call comes back when its work is
//! in line. Sums have a fixed order, so results repeat to the bit on one device and build.
#![cfg_attr(not(any(test, feature = "cudnn")), allow(dead_code))] // a build without cuDNN has nothing to run it on

mod frozen;
mod launch;
mod ops;
mod shape;
#[cfg(test)]
mod source;
mod training;
#[cfg(test)]
mod twin;
mod weights;

#[cfg_attr(not(feature = "cudnn"), allow(unused_imports))]
pub(crate) use launch::{Argument, Convolution, Kernel, Launch, Number, Product, Way};

use super::engine::Executor;
use super::reference::Seen;
use crate::classifier::{Gradient, Objective};
use crate::device::Precision;
use crate::error::Result;
use crate::network::Network;
use candle_core::Tensor;
use std::fmt::Debug;
use std::sync::Arc;

/// A network in eval mode on a device, where all tensors are.
pub(super) trait Eval: Debug + Send + Sync {
    /// The same with other weights, in the order of the graph's entries.
    fn with(&self, params: &[Tensor]) -> Result<Arc<dyn Eval>>;

    /// `x: [N, C, H, W]`; returns `[N, K]`.
    fn logits(&self, x: &Tensor) -> Result<Tensor>;

    /// One forward, and a way back for each objective; they are asked about all rows at once, on the logits that
    /// `bring` makes of those on the device.
    fn gradients(
        &self,
        x: &Tensor,
        objectives: &[&dyn Objective],
        bring: &dyn Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Vec<Gradient>>;
}

/// A network in train mode on a device, where all tensors are.
pub(super) trait Train: Send + Sync {
    /// Images `[N, C, H, W]` through the network with these parameters: a batch on its way back, the logits
    /// `[N, K]`, and what the normalizations saw.
    fn forward(&self, params: &[Tensor], x: &Tensor) -> Result<(Box<dyn WayBack>, Tensor, Vec<Seen>)>;

    /// The same without a way back.
    fn look(&self, params: &[Tensor], x: &Tensor) -> Result<(Tensor, Vec<Seen>)>;
}

/// A batch whose forward has run.
pub(super) trait WayBack {
    /// The gradients of all parameters, given that of the logits, each with its place among the graph's entries.
    fn parameter_gradients(&self, dlogits: &Tensor) -> Result<Vec<(usize, Tensor)>>;

    /// The gradient of the images, `[N, C, H, W]`.
    fn image_gradient(&self, dlogits: &Tensor) -> Result<Tensor>;
}

/// A network in eval mode, where it is on a device that runs programs and all of its ops have kernels.
#[cfg_attr(not(feature = "cudnn"), allow(unused_variables))]
pub(super) fn eval(
    executor: Executor,
    network: &Network,
    precision: Precision,
    params: &[Tensor],
) -> Result<Option<Arc<dyn Eval>>> {
    match (executor, network.device()) {
        #[cfg(test)]
        (Executor::Twin, _) => frozen::Frozen::lowered(twin::Twin::default(), network.graph_handle(), params),
        #[cfg(feature = "cudnn")]
        (Executor::Plan(_), candle_core::Device::Cuda(device))
            if network.dtype() == candle_core::DType::F32 =>
        {
            let cuda = crate::kernels::cuda::Cuda::new(device, precision)?;
            frozen::Frozen::lowered(cuda, network.graph_handle(), params)
        }
        _ => Ok(None),
    }
}

/// A network in train mode, where it is on a device that runs programs and all of its ops have kernels.
pub(super) fn train(executor: Executor, network: &Network) -> Result<Option<Box<dyn Train>>> {
    match (executor, network.device()) {
        #[cfg(test)]
        (Executor::Twin, _) => Ok(training::new(twin::Twin::default(), network.graph_handle())),
        #[cfg(feature = "cudnn")]
        (Executor::Plan(_), candle_core::Device::Cuda(device))
            if network.dtype() == candle_core::DType::F32 =>
        {
            let cuda = crate::kernels::cuda::Cuda::new(device, network.precision())?;
            Ok(training::new(cuda, network.graph_handle()))
        }
        _ => Ok(None),
    }
}

/// `x + step sign(dx)`, then the nearest point between the bounds and in [0, 1]; x_nat where that is NaN. In one pass,
/// where the device has a kernel for it; else nothing.
///
/// # Shapes
/// `x`, `dx`, `x_nat`, `lower` and `upper` alike, f32 on one device.
///
/// # Errors
/// When the device refuses.
#[cfg_attr(not(feature = "cudnn"), allow(unused_variables))]
pub fn sign_step(tensors: [&Tensor; 5], step: f32) -> Result<Option<Tensor>> {
    match tensors[0].device() {
        #[cfg(feature = "cudnn")]
        candle_core::Device::Cuda(device) => {
            let cuda = crate::kernels::cuda::Cuda::new(device, Precision::F32)?;
            stepped(cuda, tensors, step).map(Some)
        }
        _ => Ok(None),
    }
}

#[cfg(any(test, feature = "cudnn"))]
fn stepped<L: Launch>(launch: L, tensors: [&Tensor; 5], step: f32) -> Result<Tensor> {
    let ops = ops::Ops(launch);
    let [x, dx, x_nat, lower, upper] = tensors;
    let vector = |tensor| ops.vector(tensor);
    let values = [vector(x)?, vector(dx)?, vector(x_nat)?, vector(lower)?, vector(upper)?];
    let stepped = ops.sign_step(x.elem_count(), step, values.each_ref())?;
    ops.shaped(stepped, x.dims())
}
