//! Methods within a step: which networks run, how often, on what, and where gradients go.

use super::cases::CASES;
use crate::common::by_hand::{Scene, bits, inner, state_bits};
use candle_core::Tensor;
use rslad_distill::Method;
use rslad_distill::method::{Forwards, Inner, Plan, Terms, Who};
use rslad_models::Classifier;
use std::sync::Mutex;

/// A method that writes down the logits it was shown.
struct Shown<'m> {
    method: &'m dyn Method,
    logits: Mutex<Vec<(&'static str, Tensor)>>,
}

impl Method for Shown<'_> {
    fn plan(&self) -> Plan {
        self.method.plan()
    }
    fn inner<'a>(&self, f: &'a Forwards) -> rslad_distill::Result<Inner<'a>> {
        for spec in self.plan().after {
            assert!(f.logits(spec.name).is_err(), "`{}` has run before the attack", spec.name);
        }
        self.method.inner(f)
    }
    fn outer(&self, f: &Forwards) -> rslad_distill::Result<Terms> {
        let mut shown = self.logits.lock().unwrap();
        for spec in self.plan().forwards() {
            shown.push((spec.name, f.logits(spec.name)?.clone()));
        }
        self.method.outer(f)
    }
}

#[test]
fn declared_forwards_run_once_and_in_order() {
    for case in CASES {
        let (method, name) = (case.build(), case.name());
        let scene = Scene::new();
        let shown = Shown { method: method.as_ref(), logits: Mutex::default() };
        let out = scene.step(&shown, &inner(2, "frozen")).unwrap();

        // The same forwards, plainly, from the same start: equal logits, and equal running statistics,
        // which depend on how many train-mode forwards there were, on what, and in which order.
        let again = Scene::new();
        let expected = again.forwards(&method.plan(), &again.student, &out.x_adv);
        for ((forward, ours), (_, truth)) in shown.logits.lock().unwrap().iter().zip(&expected) {
            assert_eq!(bits(ours), bits(truth), "{name}: logits of {forward}");
        }
        assert_eq!(state_bits(&scene.student), state_bits(&again.student), "{name}: running statistics");
        let parameters = |s: &Scene| s.student.parameters().count();
        assert_eq!(out.gradients.len(), parameters(&scene), "{name}");
    }
}

#[test]
fn running_statistics_move_once_for_each_train_mode_forward() {
    for case in CASES {
        let (method, name) = (case.build(), case.name());
        let plan = method.plan();
        let declared = plan.forwards().filter(|f| f.who == Who::Student).count() as i64;
        for (view, steps) in [("frozen", 3), ("batch_statistics", 1), ("batch_statistics", 4)] {
            let scene = Scene::new();
            scene.step(method.as_ref(), &inner(steps, view)).unwrap();
            let by_attack = if plan.is_adversarial() && view != "frozen" { steps as i64 } else { 0 };
            assert_eq!(scene.batches_tracked(), declared + by_attack, "{name}: {steps} steps, {view}");
        }
    }
}

#[test]
fn the_gradient_of_a_step_is_the_slope_of_its_loss() {
    for case in CASES {
        let (method, name) = (case.build(), case.name());
        let out = Scene::new().step(method.as_ref(), &inner(2, "frozen")).unwrap();
        Scene::new().check_gradient(&name, method.as_ref(), &out);
    }
}

#[test]
fn teachers_do_not_change() {
    for case in CASES {
        let method = case.build();
        let scene = Scene::new();
        let answers = |scene: &Scene| {
            [&scene.teacher, &scene.second_teacher].map(|t| bits(&t.logits(&scene.x).unwrap()))
        };
        let before = answers(&scene);
        scene.step(method.as_ref(), &inner(2, "batch_statistics")).unwrap();
        assert_eq!(answers(&scene), before, "{}", case.name());
    }
}
