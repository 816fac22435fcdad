//! Convolutions of single pixels, as products of matrices through cuBLAS: with channels last nothing has to be moved.
//!
//! With one stream and no atomics, its default, cuBLAS gives the same bits each time.

use super::OrRefused;
use crate::device::Precision;
use crate::error::Result;
use crate::exec::device::{Convolution, Way};
use candle_core::cuda_backend::cudarc::cublas::{CudaBlas, result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut};
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use sys::cublasComputeType_t::{CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32};
use sys::cublasOperation_t::{CUBLAS_OP_N as PLAIN, CUBLAS_OP_T as TURNED};
use sys::cudaDataType_t::{CUDA_R_16BF, CUDA_R_32F};

/// `from` and `into` as [`Way`] says, as long as the convolution says.
pub(super) fn multiply<T>(
    blas: &CudaBlas,
    stream: &Arc<CudaStream>,
    precision: Precision,
    way: Way,
    convolution: &Convolution,
    from: [&CudaSlice<T>; 2],
    into: &mut CudaSlice<T>,
) -> Result<()> {
    stream.context().bind_to_thread().or_refused("this thread")?;
    let Convolution { images, inputs, outputs, from: [h, w], .. } = *convolution;
    let [pixels, inputs, outputs] = [images * h * w, inputs, outputs].map(|n| n as c_int); // tensors are below 2^32 numbers
    // Rows of channels are columns to cuBLAS: x is [inputs, pixels], w [inputs, outputs], y [outputs, pixels].
    let (first, second, turned, [m, n, k]) = match way {
        Way::Forward => (from[1], from[0], [TURNED, PLAIN], [outputs, pixels, inputs]), // y = w^T x
        Way::ToImages => (from[1], from[0], [PLAIN, PLAIN], [inputs, pixels, outputs]), // dx = w dy
        Way::ToWeights => (from[0], from[1], [PLAIN, TURNED], [inputs, outputs, pixels]), // dw = x dy^T
    };
    let second_rows = if way == Way::Forward { inputs } else { outputs };
    let (numbers, sums) = match precision {
        Precision::F32 => (CUDA_R_32F, CUBLAS_COMPUTE_32F),
        Precision::Tf32 => (CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32),
        Precision::Bf16 => (CUDA_R_16BF, CUBLAS_COMPUTE_32F),
    };
    let (one, zero) = (1.0_f32, 0.0_f32);
    let [one, zero] = [&raw const one, &raw const zero].map(|number| number.cast::<c_void>());
    let (a, _a) = first.device_ptr(stream);
    let (b, _b) = second.device_ptr(stream);
    let (out, _out) = into.device_ptr_mut(stream);
    let [a, b] = [a, b].map(|place| place as *const c_void);
    let (out, by) = (out as *mut c_void, sys::cublasGemmAlgo_t::CUBLAS_GEMM_DFALT);
    let [left, right] = turned;
    // SAFETY: the caller compared the lengths with the convolution's, whose matrices these are; all memory is in order on
    // the handle's stream.
    unsafe {
        result::gemm_ex(
            *blas.handle(),
            left,
            right,
            m,
            n,
            k,
            one,
            a,
            numbers,
            inputs,
            b,
            numbers,
            second_rows,
            zero,
            out,
            numbers,
            m,
            sums,
            by,
        )
    }
    .or_refused("a product of matrices")
}
