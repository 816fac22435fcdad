//! Reading the reference files, and the measures that compare with them.

use candle_core::{DType, Device, Tensor};
use rslad_models::arch::ArchSpec;
use rslad_models::device::test_device;
use rslad_models::{Classifier, Frozen, Gradient, Network, Objective};
use safetensors::{Dtype, SafeTensors};
use std::path::PathBuf;

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(file)
}

/// A file of reference tensors; every type it holds fits f64.
pub(crate) struct Goldens(Vec<u8>);

impl Goldens {
    pub(crate) fn open(file: &str) -> Self {
        Self(std::fs::read(path(file)).unwrap_or_else(|e| panic!("{file}: {e}")))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).is_ok()
    }

    pub(crate) fn f64(&self, name: &str) -> Tensor {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let bytes = view.data();
        let values: Vec<f64> = match view.dtype() {
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
            Dtype::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            Dtype::U8 => bytes.iter().map(|b| f64::from(*b)).collect(),
            Dtype::I8 => bytes.iter().map(|b| f64::from(b.cast_signed())).collect(),
            Dtype::I16 => bytes.as_chunks().0.iter().map(|b| i16::from_le_bytes(*b).into()).collect(),
            Dtype::I32 => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
            other => panic!("{name} has the unexpected type {other:?}"),
        };
        Tensor::from_vec(values, view.shape(), &Device::Cpu).unwrap()
    }

    pub(crate) fn f32(&self, name: &str) -> Tensor {
        self.f64(name).to_dtype(DType::F32).unwrap()
    }

    pub(crate) fn labels(&self, name: &str) -> Tensor {
        self.f64(name).to_dtype(DType::U32).unwrap()
    }
}

/// A reference network.
pub(crate) fn network(arch: &str, options: &str, file: &str) -> Network {
    let arch = ArchSpec::parse(arch, options).unwrap();
    let weights = candle_core::safetensors::load(path(file), &Device::Cpu).unwrap();
    Network::with_state_dict(&arch, &weights).unwrap().to_device(&test_device()).unwrap()
}

/// A network in double precision that takes f32 images: what rounding has no part in.
pub(crate) struct Twin(Frozen);

impl Twin {
    pub(crate) fn new(network: &Network) -> Self {
        Self(network.in_double_precision().unwrap().freeze().unwrap())
    }
}

impl Classifier for Twin {
    fn n_classes(&self) -> usize {
        self.0.n_classes()
    }

    fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
        self.0.logits(&x.to_dtype(DType::F64)?)
    }

    fn gradient(&self, x: &Tensor, objective: &dyn Objective) -> rslad_models::Result<Gradient> {
        self.0.gradient(&x.to_dtype(DType::F64)?, objective)
    }
}

pub(crate) fn flat(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The share of entries within `tolerance` of each other.
pub(crate) fn share_within(a: &Tensor, b: &Tensor, tolerance: f64) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (flat(a), flat(b));
    a.iter().zip(&b).filter(|(a, b)| (*a - *b).abs() <= tolerance).count() as f64 / a.len() as f64
}

/// The largest difference, as a share of the largest value of `b`.
pub(crate) fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (flat(a), flat(b));
    let largest = b.iter().map(|v| v.abs()).fold(0.0, f64::max);
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, nan_max);
    if worst == 0.0 { 0.0 } else { worst / largest }
}

/// NaN stays: `f64::max` would hide it.
fn nan_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}
