//! The losses and closed forms against PyTorch's double precision.

use crate::goldens::{Goldens, relative_error};
use candle_core::{DType, Result, Tensor, Var};
use rslad_attacks::losses::{cross_entropy, dlr, dlr_targeted, kl, margin};
use rslad_attacks::objectives::{CrossEntropy, KlTo, Margin};
use rslad_models::Objective;

const CASES: [&str; 5] = ["n10", "n100", "x10", "x100", "tie10"];

/// `loss(inputs)`, summed, and its gradient with respect to each input, in this precision.
fn check(
    name: &str,
    tolerance: f64,
    inputs: &[&str],
    loss: impl Fn(&Goldens, &str, &[Var]) -> Result<Tensor>,
) {
    let file = Goldens::open("losses.safetensors");
    for case in CASES {
        for dtype in [DType::F32, DType::F64] {
            let at = |name: &str| format!("{case}/{name}");
            let vars = inputs.iter().map(|input| {
                Var::from_tensor(&file.f64(&at(&format!("in/{input}"))).to_dtype(dtype).unwrap()).unwrap()
            });
            let vars: Vec<Var> = vars.collect();
            let value = loss(&file, case, &vars).unwrap();
            compare(&at(name), &value, &file.f64(&at(&format!("{name}/value64"))), tolerance);
            if case == "tie10" {
                continue; // where classes tie the derivative is a choice
            }
            let grads = value.sum_all().unwrap().backward().unwrap();
            for (input, var) in inputs.iter().zip(&vars) {
                let key = at(&format!("{name}/grad64_{input}"));
                compare(&key, grads.get(var).unwrap(), &file.f64(&key), tolerance);
            }
        }
    }
}

fn compare(what: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    let error = relative_error(&got.to_dtype(DType::F64).unwrap(), expected);
    assert!(error < tolerance, "{what}: off by {error:e} of the largest value");
}

fn labels(file: &Goldens, case: &str, dlr_target: &str) -> Tensor {
    file.labels(&format!("{case}/in/{dlr_target}"))
}

#[test]
fn cross_entropy_matches_pytorch() {
    check("ce_each", 1e-5, &["s_adv"], |file, case, v| cross_entropy(&v[0], &labels(file, case, "y")));
}

#[test]
fn kl_matches_pytorch_in_both_arguments() {
    check("kl_sum", 1e-5, &["t_nat", "s_adv"], |_, _, v| kl(&v[0], &v[1])?.sum_keepdim(0));
}

#[test]
fn margin_matches_pytorch() {
    check("margin", 1e-5, &["s_adv"], |file, case, v| margin(&v[0], &labels(file, case, "y")));
}

#[test]
fn dlr_matches_autoattack() {
    check("dlr", 1e-5, &["s_adv"], |file, case, v| dlr(&v[0], &labels(file, case, "y")));
}

#[test]
fn targeted_dlr_matches_autoattack() {
    check("dlr_targeted", 1e-4, &["s_nat"], |file, case, v| {
        dlr_targeted(&v[0], &labels(file, case, "y"), &labels(file, case, "dlr_target"))
    });
}

/// The closed form of an objective, value summed, against the file.
fn check_objective(name: &str, make: impl Fn(&Goldens, &str, DType) -> Box<dyn Objective>) {
    let file = Goldens::open("losses.safetensors");
    for case in CASES {
        for dtype in [DType::F32, DType::F64] {
            let logits = file.f64(&format!("{case}/in/s_adv")).to_dtype(dtype).unwrap();
            let rows: Vec<u32> = (0..logits.dim(0).unwrap() as u32).collect();
            let (value, grad) = make(&file, case, dtype).value_and_grad(&rows, &logits).unwrap();
            let expected = file.f64(&format!("{case}/{name}/value64"));
            let value = if expected.elem_count() == 1 { value.sum_keepdim(0).unwrap() } else { value };
            compare(&format!("{case}/{name}"), &value, &expected, 1e-5);
            if case != "tie10" {
                let key = format!("{case}/{name}/grad64_s_adv");
                compare(&key, &grad, &file.f64(&key), 1e-5);
            }
        }
    }
}

#[test]
fn closed_forms_match_pytorch() {
    check_objective("ce_each", |file, case, _| {
        Box::new(CrossEntropy::new(&labels(file, case, "y")).unwrap())
    });
    check_objective("kl_sum", |file, case, dtype| {
        let target = file.f64(&format!("{case}/in/t_nat")).to_dtype(dtype).unwrap();
        Box::new(KlTo::new(&target).unwrap())
    });
    for (name, confidence) in [("cw_conf50", 50.0), ("cw_conf0", 0.0)] {
        check_objective(name, |file, case, _| {
            Box::new(Margin::new(&labels(file, case, "y"), confidence).unwrap())
        });
    }
}
