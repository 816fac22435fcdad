//! The arithmetic under the plans: convolutions, batch normalization and what goes between them.
//!
//! One body per algorithm, generic over the vector type and compiled for each instruction set; the
//! set is chosen when a plan is made. All tensors are in the layout of [`Layout`]: pixels in rows,
//! channels last and rounded up to a multiple of 8, images inside a border of zeros. So a kernel needs
//! no bounds checks for padding and no copy of windows. `docs/kernels.md` has the pictures.
//!
//! This module holds the only unsafe code of the workspace. Its functions take slices and check, once
//! per call, that every offset they may form lies inside; below that line pointers are plain.
#![allow(unsafe_code)]

pub(crate) mod batch_norm;
pub(crate) mod conv;
#[cfg(feature = "cudnn")]
pub(crate) mod cuda;
pub(crate) mod depthwise;
mod epilogue;
mod layout;
pub(crate) mod pointwise;
pub(crate) mod pool;
mod simd;

pub(crate) use epilogue::{Add, Epilogue, Rectify};
pub(crate) use layout::{Layout, Window};
pub use simd::Isa;
