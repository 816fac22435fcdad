//! What the tests against PyTorch share: reading reference outputs and the closed-form weights.
#![allow(dead_code)] // each test binary uses a part
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use candle_core::{DType, Device, Tensor};
use rslad_models::device::test_device;
use rslad_models::{ArchSpec, ClosureObjective, Error, Network, Objective};
use std::collections::HashMap;
use std::path::PathBuf;

/// Entries of the official TRADES state dict that its forward never uses begin with this.
pub const DEAD_BLOCK: &str = "sub_block1.";

/// Reference tensors by name.
pub struct Goldens(HashMap<String, Tensor>);

impl Goldens {
    pub fn read(file: &str) -> Self {
        Self(candle_core::safetensors::load(path(file), &Device::Cpu).unwrap())
    }

    pub fn tensor(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no reference `{name}`"))
    }

    /// All values as f64, row-major.
    pub fn values(&self, name: &str) -> Vec<f64> {
        values(self.tensor(name))
    }
}

pub fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(file)
}

pub fn json(file: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path(file)).unwrap()).unwrap()
}

pub fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference over largest value: the measure of the tolerance table.
pub fn relative_error(ours: &[f64], truth: &[f64]) -> f64 {
    assert_eq!(ours.len(), truth.len());
    let largest = truth.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    ours.iter().zip(truth).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs())) / largest
}

pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Element `k` of stream `s` of the splitmix64 generator behind the closed-form weights: 24 bits.
fn bits(s: u64, k: u64) -> u64 {
    let mut z = (s << 40).wrapping_add(k).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) >> 40
}

fn unit(s: u64, k: u64) -> f64 {
    bits(s, k) as f64 / f64::from(1 << 24)
}

fn symmetric(s: u64, k: u64) -> f64 {
    (2 * bits(s, k) + 1) as f64 / f64::from(1 << 24) - 1.0
}

/// Images `[n, 3, side, side]` of a stream.
pub fn images(stream: u64, n: usize, side: usize) -> Tensor {
    images_of(stream, [n, 3, side, side])
}

/// Images of this shape of a stream.
pub fn images_of(stream: u64, shape: [usize; 4]) -> Tensor {
    let n = shape.iter().product::<usize>() as u64;
    let values: Vec<f32> = (0..n).map(|k| unit(stream, k) as f32).collect();
    Tensor::from_vec(values, &shape, &Device::Cpu).unwrap()
}

/// The network with closed-form weights. `official` lists the entries of the official state dict, whose
/// places number the streams; entries that the network does not use are skipped.
pub fn filled(arch: &ArchSpec, official: &[String], stream0: u64, gain: f64) -> Network {
    let network = Network::new(arch, 0).unwrap();
    let fill = |e: &rslad_models::graph::Entry| {
        let place = official.iter().position(|name| *name == e.name).expect(&e.name);
        let s = stream0 + place as u64;
        let fan_in: usize = e.shape.iter().skip(1).product();
        let value = |k: u64| match () {
            () if e.shape.len() >= 2 => symmetric(s, k) * gain * (6.0 / fan_in as f64).sqrt(),
            () if e.name.ends_with("running_mean") => 0.1 * symmetric(s, k),
            () if e.name.ends_with("running_var") => 0.75 + 0.5 * unit(s, k),
            () if e.name.ends_with("num_batches_tracked") => 0.0,
            () if e.name.ends_with("weight") => 0.75 + 0.5 * unit(s, k),
            () => 0.2 * symmetric(s, k),
        };
        let n: usize = e.shape.iter().product();
        let values: Vec<f32> = (0..n as u64).map(|k| value(k) as f32).collect();
        (e.name.clone(), Tensor::from_vec(values, e.shape.as_slice(), &Device::Cpu).unwrap())
    };
    let tensors = network.params().entries().iter().map(fill).collect();
    network.params().load_state_dict(&tensors).unwrap();
    network.to_device(&test_device()).unwrap()
}

/// The network with closed-form weights in every entry, running statistics and all.
pub fn scrambled(arch: &ArchSpec, stream0: u64) -> Network {
    let names: Vec<String> = arch.graph().unwrap().entries().iter().map(|e| e.name.clone()).collect();
    filled(arch, &names, stream0, 1.0)
}

/// Mean cross entropy, as an objective whose values add up to it, in f64 on the logits.
pub fn mean_cross_entropy(y: Vec<u32>) -> impl Objective {
    ClosureObjective(move |rows: &[u32], logits: &Tensor| -> Result<Tensor, Error> {
        let n = y.len() as f64;
        let y: Vec<u32> = rows.iter().map(|&r| y[r as usize]).collect();
        let y = Tensor::new(y, logits.device())?.unsqueeze(1)?;
        let z = logits.to_dtype(DType::F64)?;
        let z = z.broadcast_sub(&z.max_keepdim(1)?.detach())?;
        let log_sum = z.exp()?.sum_keepdim(1)?.log()?;
        Ok(((log_sum - z.gather(&y, 1)?)?.squeeze(1)? * (1.0 / n))?)
    })
}
