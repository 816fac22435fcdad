//! AdaAD, whose attack also runs through the teacher at x', and IGDM, whose loss looks at x' and at its
//! mirror image, through whole steps; and what a step promises any method, those that break a promise of
//! their own included.

mod pair;
mod promises;

use crate::common::by_hand::{Scene, inner, tiny};
use candle_core::{DType, Tensor};
use pair::OneGraph;
use rslad_attacks::losses::kl;
use rslad_attacks::{Ball, Draws, Problem};
use rslad_distill::{Method, methods};
use rslad_models::randomness::Purpose;
use rslad_models::{Classifier, ClosureObjective};

/// KL(T(x') || S(x')) of student and teacher side by side.
fn disagreement(_: &[u32], both: &Tensor) -> rslad_models::Result<Tensor> {
    let k = both.dim(1)? / 2;
    Ok(kl(&both.narrow(1, k, k)?, &both.narrow(1, 0, k)?)?)
}

fn adaad() -> Box<dyn Method> {
    methods::build(&"name = 'adaad'\nalpha = 0.7\nkl_scale = 1.0".parse().unwrap()).unwrap()
}

fn igdm() -> Box<dyn Method> {
    let keys = "name = 'igdm'\nalpha = 0.8333333333333334\nkl_scale = 1.0\nigdm_weight = 10.0";
    methods::build(&keys.parse().unwrap()).unwrap()
}

#[test]
fn adaad_ascends_the_disagreement_of_both_networks() {
    let (scene, config) = (Scene::new(), inner(3, "frozen"));
    let student = scene.student.in_double_precision().unwrap().freeze().unwrap();
    let teacher = tiny(4, 2).in_double_precision().unwrap().freeze().unwrap();
    let out = scene.step(adaad().as_ref(), &config).unwrap();

    // The same ascent, plainly, on the one graph.
    let ball = Ball::new(&scene.x, config.eps).unwrap();
    let draws = Draws::Keyed { seed: 5, epoch: 9 };
    let problem = Problem::new(ball.clone(), &scene.y, scene.ids.clone(), draws).unwrap();
    let start = (problem.uniform(Purpose::INNER_START, 0).unwrap() * config.eps.get()).unwrap();
    let mut x = ball.project(&(&scene.x + start).unwrap(), config.order).unwrap();
    let step_size = config.step_size.resolve(config.eps);
    let whole = ClosureObjective(disagreement);
    for _ in 0..3 {
        let exact = x.to_dtype(DType::F64).unwrap();
        let dx = OneGraph(&student, &teacher).gradient(&exact, &whole).unwrap().dx;
        let sign = dx.sign().unwrap().to_dtype(DType::F32).unwrap();
        x = ball.project(&(x + (sign * step_size).unwrap()).unwrap(), config.order).unwrap();
    }
    let off = values(&x).iter().zip(values(&out.x_adv)).filter(|(a, b)| *a != b).count();
    assert!(off <= 2, "{off} of {} pixels differ", x.elem_count()); // a gradient near 0 may round to the other sign
    assert!(ball.contains(&out.x_adv).unwrap());
}

#[test]
fn a_train_mode_attack_on_the_pair_moves_the_statistics_once_a_step() {
    for steps in [1, 2, 5] {
        let scene = Scene::new();
        scene.step(adaad().as_ref(), &inner(steps, "batch_statistics")).unwrap();
        assert_eq!(scene.batches_tracked(), steps as i64 + 2);
    }
}

#[test]
fn igdm_sees_the_mirror_image_unclamped() {
    let scene = Scene::new();
    let out = scene.step(igdm().as_ref(), &inner(2, "frozen")).unwrap();
    assert_eq!(scene.batches_tracked(), 3);
    let mirror = ((&scene.x * 2.0).unwrap() - &out.x_adv).unwrap();
    let outside = values(&mirror).iter().any(|v| !(0.0..=1.0).contains(v));
    assert!(outside, "images near black or white have mirror images outside of [0, 1]");
    let f = scene.forwards(&igdm().plan(), &scene.student, &out.x_adv);
    let named = |name| &f.iter().find(|(n, _)| *n == name).unwrap().1;
    assert!(largest_difference(named("t_mirror"), &scene.teacher.logits(&mirror).unwrap()) < 1e-5);
    let change = |a, b| (named(a) - named(b)).unwrap();
    let expected = kl(&change("t_adv", "t_mirror"), &change("s_adv", "s_mirror")).unwrap();
    let expected = values(&expected).iter().sum::<f64>() / 6.0;
    let (name, ours) = *out.terms.means().unwrap().last().unwrap();
    assert_eq!(name, "kl_change");
    assert!((ours - expected).abs() < 1e-5 * expected, "{ours}, expected {expected}");
    assert_eq!(out.terms.iter().last().unwrap().weight, 10.0 * 9.0 / 20.0);
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    values(a).iter().zip(values(b)).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()))
}
