//! Drawn logits for the forwards that a method declares, and slopes to compare its gradients with.

use crate::common::by_hand::stream;
use candle_core::{DType, Device, Tensor};
use rslad_distill::Method;
use rslad_distill::method::{Forwards, Plan, Progress, Who};

/// Logits of every declared forward: leaves for the student in train mode, as in a step.
pub struct Logits {
    pub y: Tensor,
    pub all: Vec<(&'static str, Who, Tensor)>,
    progress: Progress,
}

impl Logits {
    /// Spread around 0 by `scale`; about every other one at its very ends with `extreme`.
    pub fn draw(plan: &Plan, n: usize, classes: usize, scale: f64, extreme: bool, id: u64) -> Self {
        let mut draws = stream("logits", id);
        let mut value = || {
            let noise = f64::from(draws.normal());
            match (extreme, draws.below(4)) {
                (true, 0) => scale + noise,
                (true, 1) => noise - scale,
                _ => scale.min(5.0) * noise,
            }
        };
        let mut all = Vec::new();
        for spec in plan.forwards() {
            let values: Vec<f64> = (0..n * classes).map(|_| value()).collect();
            all.push((spec.name, spec.who, Tensor::from_vec(values, (n, classes), &Device::Cpu).unwrap()));
        }
        let mut labels = stream("labels", id);
        let y: Vec<u32> = (0..n).map(|_| labels.below(classes as u32)).collect();
        let progress = Progress { epoch: 1 + id % 20, epochs: 20 };
        Self { y: Tensor::from_vec(y, n, &Device::Cpu).unwrap(), all, progress }
    }

    pub fn forwards(&self, plan: &Plan, get: impl Fn(usize, &Tensor) -> Tensor) -> Forwards {
        let mut forwards = Forwards::new(&self.y, plan.labels, self.progress);
        for (i, (name, _, logits)) in self.all.iter().enumerate() {
            forwards.push(name, get(i, logits));
        }
        forwards
    }

    pub fn loss(&self, method: &dyn Method, plan: &Plan, moved: Option<(usize, &Tensor)>) -> f64 {
        let forwards = self.forwards(plan, |i, logits| match moved {
            Some((j, other)) if i == j => other.clone(),
            _ => logits.clone(),
        });
        method.outer(&forwards).unwrap().value().unwrap()
    }
}

pub fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// d f / d t by fourth-order central differences, element by element.
pub fn differences(t: &Tensor, f: impl Fn(&Tensor) -> f64) -> Vec<f64> {
    let h = 1e-4;
    let base = values(t);
    let at = |i: usize, steps: f64| {
        let mut moved = base.clone();
        moved[i] += steps * h;
        f(&Tensor::from_vec(moved, t.dims(), &Device::Cpu).unwrap())
    };
    let slope = |i| (8.0 * (at(i, 1.0) - at(i, -1.0)) - (at(i, 2.0) - at(i, -2.0))) / (12.0 * h);
    (0..base.len()).map(slope).collect()
}

pub fn assert_close(what: &str, ours: &[f64], truth: &[f64], scale: f64) {
    let size = truth.iter().fold(scale, |m: f64, v| m.max(v.abs()));
    for (a, b) in ours.iter().zip(truth) {
        assert!((a - b).abs() <= 1e-7 * size, "{what}: {a}, expected {b} (of {size})");
    }
}
