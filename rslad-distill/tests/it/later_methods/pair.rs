//! Two classifiers attacked as one, against autograd of the whole expression.

use super::{disagreement, largest_difference, values};
use crate::common::by_hand::{Scene, bits, stream, tiny};
use candle_core::{DType, Device, Tensor};
use rslad_distill::pair::Pair;
use rslad_models::{ArchSpec, Classifier, ClosureObjective, Gradient, Network, Objective};

/// The expression of [`Pair`] as one graph, differentiated by autograd from the objective to the images.
/// Its networks are in double precision, which runs on candle ops.
pub struct OneGraph<'c>(pub &'c dyn Classifier, pub &'c dyn Classifier);

impl Classifier for OneGraph<'_> {
    fn n_classes(&self) -> usize {
        self.0.n_classes() + self.1.n_classes()
    }
    fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
        Ok(Tensor::cat(&[self.0.logits(x)?, self.1.logits(x)?], 1)?)
    }
}

/// An executor that asks its objective about a few rows at a time.
struct InGroups<'c> {
    of: &'c dyn Classifier,
    size: usize,
}

struct From<'o> {
    first: u32,
    of: &'o dyn Objective,
}

impl Objective for From<'_> {
    fn value_and_grad(&self, rows: &[u32], logits: &Tensor) -> rslad_models::Result<(Tensor, Tensor)> {
        let rows: Vec<u32> = rows.iter().map(|row| row + self.first).collect();
        self.of.value_and_grad(&rows, logits)
    }
}

impl Classifier for InGroups<'_> {
    fn n_classes(&self) -> usize {
        self.of.n_classes()
    }
    fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
        self.of.logits(x)
    }
    fn gradient(&self, x: &Tensor, objective: &dyn Objective) -> rslad_models::Result<Gradient> {
        let n = x.dim(0)?;
        let mut parts: [Vec<Tensor>; 3] = Default::default();
        for first in (0..n).step_by(self.size) {
            let group = x.narrow(0, first, self.size.min(n - first))?;
            let found = self.of.gradient(&group, &From { first: first as u32, of: objective })?;
            parts.iter_mut().zip([found.logits, found.loss, found.dx]).for_each(|(all, part)| all.push(part));
        }
        let [logits, loss, dx] = parts.map(|all| Tensor::cat(&all, 0));
        Ok(Gradient { logits: logits?, loss: loss?, dx: dx? })
    }
}

#[test]
fn the_pair_has_the_gradient_of_the_whole_expression_through_both_networks() {
    let (scene, whole) = (Scene::new(), ClosureObjective(disagreement));
    let student = scene.student.in_double_precision().unwrap().freeze().unwrap();
    let teacher = tiny(4, 2).in_double_precision().unwrap().freeze().unwrap();
    let x = scene.x.to_dtype(DType::F64).unwrap();
    let pair = Pair::new(&student, &teacher).gradient(&x, &whole).unwrap();
    let truth = OneGraph(&student, &teacher).gradient(&x, &whole).unwrap();
    for (what, ours, truth) in [
        ("logits", pair.logits, truth.logits),
        ("loss", pair.loss, truth.loss),
        ("dx", pair.dx.clone(), truth.dx),
    ] {
        assert!(largest_difference(&ours, &truth) < 1e-13, "{what}");
    }

    let mut direction = stream("pixels", 0);
    let d: Vec<f64> = (0..x.elem_count()).map(|_| f64::from(direction.normal())).collect();
    let d = Tensor::from_vec(d, x.dims(), &Device::Cpu).unwrap();
    let loss = |t: f64| {
        let there = (&x + (&d * t).unwrap()).unwrap();
        let logits = Pair::new(&student, &teacher).logits(&there).unwrap();
        values(&disagreement(&[], &logits).unwrap()).iter().sum::<f64>()
    };
    let slope = (loss(1e-6) - loss(-1e-6)) / 2e-6;
    let ours = values(&(pair.dx * d).unwrap()).iter().sum::<f64>();
    assert!((ours - slope).abs() < 1e-6 * slope.abs(), "{ours}, expected {slope}");
}

#[test]
fn neither_share_of_the_pairs_gradient_is_nothing() {
    let (scene, whole) = (Scene::new(), ClosureObjective(disagreement));
    let student = scene.student.freeze().unwrap();
    let both = Pair::new(&student, &scene.teacher).gradient(&scene.x, &whole).unwrap().dx;
    let target = scene.teacher.logits(&scene.x).unwrap();
    let alone = rslad_attacks::objectives::KlTo::new(&target).unwrap();
    let student_only = student.gradient(&scene.x, &alone).unwrap().dx;
    let teacher_share = largest_difference(&both, &student_only);
    let largest = values(&student_only).iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    assert!(teacher_share > 0.01 * largest, "{teacher_share} of {largest}");
}

#[test]
fn the_pair_may_be_asked_in_groups() {
    let (scene, whole) = (Scene::new(), ClosureObjective(disagreement));
    let student = scene.student.freeze().unwrap();
    let truth = Pair::new(&student, &scene.teacher).gradient(&scene.x, &whole).unwrap();
    for (s, t) in [(1, 6), (6, 1), (2, 4), (4, 5)] {
        let (student, teacher) =
            (InGroups { of: &student, size: s }, InGroups { of: &scene.teacher, size: t });
        let grouped = Pair::new(&student, &teacher).gradient(&scene.x, &whole).unwrap();
        assert_eq!(bits(&grouped.dx), bits(&truth.dx), "groups of {s} and {t}");
        assert_eq!(bits(&grouped.loss), bits(&truth.loss), "groups of {s} and {t}");
    }
}

#[test]
fn the_pair_takes_networks_with_different_numbers_of_classes() {
    let scene = Scene::new();
    let student = scene.student.in_double_precision().unwrap().freeze().unwrap();
    let wide = "classes = 7\nin_channels = 1\nnorm = 'none'\nwidth = 2";
    let wide = Network::new(&ArchSpec::parse("tiny_cnn", wide).unwrap(), 4).unwrap();
    let teacher = wide.in_double_precision().unwrap().freeze().unwrap();
    let spread = ClosureObjective(|_: &[u32], both: &Tensor| Ok(both.sqr()?.sum(1)?));
    let (pair, whole) = (Pair::new(&student, &teacher), OneGraph(&student, &teacher));
    assert_eq!(pair.n_classes(), 11);
    let x = scene.x.to_dtype(DType::F64).unwrap();
    let (ours, truth) = (pair.gradient(&x, &spread).unwrap(), whole.gradient(&x, &spread).unwrap());
    assert_eq!(ours.logits.dims(), [6, 11]);
    assert!(largest_difference(&ours.dx, &truth.dx) < 1e-13);
}
