//! Where networks run: the processor, or one of NVIDIA's GPUs.
//!
//! A network lives on a device. Its views take images from anywhere and answer where they were asked, so an
//! attack that keeps its points in memory runs on a network that does not. What a view computes is the same
//! up to rounding wherever it runs; on one device and build, the same to the bit.

use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock, PoisonError};

/// A device by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceSpec {
    /// The processor: `cpu`.
    Cpu,
    /// A GPU by its number: `cuda:N`; `cuda` is the first.
    Cuda(usize),
}

static CHOSEN: OnceLock<DeviceSpec> = OnceLock::new();

impl DeviceSpec {
    /// The device that `RSLAD_DEVICE` names, or that was set before; none where neither says anything.
    ///
    /// # Errors
    /// When the variable names no device.
    pub fn from_environment() -> Result<Option<Self>> {
        match (CHOSEN.get(), std::env::var("RSLAD_DEVICE")) {
            (Some(chosen), _) => Ok(Some(*chosen)),
            (None, Ok(name)) if !name.is_empty() => match name.parse() {
                Ok(spec) => Ok(Some(spec)),
                Err(Error::Other(message)) => Err(Error::Other(format!("`RSLAD_DEVICE`: {message}"))),
                Err(error) => Err(error),
            },
            _ => Ok(None),
        }
    }

    /// Sets the device for whoever asks from now on; wins over `RSLAD_DEVICE`. The first call counts.
    pub fn set(self) {
        CHOSEN.get_or_init(|| self);
    }

    /// The device, opened once in a process: tensors of two openings would not meet.
    ///
    /// # Errors
    /// When this build has no CUDA, or there is no such GPU that can be used: says which, and what to do.
    pub fn open(self) -> Result<Device> {
        static OPEN: Mutex<Option<HashMap<DeviceSpec, Device>>> = Mutex::new(None);
        let Self::Cuda(number) = self else { return Ok(Device::Cpu) };
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_default();
        if let Some(device) = open.get(&self) {
            return Ok(device.clone());
        }
        let device = open_cuda(number).map_err(Error::Other)?;
        Ok(open.entry(self).or_insert(device).clone())
    }

    /// Whether this build can compute on GPUs, and how.
    pub fn cuda_in_this_build() -> CudaBuild {
        match (cfg!(feature = "cuda"), cfg!(feature = "cudnn")) {
            (_, true) => CudaBuild::WithCudnn,
            (true, false) => CudaBuild::Plain,
            (false, false) => CudaBuild::None,
        }
    }
}

/// The numbers that a GPU multiplies in convolutions; sums are f32, and so is everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// f32 rounded to 10 bits of mantissa, on GPUs from compute capability 8.0; elsewhere f32.
    Tf32,
    /// bfloat16: f32 rounded to 7 bits of mantissa, on both sides of each convolution, as PyTorch's autocast.
    Bf16,
}

/// What a build knows of CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CudaBuild {
    /// Nothing.
    None,
    /// candle's operations: correct, and slow in training.
    Plain,
    /// Convolutions through cuDNN, and kernels of our own.
    WithCudnn,
}

/// What the GPU of an open device is: its name and compute capability; none of the processor.
pub fn gpu(device: &Device) -> Option<String> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        let context = device.cuda_stream().context().clone();
        let (name, (major, minor)) = (context.name().ok()?, context.compute_capability().ok()?);
        return Some(format!("{name}, compute capability {major}.{minor}"));
    }
    let _ = device;
    None
}

impl FromStr for DeviceSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = match text.split_once(':') {
            None if text == "cpu" => return Ok(Self::Cpu),
            None if text == "cuda" => Some(0),
            Some(("cuda", number)) if number.bytes().all(|b| b.is_ascii_digit()) => number.parse().ok(),
            _ => None,
        };
        let unknown =
            || Error::Other(format!("device `{text}`, expected cpu, cuda or cuda:N such as cuda:1"));
        number.map(Self::Cuda).ok_or_else(unknown)
    }
}

impl TryFrom<String> for DeviceSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DeviceSpec> for String {
    fn from(spec: DeviceSpec) -> Self {
        spec.to_string()
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(number: usize) -> std::result::Result<Device, String> {
    Err(format!(
        "device cuda:{number}: this build computes on the processor only; build one with `cargo xtask cuda build` \
         (docs/cuda.md), or write --device cpu"
    ))
}

/// One stream for all threads: work that one of them has begun is done before what another adds to it.
#[cfg(feature = "cuda")]
fn open_cuda(number: usize) -> std::result::Result<Device, String> {
    let device = Device::new_cuda_with_stream(number);
    #[cfg(feature = "cudnn")]
    let device = device.and_then(|device| crate::kernels::cuda::ready(&device).map(|()| device));
    device.map_err(|error| {
        let error = error.to_string();
        let reason = error.lines().next().unwrap_or_default();
        format!(
            "device cuda:{number}: no GPU can be used here ({reason}); `rslad doctor` says what is there, --device \
             cpu does without"
        )
    })
}

/// Where tests put their networks: on the device that `RSLAD_TEST_DEVICE` names, else on the processor. So a test has
/// one body for both; where a tolerance or a promise is the processor's alone, it asks.
///
/// # Panics
/// When the device cannot be opened: a test that ran elsewhere would say nothing of it.
pub fn test_device() -> Device {
    match std::env::var("RSLAD_TEST_DEVICE") {
        Ok(name) if !name.is_empty() => {
            let device = name.parse().and_then(DeviceSpec::open);
            device.unwrap_or_else(|error| panic!("`RSLAD_TEST_DEVICE`: {error}"))
        }
        _ => Device::Cpu,
    }
}

/// A tensor on the device of another.
pub(crate) fn beside(tensor: &Tensor, other: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(other.device())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for (text, spec) in
            [("cpu", DeviceSpec::Cpu), ("cuda", DeviceSpec::Cuda(0)), ("cuda:3", DeviceSpec::Cuda(3))]
        {
            assert_eq!(text.parse::<DeviceSpec>().unwrap(), spec);
            assert_eq!(spec.to_string().parse::<DeviceSpec>().unwrap(), spec);
        }
        for text in
            ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "cpu:0", "CUDA", "cuda:99999999999999999999"]
        {
            let message = text.parse::<DeviceSpec>().unwrap_err().to_string();
            assert!(message.contains(&format!("device `{text}`, expected cpu, cuda or cuda:N")), "{message}");
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_build_without_cuda_says_how_to_get_one() {
        let message = DeviceSpec::Cuda(1).open().unwrap_err().to_string();
        assert!(message.starts_with("device cuda:1: this build computes on the processor only"), "{message}");
        assert!(message.contains("`cargo xtask cuda build`"), "{message}");
        assert_eq!(DeviceSpec::cuda_in_this_build(), CudaBuild::None);
        assert!(DeviceSpec::Cpu.open().unwrap().is_cpu());
    }
}
