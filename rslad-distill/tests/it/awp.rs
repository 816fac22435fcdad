//! Adversarial weight perturbation: the gradient of the loss at weights moved up that gradient.

use crate::common::by_hand::{Scene, bits, inner, state_bits};
use crate::common::values;
use rslad_distill::awp::AwpConfig;
use rslad_distill::step::{StepConfig, StepOutput};
use rslad_distill::{Method, methods};

const METHODS: [&str; 3] = [
    "name = 'trades'\nbeta = 6.0",
    "name = 'rslad'\nalpha = 0.8333333333333334\nkl_scale = 1.0",
    "name = 'adaad'\nalpha = 0.7\nkl_scale = 1.0",
];

fn method(keys: &str) -> Box<dyn Method> {
    methods::build(&keys.parse().unwrap()).unwrap()
}

fn step(scene: &Scene, method: &dyn Method, awp: Option<&AwpConfig>) -> StepOutput {
    let inner = inner(2, "frozen");
    scene.step_as(method, &StepConfig { inner: Some(&inner), awp, micro_batch: None }).unwrap()
}

/// A scene whose weights are moved by hand: `w + gamma |w| g / |g|`, tensor by tensor.
fn moved(gamma: f64, plain: &StepOutput) -> Scene {
    let scene = Scene::new();
    for ((name, w), g) in scene.student.parameters().zip(&plain.gradients) {
        let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
        if name.ends_with("weight") && w.rank() > 1 {
            let scale = gamma * norm(&values(w.as_tensor())) / norm(&values(g));
            w.set(&(w.as_detached_tensor() + (g * scale).unwrap()).unwrap()).unwrap();
        }
    }
    scene
}

#[test]
fn the_gradient_is_the_slope_of_the_loss_at_the_perturbed_weights() {
    let awp = AwpConfig { gamma: 0.05, warmup: 8 }; // the scene is in epoch 9
    for keys in METHODS {
        let method = method(keys);
        let plain = step(&Scene::new(), method.as_ref(), None);
        let scene = Scene::new();
        let weights = || scene.student.parameters().map(|(_, w)| bits(w.as_tensor())).collect::<Vec<_>>();
        let before = weights();
        let out = step(&scene, method.as_ref(), Some(&awp));
        assert_eq!(weights(), before, "{keys}: the weights are given back");
        assert_eq!(bits(&out.x_adv), bits(&plain.x_adv), "{keys}: the attack is at the present weights");

        let there = moved(awp.gamma, &plain);
        there.check_gradient(keys, method.as_ref(), &out);
        let (uphill, here) = (out.terms.value().unwrap(), plain.terms.value().unwrap());
        assert!(uphill > here, "{keys}: the loss went from {here} to {uphill}");
    }
}

#[test]
fn only_the_forwards_of_the_descent_move_the_running_statistics() {
    let awp = AwpConfig { gamma: 0.05, warmup: 0 };
    for keys in METHODS {
        let method = method(keys);
        let plain_scene = Scene::new();
        let plain = step(&plain_scene, method.as_ref(), None);
        let scene = Scene::new();
        let out = step(&scene, method.as_ref(), Some(&awp));
        assert_eq!(scene.batches_tracked(), plain_scene.batches_tracked(), "{keys}");

        let there = moved(awp.gamma, &plain);
        there.forwards(&method.plan(), &there.student, &out.x_adv);
        let running = |scene: &Scene| {
            let state = state_bits(&scene.student).into_iter();
            state.filter(|(name, _)| name.contains("running")).collect::<Vec<_>>()
        };
        for ((name, ours), (_, truth)) in running(&scene).into_iter().zip(running(&there)) {
            let value = |bits: &u64| f64::from(f32::from_bits(*bits as u32));
            for (a, b) in ours.iter().map(value).zip(truth.iter().map(value)) {
                assert!((a - b).abs() < 1e-5 * b.abs().max(0.1), "{keys}: {name} is {a}, expected {b}");
            }
        }
    }
}

#[test]
fn within_its_warmup_it_changes_nothing() {
    let awp = AwpConfig { gamma: 0.05, warmup: 9 };
    let method = method(METHODS[1]);
    let [with, without] = [Some(&awp), None].map(|awp| step(&Scene::new(), method.as_ref(), awp));
    let all = |out: &StepOutput| out.gradients.iter().map(bits).collect::<Vec<_>>();
    assert_eq!(all(&with), all(&without));
}
