//! What the tests share.

pub mod by_hand;
pub mod micro;
pub mod threads;

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::path::PathBuf;

pub fn goldens(file: &str) -> HashMap<String, Tensor> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(file);
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, tensor(&view))).collect()
}

fn tensor(view: &TensorView<'_>) -> Tensor {
    if view.dtype() != safetensors::Dtype::I8 {
        return view.load(&Device::Cpu).unwrap();
    }
    let values: Vec<f32> = view.data().iter().map(|&byte| f32::from(byte as i8)).collect(); // candle has no i8
    Tensor::from_vec(values, view.shape(), &Device::Cpu).unwrap()
}

pub fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference over largest value.
pub fn relative_error(ours: &[f64], truth: &[f64]) -> f64 {
    assert_eq!(ours.len(), truth.len());
    let largest = truth.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let difference = ours.iter().zip(truth).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
    assert!(ours.iter().all(|v| v.is_finite()));
    if largest == 0.0 { difference } else { difference / largest }
}

/// L2 norm of the difference over that of the truth.
pub fn relative_l2(ours: &[f64], truth: &[f64]) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
    norm(&mut ours.iter().zip(truth).map(|(a, b)| a - b)) / norm(&mut truth.iter().copied())
}
