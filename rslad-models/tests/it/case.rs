//! One reference network: its closed-form weights and images, and what PyTorch made of them.

use crate::common::{self, Goldens, cosine, filled, images, json, relative_error, values};
use candle_core::Tensor;
use rslad_models::{ArchSpec, Network};
use std::collections::HashMap;

/// The files of reference outputs, and the notes that belong to them.
const FILES: [(&str, &str); 3] = [
    ("models.safetensors", "models_info.json"),
    ("extra.safetensors", "extra_info.json"),
    ("models_full.safetensors", "models_full_info.json"),
];

pub struct Case {
    pub name: String,
    pub network: Network,
    info: serde_json::Value,
    goldens: Goldens,
}

impl Case {
    pub fn new(name: &str, arch: &str, options: &str) -> Self {
        let notes = FILES.iter().map(|(goldens, info)| (goldens, json(info)[name].clone()));
        let (goldens, info) = notes.into_iter().find(|(_, info)| !info.is_null()).expect(name);
        let arch = ArchSpec::published(arch, &options.parse().unwrap()).unwrap();
        let with_dead_block = info["unused_params"].as_array().is_some_and(|unused| !unused.is_empty());
        let official = official_names(&arch, with_dead_block);
        let stream0 = info["stream0"].as_u64().unwrap();
        let network = filled(&arch, &official, stream0, info["gain"].as_f64().unwrap());
        Self { name: name.into(), network, info, goldens: Goldens::read(goldens) }
    }

    pub fn number(&self, key: &str) -> usize {
        self.info[key].as_u64().unwrap() as usize
    }

    /// The first images of the input stream, and their labels.
    pub fn batch(&self, n: usize) -> (Tensor, Vec<u32>) {
        let all = self.number("batch_eval").max(self.number("batch_train"));
        let x = images(self.number("input_stream") as u64, all, self.number("size"));
        let labels = (0..n).map(|i| ((7 * i + 3) % self.number("classes")) as u32);
        (x.narrow(0, 0, n).unwrap(), labels.collect())
    }

    fn truth(&self, item: &str) -> Vec<f64> {
        self.goldens.values(&format!("{}/{item}", self.name))
    }

    pub fn assert_close(&self, item: &str, ours: &Tensor, tolerance: f64) {
        let error = relative_error(&values(ours), &self.truth(item));
        assert!(error < tolerance, "{} {item}: relative error {error:e}, tolerance {tolerance:e}", self.name);
    }

    /// As [`Case::assert_close`], or within 5e-3 while there are ReLUs that rounding may flip.
    pub fn assert_close_but_for_relus(
        &self,
        item: &str,
        ours: &Tensor,
        tolerance: f64,
        undecided_relus: impl FnOnce() -> usize,
    ) {
        let error = relative_error(&values(ours), &self.truth(item));
        if error >= tolerance {
            let undecided = undecided_relus();
            let excused = undecided > 0 && error < 5e-3;
            assert!(excused, "{} {item}: error {error:e}, {undecided} undecided ReLUs", self.name);
        }
    }

    /// Eval mode: at most one image may differ, by the flip of a single ReLU.
    pub fn assert_eval_input_gradient(&self, ours: &Tensor) {
        let off = self.images_that_differ("eval/input_grad_of64", ours);
        assert!(off.len() <= 1 && off.iter().all(|c| *c > 0.99), "{}: cosines {off:?}", self.name);
    }

    /// Every image agrees, or points the same way while there are ReLUs that rounding may flip: in train
    /// mode one flip reaches every image through the batch statistics, in a large network every image has
    /// flips of its own. `undecided_relus` counts them.
    pub fn assert_input_gradient(&self, item: &str, ours: &Tensor, undecided_relus: impl FnOnce() -> usize) {
        let off = self.images_that_differ(item, ours);
        if off.is_empty() {
            return;
        }
        let undecided = undecided_relus();
        let excused = undecided > 0 && off.iter().all(|c| *c > 0.999);
        assert!(excused, "{} {item}: {undecided} undecided ReLUs, cosines {off:?}", self.name);
    }

    /// The cosines of the images whose input gradient differs from the reference, which may hold the
    /// first images only.
    fn images_that_differ(&self, item: &str, ours: &Tensor) -> Vec<f64> {
        let truth = self.truth(item);
        let largest = truth.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let pixels = ours.elem_count() / ours.dim(0).unwrap();
        let differs =
            |(a, b): &(&[f64], &[f64])| a.iter().zip(*b).any(|(a, b)| (a - b).abs() > 2e-5 * largest);
        let ours = values(ours);
        let off = ours.chunks(pixels).zip(truth.chunks(pixels)).filter(differs);
        off.map(|(a, b)| cosine(a, b)).collect()
    }

    /// Gradient norms of all parameters, in the order of the official state dict; within 5e-3 suffices
    /// while there are ReLUs that rounding may flip.
    pub fn assert_parameter_gradients(
        &self,
        gradients: &[Tensor],
        tolerance: f64,
        undecided_relus: impl FnOnce() -> usize,
    ) {
        let (error, name) = self.worst_parameter_gradient(gradients);
        if error >= tolerance {
            let undecided = undecided_relus();
            assert!(
                undecided > 0 && error < 5e-3,
                "{} gradient of {name}: error {error:e}, {undecided} undecided ReLUs",
                self.name
            );
        }
    }

    fn worst_parameter_gradient(&self, gradients: &[Tensor]) -> (f64, String) {
        let stats = self.truth("train/param_grad_stats64"); // [P, 4]: norm, sum, first, last
        let largest = stats.chunks(4).fold(0.0, |m: f64, s| m.max(s[0]));
        let mut ours = self.network.parameters().map(|(name, _)| name).zip(gradients);
        let mut worst = (0.0, String::new());
        for (name, expected) in self.used("param_names").zip(stats.chunks(4)).filter_map(used) {
            let (our_name, gradient) = ours.next().unwrap();
            assert_eq!(our_name, name);
            let error = (norm(&values(gradient)) - expected[0]).abs() / (expected[0] + 1e-3 * largest);
            assert!(error.is_finite(), "{} gradient of {name}", self.name);
            if error > worst.0 {
                worst = (error, name);
            }
        }
        assert!(ours.next().is_none());
        worst
    }

    /// Running statistics after one train-mode forward.
    pub fn assert_running_statistics(&self) {
        let stats = self.truth("bn_stats_after_train64"); // [S, 4]: norm, sum, first, last
        let state: HashMap<String, Tensor> =
            self.network.params().state_dict().unwrap().into_iter().collect();
        for (name, expected) in self.used("bn_stat_names").zip(stats.chunks(4)).filter_map(used) {
            let v = values(&state[&name]);
            for (ours, truth) in [(norm(&v), expected[0]), (v[0], expected[2]), (v[v.len() - 1], expected[3])]
            {
                let close = (ours - truth).abs() < 1e-5 * expected[0];
                assert!(close, "{} {name}: {ours}, expected {truth}", self.name);
            }
            let counter = name.rsplit_once('.').unwrap().0.to_string() + ".num_batches_tracked";
            assert_eq!(values(&state[&counter]), [1.0], "{counter}");
        }
    }

    /// The names of a list in the notes, `None` where our network has no such entry.
    fn used(&self, list: &str) -> impl Iterator<Item = Option<String>> {
        let names = self.info[list].as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_string());
        names.map(|name| (!name.starts_with(common::DEAD_BLOCK)).then_some(name))
    }
}

fn used<T>((name, value): (Option<String>, T)) -> Option<(String, T)> {
    name.map(|name| (name, value))
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The names of the official state dict, in order. `with_dead_block` adds the copy of `block1` that the
/// TRADES class builds after it and never uses.
pub fn official_names(arch: &ArchSpec, with_dead_block: bool) -> Vec<String> {
    let mut names: Vec<String> = arch.graph().unwrap().entries().iter().map(|e| e.name.clone()).collect();
    if with_dead_block {
        let end = names.iter().rposition(|name| name.starts_with("block1.")).unwrap() + 1;
        let block1 = names[..end].iter().filter(|name| name.starts_with("block1."));
        let dead: Vec<String> = block1.map(|name| format!("sub_{name}")).collect();
        names.splice(end..end, dead);
    }
    names
}
