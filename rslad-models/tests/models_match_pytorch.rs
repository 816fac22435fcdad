//! Every architecture against the official PyTorch classes: names, shapes, logits, gradients and
//! running statistics, at the tolerances that PyTorch's own f32 results suggest.

mod common;

use candle_core::Tensor;
use common::{Goldens, cosine, filled, images, json, mean_cross_entropy, relative_error, values};
use rslad_models::{ArchSpec, Classifier, Network};

/// (reference name, key list, architecture, options)
const NARROW: &[(&str, &str, &str, &str)] = &[
    ("resnet_w8_c10", "narrow/resnet_w8_c10", "resnet18", "width = 8"),
    ("resnet_w8_c100", "narrow/resnet_w8_c10", "resnet18", "width = 8\nclasses = 100"),
    ("tinynet_w16_c10", "narrow/tinynet_w16", "tiny_cnn", "width = 16"),
];

struct Case {
    name: String,
    network: Network,
    info: serde_json::Value,
    goldens: Goldens,
}

impl Case {
    fn new((name, keys, arch, options): (&str, &str, &str, &str)) -> Self {
        let info = json("models_info.json")[name].clone();
        let arch = ArchSpec::published(arch, &options.parse().unwrap()).unwrap();
        let official: Vec<String> = official_entries(keys).into_iter().map(|(name, _)| name).collect();
        let stream0 = info["stream0"].as_u64().unwrap();
        let network = filled(&arch, &official, stream0, info["gain"].as_f64().unwrap());
        Self { name: name.into(), network, info, goldens: Goldens::read("models.safetensors") }
    }

    fn number(&self, key: &str) -> usize {
        self.info[key].as_u64().unwrap() as usize
    }

    /// The first images of the input stream, and their labels.
    fn batch(&self, n: usize) -> (Tensor, Vec<u32>) {
        let all = self.number("batch_eval").max(self.number("batch_train"));
        let x = images(self.number("input_stream") as u64, all, self.number("size"));
        let labels = (0..n).map(|i| ((7 * i + 3) % self.number("classes")) as u32);
        (x.narrow(0, 0, n).unwrap(), labels.collect())
    }

    fn truth(&self, item: &str) -> Vec<f64> {
        self.goldens.values(&format!("{}/{item}", self.name))
    }

    fn assert_close(&self, item: &str, ours: &Tensor, tolerance: f64) {
        let error = relative_error(&values(ours), &self.truth(item));
        assert!(error < tolerance, "{} {item}: relative error {error:e}, tolerance {tolerance:e}", self.name);
    }

    /// At most one image may differ, by the flip of a single ReLU.
    fn assert_input_gradient(&self, item: &str, ours: &Tensor, cosine_of_flipped: f64) {
        let truth = self.truth(item);
        let largest = truth.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let pixels = truth.len() / ours.dim(0).unwrap();
        let ours = values(ours);
        let off: Vec<_> = ours
            .chunks(pixels)
            .zip(truth.chunks(pixels))
            .filter(|(a, b)| a.iter().zip(*b).any(|(a, b)| (a - b).abs() > 2e-5 * largest))
            .collect();
        assert!(off.len() <= 1, "{} {item}: {} images differ", self.name, off.len());
        for (a, b) in off {
            assert!(cosine(a, b) > cosine_of_flipped, "{} {item}: cosine {}", self.name, cosine(a, b));
        }
    }
}

fn official_entries(keys: &str) -> Vec<(String, Vec<usize>)> {
    let entries = json("model_keys.json")[keys]["entries"].as_array().unwrap().clone();
    let shape =
        |v: &serde_json::Value| v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let entry = |e: &serde_json::Value| (e[0].as_str().unwrap().to_string(), shape(&e[1]));
    entries.iter().map(entry).filter(|(name, _)| !name.starts_with("sub_block1.")).collect()
}

#[test]
fn names_order_and_shapes_are_those_of_the_official_state_dicts() {
    let check = |keys: &str, arch: &str, options: &str| {
        let graph = ArchSpec::published(arch, &options.parse().unwrap()).unwrap().graph().unwrap();
        let ours: Vec<_> = graph.entries().iter().map(|e| (e.name.clone(), e.shape.clone())).collect();
        assert_eq!(ours, official_entries(keys), "{keys}");
    };
    check("cifar10/resnet18", "resnet18", "");
    check("cifar100/resnet18", "resnet18", "classes = 100");
    check("narrow/resnet_w8_c10", "resnet18", "width = 8");
    check("narrow/tinynet_w16", "tiny_cnn", "width = 16");
}

#[test]
fn parameter_and_mac_counts_are_those_of_the_papers() {
    let check = |arch: &str, options: &str, parameters: usize, gmacs: Option<f64>| {
        let graph = ArchSpec::published(arch, &options.parse().unwrap()).unwrap().graph().unwrap();
        assert_eq!(graph.n_parameters(), parameters, "{arch} {options}");
        if let Some(expected) = gmacs {
            let ours = graph.macs(32, 32).unwrap() as f64 / 1e9;
            assert!((ours - expected).abs() < 6e-4 * expected, "{arch} {options}: {ours} GMAC");
        }
    };
    check("resnet18", "", 11_173_962, Some(0.5554));
    check("resnet18", "classes = 100", 11_220_132, None);
    check("resnet18", "width = 8", 176_402, None);
    check("resnet18", "width = 8\nblocks = '1,1,1'\nin_channels = 1", 19_810, None);
    check("tiny_cnn", "", 24_346, None);
}

#[test]
fn eval_mode_matches_pytorch() {
    for case in NARROW.iter().map(|&c| Case::new(c)) {
        let (x, y) = case.batch(case.number("batch_eval"));
        let frozen = case.network.freeze().unwrap();
        case.assert_close("eval/logits64", &frozen.logits(&x).unwrap(), 1e-5);
        let gradient = frozen.gradient(&x, &mean_cross_entropy(y)).unwrap();
        case.assert_close("eval/loss64", &gradient.loss.sum_all().unwrap().reshape(1).unwrap(), 1e-5);
        case.assert_input_gradient("eval/input_grad_of64", &gradient.dx, 0.99);
    }
}

#[test]
fn train_mode_matches_pytorch() {
    for case in NARROW.iter().map(|&c| Case::new(c)) {
        let (x, y) = case.batch(case.number("batch_train"));
        let objective = mean_cross_entropy(y);
        let mut training = case.network.training();
        let pass = training.forward(&x).unwrap();
        case.assert_close("train/logits64", pass.logits(), 2e-5);
        let rows: Vec<u32> = (0..x.dim(0).unwrap() as u32).collect();
        let dlogits = rslad_models::Objective::value_and_grad(&objective, &rows, pass.logits()).unwrap().1;
        training.backward(pass, &dlogits).unwrap();
        assert_parameter_gradients(&case, &training.take_gradients().unwrap());
        assert_running_statistics(&case);

        training.forward(&x).unwrap(); // the reference ran a second forward before it evaluated
        let (x, _) = case.batch(case.number("batch_eval"));
        let after = case.network.freeze().unwrap().logits(&x).unwrap();
        case.assert_close("eval_after_train/logits64", &after, 2e-5);
    }
}

#[test]
fn the_train_mode_attack_view_matches_pytorch() {
    for case in NARROW.iter().map(|&c| Case::new(c)) {
        let (x, y) = case.batch(case.number("batch_train"));
        let training = case.network.training();
        let gradient = training.attack_view().gradient(&x, &mean_cross_entropy(y)).unwrap();
        case.assert_input_gradient("train/input_grad_of64", &gradient.dx, 0.999);
        assert_running_statistics(&case); // the view updates them, as the released codes do
    }
}

fn assert_parameter_gradients(case: &Case, gradients: &[Tensor]) {
    let stats = case.truth("train/param_grad_stats64"); // [P, 4]: norm, sum, first, last
    let names: Vec<&str> =
        case.info["param_names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    let largest = stats.chunks(4).fold(0.0, |m: f64, s| m.max(s[0]));
    let norm = |t: &Tensor| values(t).iter().map(|v| v * v).sum::<f64>().sqrt();
    let mut ours = case.network.parameters().map(|(name, _)| name).zip(gradients);
    for (name, expected) in names.iter().zip(stats.chunks(4)).filter(|(n, _)| !n.starts_with("sub_block1.")) {
        let (our_name, gradient) = ours.next().unwrap();
        assert_eq!(our_name, *name);
        let error = (norm(gradient) - expected[0]).abs() / (expected[0] + 1e-3 * largest);
        assert!(error < 2e-5, "{} gradient of {name}: error {error:e}", case.name);
    }
    assert!(ours.next().is_none());
    case.assert_close("train/grad_first_param64", &gradients[0], 1e-4);
    case.assert_close("train/grad_last_param64", &gradients[gradients.len() - 1], 1e-5);
}

fn assert_running_statistics(case: &Case) {
    let stats = case.truth("bn_stats_after_train64"); // [S, 4]: norm, sum, first, last
    let names = case.info["bn_stat_names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap());
    let state: std::collections::HashMap<String, Tensor> =
        case.network.params().state_dict().unwrap().into_iter().collect();
    for (name, expected) in names.zip(stats.chunks(4)).filter(|(n, _)| !n.starts_with("sub_block1.")) {
        let v = values(&state[name]);
        let norm = v.iter().map(|v| v * v).sum::<f64>().sqrt();
        for (ours, truth) in [(norm, expected[0]), (v[0], expected[2]), (v[v.len() - 1], expected[3])] {
            assert!(
                (ours - truth).abs() < 1e-5 * expected[0],
                "{} {name}: {ours}, expected {truth}",
                case.name
            );
        }
        let counter = name.rsplit_once('.').unwrap().0.to_string() + ".num_batches_tracked";
        assert_eq!(values(&state[&counter]), [1.0], "{counter}");
    }
}
