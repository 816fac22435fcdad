//! Losses and inner objectives as functions of logits: their gradients, and what they may read.

use super::cases::{Ascends, CASES, Case};
use super::logits::{Logits, assert_close, differences, values};
use candle_core::{DType, Tensor, Var};
use proptest::prelude::*;
use rslad_attacks::losses;
use rslad_distill::method::{Forwards, Inner, Labels, Over, Plan, Progress, Who};
use rslad_models::{ClosureObjective, Objective};

fn check_gradients(case: &Case, logits: &Logits) {
    let (method, name) = (case.build(), case.name());
    let plan = method.plan();
    let leaves: Vec<Var> = logits.all.iter().map(|(_, _, t)| Var::from_tensor(t).unwrap()).collect();
    let forwards = logits.forwards(&plan, |i, t| match logits.all[i].1 {
        Who::Student => leaves[i].as_tensor().clone(),
        _ => t.clone(),
    });
    let terms = method.outer(&forwards).unwrap();
    let (value, sum) = (terms.value().unwrap(), terms.loss().unwrap().to_scalar::<f64>().unwrap());
    assert!((value - sum).abs() <= 1e-12 * value.abs().max(1.0), "{name}: {value} or {sum}");
    let gradients = terms.loss().unwrap().backward().unwrap();
    for (i, (forward, who, t)) in logits.all.iter().enumerate() {
        if *who != Who::Student {
            continue;
        }
        let truth = differences(t, |moved| logits.loss(method.as_ref(), &plan, Some((i, moved))));
        let ours = match gradients.get(leaves[i].as_tensor()) {
            Some(gradient) => values(gradient),
            None => vec![0.0; truth.len()],
        };
        assert_close(&format!("{name}: gradient to {forward}"), &ours, &truth, value.abs().max(1e-3));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn loss_gradients_are_finite_differences(n in 1usize..4, classes in 3usize..=12, id: u64, scale in 0.1f64..8.0) {
        for case in CASES {
            check_gradients(case, &Logits::draw(&case.build().plan(), n, classes, scale, false, id));
        }
    }

    #[test]
    fn loss_gradients_are_finite_differences_at_extreme_logits(n in 1usize..4, classes in 3usize..=12, id: u64) {
        for case in CASES {
            check_gradients(case, &Logits::draw(&case.build().plan(), n, classes, 80.0, true, id));
        }
    }

    #[test]
    fn inner_objectives_are_their_expressions(n in 1usize..4, classes in 3usize..=12, id: u64, extreme: bool) {
        for case in CASES {
            check_inner(case, n, classes, extreme, id);
        }
    }

    #[test]
    fn losses_and_gradients_stay_finite_at_80_in_single_precision(n in 1usize..4, classes in 3usize..=12, id: u64) {
        for case in CASES {
            check_finite(case, n, classes, id);
        }
    }
}

fn check_inner(case: &Case, n: usize, classes: usize, extreme: bool, id: u64) {
    let (method, name) = (case.build(), case.name());
    let plan = method.plan();
    let logits = Logits::draw(&plan, n, classes, if extreme { 80.0 } else { 3.0 }, extreme, id);
    let forwards = logits.forwards(&plan, |_, t| t.clone());
    let draw_at = |id: u64| Logits::draw(&plan, n, classes, 3.0, extreme, id).all.swap_remove(0).2;
    let mut at = draw_at(id ^ 1);
    let target = |forward: &str| forwards.logits(forward).unwrap().clone();
    let expression: Box<dyn Fn(&Tensor) -> Tensor + Sync> = match case.ascends {
        Ascends::Nothing => {
            assert!(matches!(method.inner(&forwards).unwrap(), Inner::None), "{name} ascends something");
            assert!(!plan.is_adversarial(), "{name} looks at points that nobody finds");
            return;
        }
        Ascends::CrossEntropy => Box::new(|z| losses::cross_entropy(z, &logits.y).unwrap()),
        Ascends::KlFrom(forward) => {
            let target = target(forward);
            Box::new(move |z| losses::kl(&target, z).unwrap())
        }
        Ascends::Disagreement => {
            at = Tensor::cat(&[at, draw_at(id ^ 2)], 1).unwrap();
            let half = move |z: &Tensor, from| z.narrow(1, from, classes).unwrap();
            Box::new(move |z| losses::kl(&half(z, classes), &half(z, 0)).unwrap())
        }
    };
    let Inner::Ascend { over, objective } = method.inner(&forwards).unwrap() else {
        panic!("{name} ascends nothing")
    };
    let both = matches!(case.ascends, Ascends::Disagreement);
    assert_eq!(over, if both { Over::StudentAndTeacher } else { Over::Student }, "{name}");
    assert!(plan.is_adversarial(), "{name} attacks and never looks");
    let rows: Vec<u32> = (0..n as u32).collect();
    let (value, grad) = objective.value_and_grad(&rows, &at).unwrap();
    let autograd = ClosureObjective(|_: &[u32], z: &Tensor| Ok(expression(z)));
    let (truth, truth_grad) = autograd.value_and_grad(&rows, &at).unwrap();
    assert_close(&format!("{name}: inner value"), &values(&value), &values(&truth), 1.0);
    assert_close(&format!("{name}: inner gradient"), &values(&grad), &values(&truth_grad), 1e-3);
    let slopes = differences(&at, |z| values(&expression(z)).iter().sum());
    assert_close(&format!("{name}: inner slope"), &values(&grad), &slopes, values(&value).iter().sum());
}

fn check_finite(case: &Case, n: usize, classes: usize, id: u64) {
    let (method, name) = (case.build(), case.name());
    let plan = method.plan();
    let logits = Logits::draw(&plan, n, classes, 80.0, true, id);
    let leaf = |t: &Tensor| Var::from_tensor(&t.to_dtype(DType::F32).unwrap().clamp(-80.0, 80.0).unwrap());
    let leaves: Vec<Var> = logits.all.iter().map(|(_, _, t)| leaf(t).unwrap()).collect();
    let terms = method.outer(&logits.forwards(&plan, |i, _| leaves[i].as_tensor().clone())).unwrap();
    assert!(terms.value().unwrap().is_finite(), "{name}: {terms:?}");
    let gradients = terms.loss().unwrap().backward().unwrap();
    for (leaf, (forward, who, _)) in leaves.iter().zip(&logits.all) {
        let Some(gradient) = gradients.get(leaf.as_tensor()).filter(|_| *who == Who::Student) else {
            continue;
        };
        assert!(values(gradient).iter().all(|v| v.is_finite()), "{name}: gradient to {forward}: {gradient}");
    }
}

#[test]
fn a_forward_that_was_not_declared_is_an_error_that_names_it() {
    // Run for their effect on the running statistics only.
    const UNREAD: &[(&str, &str)] = &[("iad", "s_adv_again"), ("iad", "s_nat_again")];
    for case in CASES {
        let (method, name) = (case.build(), case.name());
        let plan = method.plan();
        let logits = Logits::draw(&plan, 2, 4, 1.0, false, 9);
        for left_out in plan.forwards() {
            let mut forwards = Forwards::new(&logits.y, plan.labels, Progress { epoch: 20, epochs: 20 });
            for (other, _, t) in logits.all.iter().filter(|(other, ..)| *other != left_out.name) {
                forwards.push(other, t.clone());
            }
            let errors = [method.inner(&forwards).err(), method.outer(&forwards).err()];
            let named = format!("`{}`", left_out.name);
            let told = errors.iter().flatten().any(|e| e.to_string().contains(&named));
            let unread = UNREAD.contains(&(name.as_str(), left_out.name));
            assert_eq!(told, !unread, "{name} without {named}: {errors:?}");
        }
    }
}

#[test]
fn a_method_that_declares_no_labels_gets_none() {
    for case in CASES {
        let (method, name) = (case.build(), case.name());
        let plan = method.plan();
        let logits = Logits::draw(&plan, 2, 4, 1.0, false, 9);
        let blind = Plan { labels: Labels::Unread, ..plan.clone() };
        let forwards = logits.forwards(&blind, |_, t| t.clone());
        assert!(forwards.labels().is_err());
        let error = method.inner(&forwards).err().or_else(|| method.outer(&forwards).err());
        match plan.labels {
            Labels::Unread => assert!(error.is_none(), "{name}: {error:?}"),
            Labels::Read => {
                let message = error.expect(&name).to_string();
                assert_eq!(message, "the method reads labels, but declares `Labels::Unread`");
            }
        }
    }
}
