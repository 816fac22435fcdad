//! Gradients of micro-batches add up to that of the batch; batch statistics are those of each.

use crate::common::by_hand::{Scene, bits, inner};
use crate::common::{relative_l2, values};
use rslad_distill::step::{StepConfig, StepOutput, judge};
use rslad_distill::{Method, methods};
use rslad_models::Network;
use rslad_models::graph::GraphBuilder;

fn method(keys: &str) -> Box<dyn Method> {
    methods::build(&keys.parse().unwrap()).unwrap()
}

const METHODS: [&str; 5] = [
    "name = 'natural'",
    "name = 'sat'",
    "name = 'trades'\nbeta = 6.0",
    "name = 'iad2'\nalpha1 = 0.5\nalpha2 = 0.25\nbeta = 0.1\ntau = 2.0\nkl_scale = 1.0\nbegin = 8",
    "name = 'rslad'\nalpha = 0.8333333333333334\nkl_scale = 0.1",
];

fn step(scene: &Scene, method: &dyn Method, micro_batch: Option<usize>) -> StepOutput {
    let inner = inner(3, "frozen");
    scene.step_as(method, &StepConfig { inner: Some(&inner), awp: None, micro_batch }).unwrap()
}

/// The scene with a student that has no normalization over its batch.
fn without_batch_norm() -> Scene {
    let (mut g, x) = GraphBuilder::new(1);
    let x = g.conv(x, "conv1", 4, 3, 1);
    let x = g.relu(x);
    let x = g.conv(x, "conv2", 6, 3, 2);
    let x = g.relu(x);
    let student = Network::from_graph(g.head(x, "linear", 4), 1).unwrap();
    Scene { student, ..Scene::new() }
}

#[test]
fn without_batch_norm_they_are_the_whole_batch() {
    for keys in METHODS {
        let (method, scene) = (method(keys), without_batch_norm());
        let whole = step(&scene, method.as_ref(), None);
        for micro_batch in [2, 4, 5] {
            let parts = step(&scene, method.as_ref(), Some(micro_batch));
            assert_eq!(bits(&parts.x_adv), bits(&whole.x_adv), "{keys}: x_adv by {micro_batch}");
            let (a, b) = (parts.terms.value().unwrap(), whole.terms.value().unwrap());
            assert!((a - b).abs() < 1e-6 * b.abs(), "{keys}: loss {a} by {micro_batch}, expected {b}");
            for (ours, truth) in parts.gradients.iter().zip(&whole.gradients) {
                let error = relative_l2(&values(ours), &values(truth));
                assert!(error < 1e-5, "{keys}: gradient by {micro_batch} off by {error:e}");
            }
        }
    }
}

#[test]
fn a_micro_batch_as_large_as_the_batch_is_the_batch() {
    for keys in METHODS {
        let method = method(keys);
        let [whole, same] = [None, Some(6)].map(|n| step(&Scene::new(), method.as_ref(), n));
        let all = |out: &StepOutput| out.gradients.iter().map(bits).collect::<Vec<_>>();
        assert_eq!(all(&whole), all(&same), "{keys}");
    }
}

#[test]
fn batch_statistics_are_those_of_a_micro_batch() {
    let method = method(METHODS[4]);
    let scene = Scene::new();
    let parts = step(&scene, method.as_ref(), Some(3));
    assert_eq!(scene.batches_tracked(), 4, "two forwards of each of two micro-batches");
    let whole = step(&Scene::new(), method.as_ref(), None);
    let differs = |(a, b)| relative_l2(&values(a), &values(b)) > 1e-3;
    assert!(parts.gradients.iter().zip(&whole.gradients).any(differs));
}

#[test]
fn a_held_out_batch_is_judged_without_learning_from_it() {
    for keys in METHODS {
        let (method, scene, inner) = (method(keys), Scene::new(), inner(3, "batch_statistics"));
        let config = StepConfig { inner: Some(&inner), ..StepConfig::default() };
        let mut players = scene.players().unwrap();
        let terms = judge(method.as_ref(), &config, &mut players, &scene.input()).unwrap();
        assert!(terms.value().unwrap().is_finite(), "{keys}");
        assert_eq!(scene.batches_tracked(), 0, "{keys}: running statistics moved");
    }
}
