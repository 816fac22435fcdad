//! The contract between attacks and those who use them, and the two doors out of this crate.
//!
//! An attack's author writes a search: a stepper over lanes, one per example, each with its own count of
//! iterations, that can finish, be refilled and be saved. [`ascend`] and [`perturb`] run it, project what
//! comes out and judge it with a fresh forward. So no attack can leave the ball or count its own
//! successes.

use crate::aim::first_largest;
use crate::ball::{Ball, Order};
use crate::error::{Error, Result};
use crate::linf::Linf;
use crate::problem::Problem;
use crate::walk::Leave;
use candle_core::{DType, Tensor};
use rslad_models::Classifier;
use std::collections::{BTreeMap, HashMap};

/// A way to look for adversarial examples.
pub trait Attack: Send + Sync {
    /// The name in the registry, such as `pgd`.
    fn name(&self) -> &str;

    /// A search of this problem, before its first iteration.
    ///
    /// # Errors
    /// When the attack cannot start on the problem.
    fn begin(&self, problem: &Problem) -> Result<Box<dyn Search + '_>>;

    /// As [`Attack::begin`], where fallen examples leave when this says: how tests and measurements compare the
    /// two. It makes no difference to an attack whose rule lets none leave early.
    ///
    /// # Errors
    /// As [`Attack::begin`].
    fn search(&self, problem: &Problem, _leave: Leave) -> Result<Box<dyn Search + '_>> {
        self.begin(problem)
    }

    /// The search that [`Search::save`] wrote down; it goes on to the same bits.
    ///
    /// # Errors
    /// When the state is not one of this attack.
    fn restore(&self, state: &State) -> Result<Box<dyn Search + '_>>;

    /// The attacks that run one after another on what still stands, where this is an ensemble of them.
    fn stages(&self, _n_classes: usize) -> Option<&[Stage]> {
        None
    }

    /// How it differs from what its name stands for on a model of so many classes.
    fn adapted(&self, _n_classes: usize) -> Option<String> {
        None
    }

    /// What it asks of the model.
    fn access(&self) -> Access {
        Access::Gradients
    }
}

/// What an attack asks of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Gradients: a white-box attack.
    Gradients,
    /// Logits only: a black-box attack, which a user of the model could mount.
    Logits,
}

/// An attack of an ensemble.
pub struct Stage {
    /// The name in the funnel.
    pub name: String,
    /// The attack.
    pub attack: Box<dyn Attack>,
}

/// An attack in progress.
pub trait Search {
    /// The number of examples still being searched.
    fn lanes(&self) -> usize;

    /// One iteration of every lane; the examples that are done leave.
    ///
    /// # Errors
    /// When the classifier fails.
    fn advance(&mut self, f: &dyn Classifier) -> Result<Vec<Finished>>;

    /// More examples, each at its first iteration.
    ///
    /// # Errors
    /// When the search was built for a fixed batch, or radius or image shape differ from its own.
    fn admit(&mut self, problem: &Problem) -> Result<()>;

    /// Everything that [`Attack::restore`] needs.
    ///
    /// # Errors
    /// When the search was built for a fixed batch.
    fn save(&self) -> Result<State>;
}

/// An example whose search is over.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The example.
    pub id: u64,
    /// The point that was found, `[C, H, W]`.
    pub x_adv: Tensor,
}

/// A search written down.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Everything else. Numbers whose bits matter are tensors.
    pub json: serde_json::Value,
}

impl State {
    /// The radius of the saved search.
    ///
    /// # Errors
    /// When it holds none.
    pub fn eps(&self) -> Result<Linf> {
        Linf::new(self.tensor("eps")?.to_scalar()?)
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Self::lacks(name))
    }

    pub(crate) fn number(&self, name: &str) -> Result<u64> {
        self.json.get(name).and_then(|v| v.as_u64()).ok_or_else(|| Self::lacks(name))
    }

    pub(crate) fn list(&self, name: &str) -> Result<Vec<u64>> {
        let list = self.json.get(name).and_then(|v| v.as_array()).ok_or_else(|| Self::lacks(name))?;
        list.iter().map(|v| v.as_u64().ok_or_else(|| Self::lacks(name))).collect()
    }

    pub(crate) fn uneven() -> Error {
        let message = "the saved search has parts of different sizes, expected each example in one of them";
        Error::Search(message.to_owned())
    }

    pub(crate) fn lacks(name: &str) -> Error {
        Error::Search(format!("the saved search lacks `{name}`, expected what this attack has saved"))
    }
}

/// Runs a search to its end: the points found, in the order of `ids`, projected. What training uses.
///
/// # Shapes
/// Returns `[N, C, H, W]`, in the ball and in [0, 1] exactly.
///
/// # Errors
/// When the classifier fails or the search loses an example.
pub fn ascend(f: &dyn Classifier, search: &mut dyn Search, ball: &Ball, ids: &[u64]) -> Result<Tensor> {
    let mut found = HashMap::new();
    while search.lanes() > 0 {
        found.extend(search.advance(f)?.into_iter().map(|done| (done.id, done.x_adv)));
    }
    let lost = |id: &u64| {
        Error::Search(format!("the search ended without a point for example {id}, expected one for each"))
    };
    let points: Vec<Tensor> =
        ids.iter().map(|id| found.remove(id).ok_or_else(|| lost(id))).collect::<Result<_>>()?;
    ball.project(&Tensor::stack(&points, 0)?.detach(), Order::ProjectClamp)
}

/// What [`perturb`] returns, row by row as the problem's examples.
#[derive(Clone, Debug)]
pub struct Perturbed {
    /// The points, `[N, C, H, W]`, in the ball and in [0, 1] exactly.
    pub x_adv: Tensor,
    /// Their logits from a fresh forward, `[N, K]`.
    pub logits: Tensor,
    /// Their classes.
    pub predictions: Vec<u32>,
    /// Whether the label held.
    pub robust: Vec<bool>,
    /// How far each point is from its image.
    pub linf: Vec<f32>,
    /// How many points have a NaN or an infinity among their logits. They count as not robust.
    pub non_finite: usize,
}

/// Attacks a problem and judges the points found with a fresh forward. What evaluation uses.
///
/// # Errors
/// When the attack or the classifier fails.
pub fn perturb(f: &dyn Classifier, attack: &dyn Attack, problem: &Problem) -> Result<Perturbed> {
    let mut search = attack.begin(problem)?;
    let x_adv = ascend(f, search.as_mut(), problem.ball(), problem.ids())?;
    let Judged { logits, predictions, correct: robust, non_finite, .. } = judge(f, &x_adv, problem.y())?;
    Ok(Perturbed { linf: problem.ball().linf(&x_adv)?, x_adv, logits, predictions, robust, non_finite })
}

/// A forward, compared with the labels.
pub(crate) struct Judged {
    pub(crate) logits: Tensor,
    pub(crate) predictions: Vec<u32>,
    pub(crate) correct: Vec<bool>,
    pub(crate) finite: Vec<bool>,
    pub(crate) non_finite: usize,
}

/// Of equal logits the first class is the prediction; a row with a NaN or an infinity is never correct.
pub(crate) fn judge(f: &dyn Classifier, x: &Tensor, y: &Tensor) -> Result<Judged> {
    let logits = f.logits(x)?.detach(); // [N, K]
    let expected = [x.dim(0)?, f.n_classes()];
    if logits.dims() != expected {
        let (got, expected) =
            (format!("{:?}", logits.dims()), format!("{expected:?}, a row per image and a column per class"));
        return Err(Error::Tensor { what: "the model's output", got, expected });
    }
    let rows = logits.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let predictions: Vec<u32> = rows.iter().map(|row| first_largest(row)).collect();
    let finite: Vec<bool> = rows.iter().map(|row| row.iter().all(|z| z.is_finite())).collect();
    let correct = y
        .to_vec1::<u32>()?
        .into_iter()
        .zip(&predictions)
        .zip(&finite)
        .map(|((y, p), finite)| y == *p && *finite);
    Ok(Judged {
        correct: correct.collect(),
        non_finite: finite.iter().filter(|f| !**f).count(),
        finite,
        logits,
        predictions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Draws;
    use candle_core::Device;

    /// Logits that do not depend on the image, given as rows.
    struct Fixed(Vec<[f32; 3]>);

    impl Classifier for Fixed {
        fn n_classes(&self) -> usize {
            3
        }
        fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
            Ok(Tensor::from_vec(self.0.concat(), (self.0.len(), 3), x.device())?)
        }
    }

    /// An attack that cheats: it "finds" the given pixel value, far outside the ball, in reverse order.
    struct Cheat {
        pixel: f32,
        loses: Option<u64>,
    }

    struct Cheating(Vec<Finished>);

    impl Attack for Cheat {
        fn name(&self) -> &str {
            "cheat"
        }
        fn begin(&self, p: &Problem) -> Result<Box<dyn Search + '_>> {
            let x_adv = Tensor::full(self.pixel, (1, 1, 2), &Device::Cpu)?;
            let kept = p.ids().iter().rev().filter(|id| Some(**id) != self.loses);
            Ok(Box::new(Cheating(kept.map(|&id| Finished { id, x_adv: x_adv.clone() }).collect())))
        }
        fn restore(&self, _: &State) -> Result<Box<dyn Search + '_>> {
            Err(State::lacks("anything"))
        }
    }

    impl Search for Cheating {
        fn lanes(&self) -> usize {
            self.0.len()
        }
        fn advance(&mut self, _: &dyn Classifier) -> Result<Vec<Finished>> {
            Ok(self.0.pop().into_iter().collect())
        }
        fn admit(&mut self, _: &Problem) -> Result<()> {
            Ok(())
        }
        fn save(&self) -> Result<State> {
            Err(State::lacks("anything"))
        }
    }

    fn problem() -> Problem {
        let x = Tensor::new(&[[[[0.25f32, 0.5]]], [[[0.75, 1.0]]], [[[0.0, 0.0]]]], &Device::Cpu).unwrap();
        let ball = Ball::new(&x, Linf::new(0.125).unwrap()).unwrap();
        let y = Tensor::new(&[1u32, 0, 2], &Device::Cpu).unwrap();
        Problem::new(ball, &y, vec![7, 5, 6], Draws::Keyed { seed: 0, epoch: 0 }).unwrap()
    }

    #[test]
    fn a_cheating_attack_cannot_leave_the_ball() {
        let f = Fixed(vec![[0.0; 3]; 3]);
        for (pixel, expected) in [
            (9.0, [[0.375, 0.625], [0.875, 1.0], [0.125, 0.125]]),
            (f32::NEG_INFINITY, [[0.125, 0.375], [0.625, 0.875], [0.0, 0.0]]),
            (f32::NAN, [[0.25, 0.5], [0.75, 1.0], [0.0, 0.0]]),
        ] {
            let out = perturb(&f, &Cheat { pixel, loses: None }, &problem()).unwrap();
            assert_eq!(out.x_adv.flatten_from(1).unwrap().to_vec2::<f32>().unwrap(), expected, "{pixel}");
        }
    }

    #[test]
    fn a_lost_example_is_an_error() {
        let message = perturb(&Fixed(vec![[0.0; 3]; 3]), &Cheat { pixel: 0.0, loses: Some(5) }, &problem());
        assert!(message.unwrap_err().to_string().contains("without a point for example 5"));
    }

    #[test]
    fn ties_go_to_the_first_class_and_nan_is_never_robust() {
        let f = Fixed(vec![[1.0, 1.0, 0.0], [f32::NAN, f32::NAN, f32::NAN], [f32::NAN, 0.0, 3.0]]);
        let out = perturb(&f, &Cheat { pixel: 0.0, loses: None }, &problem()).unwrap();
        assert_eq!(out.predictions, [0, 0, 2]);
        assert_eq!(out.robust, [false, false, false]);
        assert_eq!(out.non_finite, 2);
        let tie_on_label = Fixed(vec![[0.0, 1.0, 1.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]]);
        let out = perturb(&tie_on_label, &Cheat { pixel: 0.0, loses: None }, &problem()).unwrap();
        assert_eq!((out.robust, out.non_finite), (vec![true, true, false], 0));
    }

    #[test]
    fn a_model_with_the_wrong_number_of_outputs_is_an_error() {
        let out = perturb(&Fixed(vec![[0.0; 3]; 2]), &Cheat { pixel: 0.0, loses: None }, &problem());
        assert!(out.unwrap_err().to_string().contains("expected [3, 3]"));
    }
}
