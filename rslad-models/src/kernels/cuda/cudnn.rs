//! Convolutions through cuDNN, channels last, by an algorithm that gives the same bits each time.
//!
//! Which algorithm, and how much room it wants, is asked once for each shape and kept with its descriptors. They
//! belong to a handle, and a handle to a thread: neither may be shared.

use super::OrRefused;
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::exec::device::{Convolution, Way};
use candle_core::cuda_backend::cudarc::cudnn::result::{self, CudnnError};
use candle_core::cuda_backend::cudarc::cudnn::sys::{
    self, cudnnDataType_t, cudnnDeterminism_t, cudnnMathType_t, cudnnStatus_t,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut};
use candle_core::cuda_backend::{CudaDevice, DeviceId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::rc::Rc;
use std::sync::Arc;

thread_local! {
    static HANDLES: RefCell<HashMap<DeviceId, Rc<Handle>>> = RefCell::default();
}

/// cuDNN on a device, for one thread.
struct Handle {
    handle: sys::cudnnHandle_t,
    plans: RefCell<HashMap<(Way, Convolution, Precision), Rc<Plan>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was made by `create_handle` and is destroyed once. A failure at the end of a thread is nobody's.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// A convolution, ready to run.
struct Plan {
    descriptors: Descriptors,
    algorithm: Algorithm,
    workspace: usize,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    ToImages(sys::cudnnConvolutionBwdDataAlgo_t),
    ToWeights(sys::cudnnConvolutionBwdFilterAlgo_t),
}

struct Descriptors {
    x: sys::cudnnTensorDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: each was made by its `create` function and is destroyed once.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.x);
            let _ = result::destroy_tensor_descriptor(self.y);
            let _ = result::destroy_filter_descriptor(self.w);
            let _ = result::destroy_convolution_descriptor(self.convolution);
        }
    }
}

/// Where convolutions run.
pub(super) struct Place<'a> {
    pub(super) device: &'a CudaDevice,
    pub(super) stream: &'a Arc<CudaStream>,
}

impl Place<'_> {
    /// Runs a convolution, or a way back through one: `from` and `into` as [`Way`] says, of the numbers that the
    /// precision says.
    pub(super) fn convolve<T>(
        &self,
        precision: Precision,
        way: Way,
        convolution: &Convolution,
        from: [&CudaSlice<T>; 2],
        into: &mut CudaSlice<T>,
    ) -> Result<()> {
        let Self { device, stream } = *self;
        stream.context().bind_to_thread().or_refused("this thread")?;
        let handle = HANDLES.with(|handles| handle(&mut handles.borrow_mut(), device, stream))?;
        let plan = handle.plan(way, convolution, precision)?;
        // SAFETY: room of bytes, which cuDNN writes before it reads.
        let workspace = unsafe { stream.alloc::<u8>(plan.workspace.max(1)) };
        let mut workspace = workspace.or_refused("room for a convolution; use a smaller batch")?;
        let (one, zero) = (1.0_f32, 0.0_f32);
        let [one, zero] = [&raw const one, &raw const zero].map(|number| number.cast::<c_void>());
        let (a, _a) = from[0].device_ptr(stream);
        let (b, _b) = from[1].device_ptr(stream);
        let (out, _out) = into.device_ptr_mut(stream);
        let (room, _room) = workspace.device_ptr_mut(stream);
        let [a, b] = [a, b].map(|place| place as *const c_void);
        let [out, room] = [out, room].map(|place| place as *mut c_void);
        let Descriptors { x, y, w, convolution } = plan.descriptors;
        let (h, size) = (handle.handle, plan.workspace);
        // SAFETY: the caller compared the lengths with the descriptors', which live in the plan; all memory is in order on
        // the handle's stream.
        unsafe {
            match plan.algorithm {
                Algorithm::Forward(by) => {
                    result::convolution_forward(h, one, x, a, w, b, convolution, by, room, size, zero, y, out)
                }
                Algorithm::ToImages(by) => result::convolution_backward_data(
                    h,
                    one,
                    w,
                    b,
                    y,
                    a,
                    convolution,
                    by,
                    room,
                    size,
                    zero,
                    x,
                    out,
                ),
                Algorithm::ToWeights(by) => result::convolution_backward_filter(
                    h,
                    one,
                    x,
                    a,
                    y,
                    b,
                    convolution,
                    by,
                    room,
                    size,
                    zero,
                    w,
                    out,
                ),
            }
        }
        .or_refused("a convolution")
    }
}

fn handle(
    handles: &mut HashMap<DeviceId, Rc<Handle>>,
    device: &CudaDevice,
    stream: &CudaStream,
) -> Result<Rc<Handle>> {
    if let Some(handle) = handles.get(&device.id()) {
        return Ok(Rc::clone(handle));
    }
    let handle = result::create_handle().or_refused("cuDNN")?;
    let handle = Rc::new(Handle { handle, plans: RefCell::default() });
    // SAFETY: the stream is candle's and lives as long as its device.
    unsafe { result::set_stream(handle.handle, stream.cu_stream().cast()) }.or_refused("cuDNN its stream")?;
    handles.insert(device.id(), Rc::clone(&handle));
    Ok(handle)
}

impl Handle {
    fn plan(&self, way: Way, convolution: &Convolution, precision: Precision) -> Result<Rc<Plan>> {
        let key = (way, *convolution, precision);
        if let Some(plan) = self.plans.borrow().get(&key) {
            return Ok(Rc::clone(plan));
        }
        let plan = self.made(way, convolution, precision).or_refused(&format!("{convolution:?}"))?;
        let plan = plan.ok_or_else(|| {
            Error::Other(format!(
                "cuDNN has no algorithm that gives the same bits each time for {convolution:?}; RSLAD_EXEC=reference \
                 does without cuDNN"
            ))
        })?;
        self.plans.borrow_mut().insert(key, Rc::clone(&plan));
        Ok(plan)
    }

    fn made(
        &self,
        way: Way,
        convolution: &Convolution,
        precision: Precision,
    ) -> std::result::Result<Option<Rc<Plan>>, CudnnError> {
        use cudnnDataType_t::{CUDNN_DATA_BFLOAT16, CUDNN_DATA_FLOAT};
        use cudnnMathType_t::{CUDNN_FMA_MATH, CUDNN_TENSOR_OP_MATH};
        let (numbers, math) = match precision {
            Precision::F32 => (CUDNN_DATA_FLOAT, CUDNN_FMA_MATH),
            Precision::Tf32 => (CUDNN_DATA_FLOAT, CUDNN_TENSOR_OP_MATH), // inputs rounded to TF32
            Precision::Bf16 => (CUDNN_DATA_BFLOAT16, CUDNN_TENSOR_OP_MATH), // sums in f32
        };
        let descriptors = Descriptors::new(convolution, numbers, math)?;
        let found = self.algorithm(way, &descriptors)?;
        let Some((algorithm, workspace)) = found else { return Ok(None) };
        Ok(Some(Rc::new(Plan { descriptors, algorithm, workspace })))
    }

    /// The first of cuDNN's choices, best first, that repeats its bits; with the bytes that it works in.
    fn algorithm(
        &self,
        way: Way,
        descriptors: &Descriptors,
    ) -> std::result::Result<Option<(Algorithm, usize)>, CudnnError> {
        const MOST: usize = 16;
        let Descriptors { x, y, w, convolution } = *descriptors;
        let (h, mut n) = (self.handle, 0);
        // SAFETY, of all three: handle and descriptors are alive, the results are plain numbers for which all zeros
        // are a value, and cuDNN writes at most as many as it is told.
        macro_rules! ask {
            ($query:ident, $room:ident, $first:expr, $second:expr, $third:expr, $way:path) => {{
                let mut results = [unsafe { std::mem::zeroed() }; MOST];
                let asked = MOST as c_int;
                unsafe {
                    result::$query(
                        h,
                        $first,
                        $second,
                        convolution,
                        $third,
                        asked,
                        &raw mut n,
                        results.as_mut_ptr(),
                    )
                }?;
                let mut found = results[..n as usize].iter();
                let Some(found) = found.find(|found| works(found.status, found.determinism)) else {
                    return Ok(None);
                };
                let bytes = unsafe { result::$room(h, $first, $second, convolution, $third, found.algo) }?;
                Ok(Some(($way(found.algo), bytes)))
            }};
        }
        match way {
            Way::Forward => ask!(
                get_convolution_forward_algorithm,
                get_convolution_forward_workspace_size,
                x,
                w,
                y,
                Algorithm::Forward
            ),
            Way::ToImages => ask!(
                get_convolution_backward_data_algorithm,
                get_convolution_backward_data_workspace_size,
                w,
                y,
                x,
                Algorithm::ToImages
            ),
            Way::ToWeights => ask!(
                get_convolution_backward_filter_algorithm,
                get_convolution_backward_filter_workspace_size,
                x,
                y,
                w,
                Algorithm::ToWeights
            ),
        }
    }
}

fn works(status: cudnnStatus_t, determinism: cudnnDeterminism_t) -> bool {
    status == cudnnStatus_t::CUDNN_STATUS_SUCCESS && determinism == cudnnDeterminism_t::CUDNN_DETERMINISTIC
}

impl Descriptors {
    fn new(
        convolution: &Convolution,
        numbers: cudnnDataType_t,
        math: cudnnMathType_t,
    ) -> std::result::Result<Self, CudnnError> {
        use sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        use sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let Convolution { images, inputs, outputs, from: [h, w], to: [oh, ow], kernel, stride, pad } =
            *convolution;
        let dims = |dims: [usize; 4]| dims.map(|n| n as c_int); // below 2^31: every tensor has fewer than 2^32 numbers
        let all = Self {
            x: result::create_tensor_descriptor()?,
            y: result::create_tensor_descriptor()?,
            w: result::create_filter_descriptor()?,
            convolution: result::create_convolution_descriptor()?,
        };
        let (pad, stride) = (pad as c_int, stride as c_int);
        // SAFETY: the descriptors were just made.
        unsafe {
            let (x, y) = (dims([images, inputs, h, w]), dims([images, outputs, oh, ow]));
            result::set_tensor4d_descriptor(all.x, CUDNN_TENSOR_NHWC, numbers, x)?;
            result::set_tensor4d_descriptor(all.y, CUDNN_TENSOR_NHWC, numbers, y)?;
            let filter = dims([outputs, inputs, kernel, kernel]);
            result::set_filter4d_descriptor(all.w, numbers, CUDNN_TENSOR_NHWC, filter)?;
            let (mode, sums) = (CUDNN_CROSS_CORRELATION, cudnnDataType_t::CUDNN_DATA_FLOAT);
            let descriptor = all.convolution;
            result::set_convolution2d_descriptor(descriptor, pad, pad, stride, stride, 1, 1, mode, sums)?;
            result::set_convolution_math_type(all.convolution, math)?;
        }
        Ok(all)
    }
}
