//! Initial weights: distributions, reproducibility, independence.

use crate::common::values;
use rslad_models::graph::{Init, Kind};
use rslad_models::{ARCHS, ArchSpec, Network};
use std::collections::HashMap;

fn network(arch: &str, options: &str, seed: u64) -> Network {
    Network::new(&ArchSpec::published(arch, &options.parse().unwrap()).unwrap(), seed).unwrap()
}

fn weights(network: &Network) -> HashMap<String, Vec<f64>> {
    let state = network.params().state_dict().unwrap().into_iter();
    state.map(|(name, t)| (name, values(&t))).collect()
}

/// Mean and variance agree with those of a distribution to 5 standard errors; `kurtosis` is the
/// distribution's E x^4 / (E x^2)^2.
fn assert_moments(name: &str, v: &[f64], variance: f64, kurtosis: f64) {
    let n = v.len() as f64;
    let mean = v.iter().sum::<f64>() / n;
    let square = v.iter().map(|v| v * v).sum::<f64>() / n;
    assert!(mean.abs() < 5.0 * (variance / n).sqrt(), "{name}: mean {mean}");
    let spread = 5.0 * variance * ((kurtosis - 1.0) / n).sqrt();
    assert!((square - variance).abs() < spread, "{name}: variance {square}, expected {variance}");
}

#[test]
fn only_the_published_wide_resnets_start_he_normal() {
    for arch in ARCHS {
        let expected = if arch.name == "wrn" { Init::HeNormal } else { Init::PyTorch };
        assert_eq!(network_graph(arch.name), expected, "{}", arch.name);
    }
}

fn network_graph(arch: &str) -> Init {
    ArchSpec::published(arch, &toml::Table::new()).unwrap().graph().unwrap().init()
}

#[test]
fn pytorchs_default_is_uniform_within_one_over_the_root_of_fan_in() {
    let cases = [
        ("resnet18", "width = 16"),
        ("resnet50", "width = 8"),
        ("mobilenet_v2", "divisor = 4"),
        ("dm_wrn", "depth = 10\nwidth = 4"),
        ("dm_preact_resnet18", "width = 16"),
        ("tiny_cnn", "width = 32"),
    ];
    for (arch, options) in cases {
        let network = network(arch, options, 11);
        let v = weights(&network);
        for e in network.graph().entries().iter().filter(|e| e.shape.len() > 1) {
            let fan_in: usize = e.shape[1..].iter().product(); // of one group, for depthwise ones
            assert_uniform(&e.name, &v[&e.name], fan_in);
            if e.shape.len() == 2 {
                assert_uniform(&e.name, &v[&e.name.replace("weight", "bias")], fan_in);
            }
        }
    }
}

fn assert_uniform(name: &str, v: &[f64], fan_in: usize) {
    let bound = 1.0 / (fan_in as f64).sqrt();
    let largest = v.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    assert!(largest < bound * (1.0 + 1e-6), "{name}: {largest} is above {bound}");
    let n = v.len() as f64; // P(largest < bound (1 - 10 / n)) = e^-10
    assert!(largest > bound * (1.0 - 10.0 / n), "{name}: largest {largest} of {n}, bound {bound}");
    assert_moments(name, v, bound * bound / 3.0, 9.0 / 5.0);
}

#[test]
fn he_normal_spreads_convolutions_by_their_fan_out_and_leaves_the_bias_zero() {
    let network = network("wrn", "depth = 10\nwidth = 4", 11);
    let v = weights(&network);
    let mut tail = 0;
    for e in network.graph().entries().iter().filter(|e| e.shape.len() == 4) {
        let variance = 2.0 / (e.shape[2] * e.shape[3] * e.shape[0]) as f64;
        assert_moments(&e.name, &v[&e.name], variance, 3.0);
        tail += v[&e.name].iter().filter(|v| v.abs() > 3.5 * variance.sqrt()).count();
    }
    assert!(tail > 0, "a normal distribution reaches beyond any uniform one of its variance");
    assert_uniform("fc.weight", &v["fc.weight"], 256);
    assert!(v["fc.bias"].iter().all(|&b| b == 0.0));
}

#[test]
fn batch_normalizations_start_as_the_identity() {
    for arch in ARCHS.iter().filter(|a| !a.name.ends_with("wrn")) {
        let network = network(arch.name, "", 3);
        let one = |name: &str, kind| match kind {
            Kind::Parameter => name.ends_with(".weight"),
            Kind::Buffer => name.ends_with(".running_var"),
            Kind::Counter => false,
        };
        let v = weights(&network);
        let vectors = network.graph().entries().iter().filter(|e| e.shape.len() < 2);
        for e in vectors.filter(|e| e.name != "linear.bias" && e.name != "logits.bias") {
            let expected = if one(&e.name, e.kind) { 1.0 } else { 0.0 };
            assert!(v[&e.name].iter().all(|&v| v == expected), "{} {}", arch.name, e.name);
        }
    }
}

#[test]
fn a_seed_gives_the_same_bits_and_another_seed_others() {
    for (arch, options) in [("wrn", "depth = 10\nwidth = 1"), ("mobilenet_v2", "divisor = 8")] {
        let (a, again, b) = (network(arch, options, 5), network(arch, options, 5), network(arch, options, 6));
        assert_eq!(weights(&a), weights(&again));
        let (a, b) = (weights(&a), weights(&b));
        for e in network(arch, options, 5).graph().entries().iter().filter(|e| e.shape.len() > 1) {
            assert_ne!(a[&e.name], b[&e.name], "{}", e.name);
        }
    }
}

#[test]
fn a_layer_keeps_its_weights_when_others_are_added() {
    let (short, long) =
        (network("resnet18", "width = 4\nblocks = '1'", 5), network("resnet18", "width = 4", 5));
    let (short, long) = (weights(&short), weights(&long));
    for name in ["conv1.weight", "layer1.0.conv1.weight", "layer1.0.conv2.weight"] {
        assert_eq!(short[name], long[name], "{name}");
    }
}
