//! Convolutions of single pixels, as products of matrices through cuBLAS: with channels last nothing has to be moved.
//!
//! With one stream and no atomics, its default, cuBLAS gives the same bits each time.

use super::OrRefused;
use crate::device::Precision;
use crate::error::Result;
use crate::exec::device::Product;
use candle_core::cuda_backend::cudarc::cublas::{CudaBlas, result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut};
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use sys::cublasComputeType_t::{CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32};
use sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
use sys::cudaDataType_t::{CUDA_R_16BF, CUDA_R_32F};

/// Both sides of a convolution's way, as long as its matrices are, and what it writes.
pub(super) fn multiply<T>(
    blas: &CudaBlas,
    stream: &Arc<CudaStream>,
    precision: Precision,
    product: &Product,
    from: [&CudaSlice<T>; 2],
    into: &mut CudaSlice<T>,
) -> Result<()> {
    stream.context().bind_to_thread().or_refused("this thread")?;
    let [first, second] = if product.weights_first { [from[1], from[0]] } else { from };
    let [left, right] = product.turned.map(|turned| if turned { CUBLAS_OP_T } else { CUBLAS_OP_N });
    let [m, n, k] = product.size.map(|n| n as c_int); // below 2^31: every tensor has fewer than 2^32 numbers
    let [a_height, b_height, height] = product.heights.map(|n| n as c_int);
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
            a_height,
            b,
            numbers,
            b_height,
            zero,
            out,
            numbers,
            height,
            sums,
            by,
        )
    }
    .or_refused("a product of matrices")
}
