//! Methods that are not in the registry yet, written against the same trait: AdaAD, whose attack also
//! runs through the teacher at x', and IGDM, whose loss looks at x' and at its mirror image. They keep
//! the types of a step wide enough; and methods that break a promise are told so.

mod pair;
mod promises;

use crate::common::by_hand::{Scene, inner, tiny};
use candle_core::{DType, Tensor};
use pair::OneGraph;
use rslad_attacks::losses::kl;
use rslad_attacks::{Ball, Draws, Problem};
use rslad_distill::method::{
    Forwards, Inner, Labels, Method, Over, Plan, Point, Progress, Terms, Who, forward,
};
use rslad_distill::{Result, methods};
use rslad_models::randomness::Purpose;
use rslad_models::{Classifier, ClosureObjective};

/// Source: Huang et al., "Boosting Accuracy and Robustness of Student Models via Adaptive Adversarial
/// Distillation" (CVPR 2023).
struct AdaAd {
    alpha: f64,
}

/// KL(T(x') || S(x')) of student and teacher side by side.
fn disagreement(_: &[u32], both: &Tensor) -> rslad_models::Result<Tensor> {
    let k = both.dim(1)? / 2;
    Ok(kl(&both.narrow(1, k, k)?, &both.narrow(1, 0, k)?)?)
}

impl Method for AdaAd {
    fn plan(&self) -> Plan {
        let after = vec![
            forward("s_nat", Who::Student, Point::Nat),
            forward("s_adv", Who::Student, Point::Adv),
            forward("t_adv", Who::Teacher, Point::Adv),
        ];
        Plan { labels: Labels::Unread, before: vec![forward("t_nat", Who::Teacher, Point::Nat)], after }
    }

    fn inner<'a>(&self, _: &'a Forwards) -> Result<Inner<'a>> {
        let objective = Box::new(ClosureObjective(disagreement));
        Ok(Inner::Ascend { over: Over::StudentAndTeacher, objective })
    }

    fn outer(&self, f: &Forwards) -> Result<Terms> {
        let adv = kl(f.logits("t_adv")?, f.logits("s_adv")?)?;
        let nat = kl(f.logits("t_nat")?, f.logits("s_nat")?)?;
        Ok(Terms::of("kl_adv", self.alpha, adv).plus("kl_nat", 1.0 - self.alpha, nat))
    }
}

/// A method with a term on how the logits change along the perturbation, weighted by the progress.
///
/// Source: Lee et al., "Indirect Gradient Matching for Adversarial Robust Distillation" (ICLR 2025).
struct Igdm {
    base: Box<dyn Method>,
    weight: f64,
}

impl Igdm {
    fn on_rslad() -> Self {
        let rslad = "name = 'rslad'\nalpha = 0.8333333333333334\nkl_scale = 1.0".parse().unwrap();
        Self { base: methods::build(&rslad).unwrap(), weight: 10.0 }
    }
}

impl Method for Igdm {
    fn plan(&self) -> Plan {
        let mut plan = self.base.plan();
        plan.after.push(forward("s_mirror", Who::Student, Point::Along(-1.0)));
        plan.after.push(forward("t_adv", Who::Teacher, Point::Adv));
        plan.after.push(forward("t_mirror", Who::Teacher, Point::Along(-1.0)));
        plan
    }

    fn inner<'a>(&self, f: &'a Forwards) -> Result<Inner<'a>> {
        self.base.inner(f)
    }

    fn outer(&self, f: &Forwards) -> Result<Terms> {
        let Progress { epoch, epochs } = f.progress();
        let weight = self.weight * epoch as f64 / epochs as f64;
        let student = (f.logits("s_adv")? - f.logits("s_mirror")?)?;
        let teacher = (f.logits("t_adv")? - f.logits("t_mirror")?)?;
        Ok(self.base.outer(f)?.plus("kl_change", weight, kl(&teacher, &student)?))
    }
}

#[test]
fn adaad_ascends_the_disagreement_of_both_networks() {
    let (scene, config) = (Scene::new(), inner(3, "frozen"));
    let student = scene.student.in_double_precision().unwrap().freeze().unwrap();
    let teacher = tiny(4, 2).in_double_precision().unwrap().freeze().unwrap();
    let out = scene.step(&AdaAd { alpha: 0.7 }, &config).unwrap();

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
fn adaad_and_igdm_run_through_a_step_with_the_right_gradient() {
    let methods: [(&str, Box<dyn Method>); 2] =
        [("adaad", Box::new(AdaAd { alpha: 0.7 })), ("igdm", Box::new(Igdm::on_rslad()))];
    for (name, method) in methods {
        let out = Scene::new().step(method.as_ref(), &inner(2, "frozen")).unwrap();
        Scene::new().check_gradient(name, method.as_ref(), &out);
    }
}

#[test]
fn a_train_mode_attack_on_the_pair_moves_the_statistics_once_a_step() {
    for steps in [1, 2, 5] {
        let scene = Scene::new();
        scene.step(&AdaAd { alpha: 1.0 }, &inner(steps, "batch_statistics")).unwrap();
        assert_eq!(scene.batches_tracked(), steps as i64 + 2);
    }
}

#[test]
fn igdm_sees_the_mirror_image_unclamped() {
    let scene = Scene::new();
    let out = scene.step(&Igdm::on_rslad(), &inner(2, "frozen")).unwrap();
    assert_eq!(scene.batches_tracked(), 3);
    let mirror = ((&scene.x * 2.0).unwrap() - &out.x_adv).unwrap();
    let outside = values(&mirror).iter().any(|v| !(0.0..=1.0).contains(v));
    assert!(outside, "images near black or white have mirror images outside of [0, 1]");
    let f = scene.forwards(&Igdm::on_rslad().plan(), &scene.student, &out.x_adv);
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
