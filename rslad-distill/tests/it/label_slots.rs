//! The slots of a label, filled as published methods fill them, are those methods.

use crate::common::by_hand::{Scene, inner};
use crate::common::{relative_error, values};
use rslad_distill::method::{Labels, Who};
use rslad_distill::methods;
use rslad_distill::step::StepOutput;

/// The same terms added in another order, as a share of the largest derivative: 0.7e-6 to 1.1e-6 in four orders of the sums.
const ORDER: f64 = 2e-6;

fn run(method: &str) -> StepOutput {
    let method = methods::build(&method.parse().unwrap()).unwrap();
    Scene::new().step(method.as_ref(), &inner(3, "frozen")).unwrap()
}

fn slots(inner: &str, outer_adv: &str, outer_nat: &str, alpha: f64, kl_scale: f64) -> String {
    format!(
        "name = 'label_slots'\ninner = '{inner}'\nouter_adv = '{outer_adv}'\nouter_nat = '{outer_nat}'\n\
         alpha = {alpha:?}\nkl_scale = {kl_scale:?}"
    )
}

fn check(named: &str, slots: &str) {
    let (named_out, slots_out) = (run(named), run(slots));
    assert_eq!(values(&named_out.x_adv), values(&slots_out.x_adv), "{named}: x_adv");
    for (truth, ours) in named_out.gradients.iter().zip(&slots_out.gradients) {
        let error = relative_error(&values(ours), &values(truth));
        assert!(error < ORDER, "{named}: gradient off by {error:e}");
    }
}

#[test]
fn filled_as_published_they_are_the_published_methods() {
    check("name = 'sat'", &slots("hard", "hard", "hard", 1.0, 1.0));
    check(
        "name = 'rslad'\nalpha = 0.8333333333333334\nkl_scale = 0.1",
        &slots("teacher", "teacher", "teacher", 0.8333333333333334, 0.1),
    );
    check(
        "name = 'ard'\nalpha = 0.75\ntau = 1.0\nkl_scale = 0.1",
        &slots("hard", "teacher", "hard", 0.75, 0.1),
    );
}

#[test]
fn the_students_own_label_gives_the_attack_and_the_gradient_of_trades() {
    let trades = run("name = 'trades'\nbeta = 3.0");
    let ours = run(&slots("student", "student", "hard", 0.75, 1.0)); // 1/4 CE + 3/4 KL
    assert_eq!(values(&trades.x_adv), values(&ours.x_adv));
    for (truth, ours) in trades.gradients.iter().zip(&ours.gradients) {
        let truth = (truth * 0.25).unwrap();
        let error = relative_error(&values(ours), &values(&truth));
        assert!(error < ORDER, "gradient off by {error:e}");
    }
}

#[test]
fn every_filling_asks_only_whom_it_needs() {
    let labels = ["hard", "student", "natural_teacher", "teacher"];
    for a in labels {
        for b in labels {
            for c in labels {
                let method = methods::build(&slots(a, b, c, 0.5, 1.0).parse().unwrap()).unwrap();
                let (plan, held) = (method.plan(), [a, b, c]);
                assert_eq!(plan.labels == Labels::Read, held.contains(&"hard"), "{held:?}");
                assert_eq!(plan.runs(Who::Teacher), held.contains(&"teacher"), "{held:?}");
                assert_eq!(plan.runs(Who::SecondTeacher), held.contains(&"natural_teacher"), "{held:?}");
                let out = Scene::new().step(method.as_ref(), &inner(1, "frozen")).unwrap();
                assert!(out.terms.value().unwrap().is_finite(), "{held:?}");
            }
        }
    }
}
