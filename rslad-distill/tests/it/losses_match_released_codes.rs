//! Every method's loss and its gradients against the released codes, in f32 against double precision.

use crate::common::{goldens, relative_error, values};
use candle_core::{DType, Tensor, Var};
use rslad_distill::method::{Forwards, Progress};
use rslad_distill::methods;
use std::collections::HashMap;

/// (reference name, method table, epoch, tolerance); `{classes}` stands for 1 over the classes.
const LOSSES: &[(&str, &str, u64, f64)] = &[
    ("ce", "name = 'natural'", 1, 1e-5),
    ("sat", "name = 'sat'", 1, 1e-5),
    ("trades", "name = 'trades'\nbeta = 6.0", 1, 1e-5),
    ("mart", "name = 'mart'\nbeta = 6.0", 1, 1e-5),
    ("ard_a1_T30", "name = 'ard'\nalpha = 1.0\ntau = 30.0\nkl_scale = {1/classes}", 1, 1e-4),
    ("ard_a0.5_T5", "name = 'ard'\nalpha = 0.5\ntau = 5.0\nkl_scale = {1/classes}", 1, 1e-5),
    ("ard_a0.95_T1", "name = 'ard'\nalpha = 0.95\ntau = 1.0\nkl_scale = {1/classes}", 1, 1e-5),
    ("ard_iadrepo_a1_T1", "name = 'ard'\nalpha = 1.0\ntau = 1.0\nkl_scale = 1.0", 1, 1e-5),
    ("iad1", "name = 'iad'\nalpha = 1.0\nbeta = 0.1\ntau = 1.0\n{iad}", 9, 1e-5),
    ("iad1_a.7_T2_b.5", "name = 'iad'\nalpha = 0.7\nbeta = 0.5\ntau = 2.0\n{iad}", 9, 1e-5),
    ("iad1_pre", "name = 'iad'\nalpha = 1.0\nbeta = 0.1\ntau = 1.0\n{iad}", 8, 1e-5),
    ("iad2", "name = 'iad2'\n{iad2}", 9, 1e-5),
    ("iad2_pre", "name = 'iad2'\n{iad2}", 8, 1e-5),
    ("rslad", "name = 'rslad'\nalpha = 0.8333333333333334\nkl_scale = {1/classes}", 1, 1e-5),
    ("rslad_cifar100", "name = 'rslad'\nalpha = 0.8333333333333334\nkl_scale = {10/classes}", 1, 1e-5),
];

const IAD: &str = "kl_scale = 1.0\nbegin = 8\nweighting = 'released'\nforwards = 'released'";
const IAD2: &str = "alpha1 = 0.5\nalpha2 = 0.25\nbeta = 0.1\ntau = 1.0\nkl_scale = 1.0\nbegin = 8";

/// Which recorded logits a forward stands for: several forwards can share one.
fn recorded(forward: &str) -> &str {
    match forward {
        "s_eval" | "s_target" | "s_nat_again" => "s_nat",
        "s_adv_again" => "s_adv",
        other => other,
    }
}

#[test]
fn losses_and_their_gradients_are_those_of_the_released_codes() {
    let goldens = goldens("losses.safetensors");
    for case in ["n10", "n100", "x10", "x100", "tie10"] {
        for &(name, method, epoch, tolerance) in LOSSES {
            check(&goldens, case, name, method, epoch, tolerance);
        }
    }
}

fn check(
    goldens: &HashMap<String, Tensor>,
    case: &str,
    name: &str,
    method: &str,
    epoch: u64,
    tolerance: f64,
) {
    let classes = goldens[&format!("{case}/in/s_nat")].dim(1).unwrap() as f64;
    let method = method
        .replace("{1/classes}", &format!("{:?}", 1.0 / classes))
        .replace("{10/classes}", &format!("{:?}", 10.0 / classes))
        .replace("{iad}", IAD)
        .replace("{iad2}", IAD2);
    let method = methods::build(&method.parse().unwrap()).unwrap();
    let plan = method.plan();

    let y = goldens[&format!("{case}/in/y")].to_dtype(DType::U32).unwrap();
    let mut leaves: HashMap<&str, Var> = HashMap::new();
    let mut forwards = Forwards::new(&y, plan.labels, Progress { epoch, epochs: 20 });
    for spec in plan.forwards() {
        let source = recorded(spec.name);
        let leaf = leaves
            .entry(source)
            .or_insert_with(|| Var::from_tensor(&goldens[&format!("{case}/in/{source}")]).unwrap());
        forwards.push(spec.name, leaf.as_tensor().clone());
    }

    let terms = method.outer(&forwards).unwrap();
    let truth = values(&goldens[&format!("{case}/{name}/value64")]);
    let error = relative_error(&[terms.value().unwrap()], &truth);
    assert!(error < tolerance, "{case} {name}: value off by {error:e}");
    if case == "tie10" {
        return; // where logits tie, PyTorch's own derivative depends on its sort
    }
    let gradients = terms.loss().unwrap().backward().unwrap();
    for source in ["s_nat", "s_adv"] {
        let Some(truth) = goldens.get(&format!("{case}/{name}/grad64_{source}")) else { continue };
        let ours = match leaves.get(source).and_then(|leaf| gradients.get(leaf.as_tensor())) {
            Some(gradient) => values(gradient),
            None => vec![0.0; truth.elem_count()],
        };
        let error = relative_error(&ours, &values(truth));
        assert!(error < tolerance, "{case} {name}: gradient to {source} off by {error:e}");
    }
}
