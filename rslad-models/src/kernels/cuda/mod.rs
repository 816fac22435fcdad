//! The seam of the device executor on an NVIDIA GPU: memory, launches of the kernels in `kernels.cu`, and
//! convolutions through cuDNN or, of single pixels, cuBLAS.
//!
//! Everything is put in line on candle's stream and nothing waits, so work of ours and of candle's own operations
//! stays in order. The kernels are compiled when a device is first used, for its capability, by the compiler that
//! comes with the CUDA libraries (NVRTC): a build needs no compiler of its own for them.

mod cudnn;
mod product;

use crate::device::Precision;
use crate::error::{Error, Result};
use crate::exec::device::{Argument, Convolution, Kernel, Launch, Number, Way};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, LaunchConfig, PushKernelArg, result, sys,
};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Device, Storage, Tensor};
use half::bf16;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

const SOURCE: &str = include_str!("kernels.cu");

/// Threads of a block: enough to fill a multiprocessor with few blocks, few enough for any register count.
const BLOCK: u32 = 256;

/// A GPU.
#[derive(Clone)]
pub(crate) struct Cuda {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    precision: Precision,
    functions: Arc<Functions>,
}

type Functions = HashMap<Kernel, CudaFunction>;

/// Numbers on the GPU.
pub(crate) enum Memory {
    Bf16(CudaSlice<bf16>),
    F32(CudaSlice<f32>),
    F64(CudaSlice<f64>),
}

/// What went wrong, in the words of CUDA's libraries.
fn refused(what: &str) -> impl FnOnce(Box<dyn Debug>) -> Error + '_ {
    move |error| Error::Other(format!("the GPU refused {what}: {error:?}"))
}

trait OrRefused<T> {
    fn or_refused(self, what: &str) -> Result<T>;
}

impl<T, E: Debug + 'static> OrRefused<T> for std::result::Result<T, E> {
    fn or_refused(self, what: &str) -> Result<T> {
        self.map_err(|error| refused(what)(Box::new(error)))
    }
}

impl Cuda {
    /// # Errors
    /// When the kernels do not compile for the device.
    pub(crate) fn new(device: &CudaDevice, precision: Precision) -> Result<Self> {
        let functions = functions(device)?;
        Ok(Self { stream: device.cuda_stream(), device: device.clone(), precision, functions })
    }

    /// A convolution of the numbers that the precision says.
    fn convolve_in<T>(
        &self,
        precision: Precision,
        way: Way,
        convolution: &Convolution,
        from: [&CudaSlice<T>; 2],
        into: &mut CudaSlice<T>,
    ) -> Result<()> {
        let Self { device, stream, .. } = self;
        check(way, convolution, [from[0].len(), from[1].len(), into.len()])?;
        match convolution.product(way) {
            Some(product) => {
                product::multiply(&device.cublas_handle(), stream, precision, &product, from, into)
            }
            None => cudnn::Place { device, stream }.convolve(precision, way, convolution, from, into),
        }
    }
}

/// Whether the numbers of x, w and y are as many as the convolution says.
fn check(way: Way, convolution: &Convolution, lens: [usize; 3]) -> Result<()> {
    let expected = convolution.lens_of(way);
    match lens == expected {
        true => Ok(()),
        false => Err(Error::Other(format!("a convolution got {lens:?} numbers, expected {expected:?}"))),
    }
}

/// Freed memory stays with this process, or each wait for the GPU would give it back and the next step ask for it again. And
/// no launch records events for other streams to wait for: there are none.
pub(crate) fn ready(device: &Device) -> candle_core::Result<()> {
    let cuda = device.as_cuda_device()?;
    // SAFETY: all memory of this device is used on its one stream.
    unsafe { cuda.disable_event_tracking() };
    let (context, mut kept) = (cuda.cuda_stream().context().clone(), u64::MAX);
    let threshold = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the device is open, and the attribute is a number of 64 bits.
    let set = unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device());
        pool.and_then(|pool| result::mem_pool::set_attribute(pool, threshold, (&raw mut kept).cast()))
    };
    set.or_else(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_NOT_SUPPORTED => Ok(()), // a GPU without pools
        _ => Err(candle_core::Error::wrap(error)),
    })
}

/// The kernels of a device, compiled once.
fn functions(device: &CudaDevice) -> Result<Arc<Functions>> {
    static COMPILED: Mutex<Option<HashMap<DeviceId, Arc<Functions>>>> = Mutex::new(None);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let compiled = compiled.get_or_insert_default();
    if let Some(functions) = compiled.get(&device.id()) {
        return Ok(Arc::clone(functions));
    }
    let stream = device.cuda_stream();
    let context = stream.context();
    let (major, minor) = context.compute_capability().or_refused("to say its capability")?;
    let options = CompileOptions {
        fmad: Some(false), // as the kernels' twins, which tests compare them with
        options: vec![format!("--gpu-architecture=compute_{major}{minor}")],
        name: Some("kernels.cu".into()),
        ..CompileOptions::default()
    };
    let ptx = compile_ptx_with_opts(SOURCE, options).or_refused("the source of its kernels")?;
    let module = context.load_module(ptx).or_refused("its kernels")?;
    let function =
        |kernel: &Kernel| Ok((*kernel, module.load_function(kernel.name()).or_refused(kernel.name())?));
    let functions = Arc::new(Kernel::ALL.iter().map(function).collect::<Result<Functions>>()?);
    compiled.insert(device.id(), Arc::clone(&functions));
    Ok(functions)
}

impl Launch for Cuda {
    type Memory = Memory;

    fn precision(&self) -> Precision {
        self.precision
    }

    fn room(&self, len: usize, number: Number) -> Result<Memory> {
        // SAFETY: the numbers are any bits, and whoever asks for room writes all of it before it is read.
        unsafe {
            match number {
                Number::Bf16 => self.stream.alloc(len).map(Memory::Bf16),
                Number::F32 => self.stream.alloc(len).map(Memory::F32),
                Number::F64 => self.stream.alloc(len).map(Memory::F64),
            }
        }
        .or_refused(&format!("room for {len} numbers; use a smaller batch"))
    }

    fn launch(&self, kernel: Kernel, total: usize, arguments: &mut [Argument<'_, Memory>]) -> Result<()> {
        let threads = u32::try_from(total).or_refused(kernel.name())?;
        let function =
            self.functions.get(&kernel).ok_or_else(|| Error::Other(format!("no kernel {kernel:?}")))?;
        let nothing = 0_u64; // a null pointer
        let mut launch = self.stream.launch_builder(function);
        launch.arg(&threads);
        for argument in arguments {
            match argument {
                Argument::In(Memory::Bf16(values)) => launch.arg(&*values),
                Argument::In(Memory::F32(values)) => launch.arg(&*values),
                Argument::In(Memory::F64(values)) => launch.arg(&*values),
                Argument::Out(Memory::Bf16(values)) => launch.arg(values),
                Argument::Out(Memory::F32(values)) => launch.arg(values),
                Argument::Out(Memory::F64(values)) => launch.arg(values),
                Argument::Nothing => launch.arg(&nothing),
                Argument::Count(n) => launch.arg(&*n),
                Argument::F32(v) => launch.arg(&*v),
                Argument::F64(v) => launch.arg(&*v),
            };
        }
        let config = LaunchConfig {
            grid_dim: (threads.div_ceil(BLOCK).max(1), 1, 1),
            block_dim: (BLOCK, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the arguments are those of the kernel's signature, which tests hold every launch against; each
        // thread below `total` stays inside them and the others do nothing.
        unsafe { launch.launch(config) }.or_refused(kernel.name())?;
        Ok(())
    }

    fn convolve(
        &self,
        way: Way,
        convolution: &Convolution,
        from: [&Memory; 2],
        into: &mut Memory,
    ) -> Result<()> {
        match (from[0], from[1], into) {
            (Memory::F32(a), Memory::F32(b), Memory::F32(into)) => {
                self.convolve_in(self.precision, way, convolution, [a, b], into)
            }
            (Memory::Bf16(a), Memory::Bf16(b), Memory::Bf16(into)) => {
                self.convolve_in(Precision::Bf16, way, convolution, [a, b], into)
            }
            _ => Err(Error::Other("a convolution is of f32 or of bf16".into())),
        }
    }

    fn take(&self, tensor: &Tensor) -> Result<Memory> {
        let tensor = tensor.contiguous()?;
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            return Err(Error::Other(format!(
                "a tensor is on {:?}, expected a GPU",
                tensor.device().location()
            )));
        };
        let (first, len) = (layout.start_offset(), tensor.elem_count());
        let values = storage.as_cuda_slice::<f32>()?.slice(first..first + len);
        let mut copy = self.room(len, Number::F32)?;
        if let Memory::F32(copy) = &mut copy {
            self.stream.memcpy_dtod(&values, copy).or_refused("a copy")?;
        }
        Ok(copy)
    }

    fn give(&self, memory: Memory, shape: &[usize]) -> Result<Tensor> {
        let Memory::F32(values) = memory else { return Err(Error::Other("a tensor is of f32".into())) };
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(values, self.device.clone()));
        Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
    }
}
