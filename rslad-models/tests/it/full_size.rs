//! The published networks at full size against the official PyTorch classes. Minutes and gigabytes on the
//! reference executor, so these run where `RSLAD_SLOW_TESTS` is set.

use crate::case::Case;
use crate::common::mean_cross_entropy;
use crate::interpreter::{self, Statistics};
use rslad_models::{Classifier, Objective};

/// Compares both modes; `gradients` is the tolerance in train mode, where a flipped ReLU shows.
fn check(name: &str, arch: &str, options: &str, gradients: f64) {
    if std::env::var_os("RSLAD_SLOW_TESTS").is_none() {
        eprintln!("{name} skipped: set RSLAD_SLOW_TESTS=1 to run it");
        return;
    }
    let case = Case::new(name, arch, options);
    let (x_eval, y) = case.batch(case.number("batch_eval"));
    let frozen = case.network.freeze().unwrap();
    let gradient = frozen.gradient(&x_eval, &mean_cross_entropy(y)).unwrap();
    case.assert_close("eval/logits64", &gradient.logits, 1e-5);
    case.assert_close("eval/loss64", &gradient.loss.sum_all().unwrap().reshape(1).unwrap(), 1e-5);
    let undecided = |x, statistics| interpreter::run(&case.network, x, statistics).undecided_relus;
    let undecided_eval = || undecided(&x_eval, Statistics::Running);
    case.assert_input_gradient("eval/input_grad_of64", &gradient.dx, undecided_eval);
    drop((frozen, gradient));

    let (x, y) = case.batch(case.number("batch_train"));
    let mut training = case.network.training();
    let pass = training.forward(&x).unwrap();
    case.assert_close("train/logits64", pass.logits(), if arch == "mobilenet_v2" { 1e-4 } else { 2e-5 });
    let rows: Vec<u32> = (0..x.dim(0).unwrap() as u32).collect();
    let dlogits = mean_cross_entropy(y.clone()).value_and_grad(&rows, pass.logits()).unwrap().1;
    training.backward(pass, &dlogits).unwrap();
    let undecided_train = || undecided(&x, Statistics::Batch);
    case.assert_parameter_gradients(&training.take_gradients().unwrap(), gradients, undecided_train);
    case.assert_running_statistics();
    if arch != "wrn70-16" {
        training.forward(&x).unwrap(); // the reference ran a second forward of all but the largest
    }
    let after = case.network.freeze().unwrap().logits(&x_eval).unwrap();
    case.assert_close("eval_after_train/logits64", &after, 2e-5);
    let gradient = training.attack_view().gradient(&x, &mean_cross_entropy(y)).unwrap();
    case.assert_input_gradient("train/input_grad_of64", &gradient.dx, undecided_train);
}

#[test]
fn resnet18_matches_pytorch_at_full_size() {
    check("FULL_resnet18_c10", "resnet18", "", 2e-5);
}

#[test]
fn mobilenet_v2_matches_pytorch_at_full_size() {
    check("FULL_mobilenet_v2_c10", "mobilenet_v2", "", 5e-2);
}

#[test]
fn wrn34_10_matches_pytorch_at_full_size() {
    check("FULL_wrn34_10_c10", "wrn34-10", "", 5e-2);
}

#[test]
fn wrn70_16_matches_pytorch_at_full_size() {
    check("FULL_wrn70_16_swish_c100", "wrn70-16", "classes = 100", 2e-5);
}
