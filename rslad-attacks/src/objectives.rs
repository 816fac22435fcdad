//! The losses that attacks ascend, with their derivative in closed form.
//!
//! An attack needs d loss / d logits only; the network pulls it back to the images. These derivatives
//! are one line each, and no autograd graph is built for them. Each is tested against autograd of its
//! expression in [`losses`](crate::losses).

use crate::aim::{Aim, Aims, Loss};
use crate::error::{Error, Result};
use crate::losses::{best_other, log_softmax, one_hot};
use crate::rows;
use candle_core::{DType, Tensor};
use rslad_models::Objective;

/// The cross-entropy of the labels.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    y: Labels,
}

impl CrossEntropy {
    /// The cross-entropy of these labels.
    ///
    /// # Shapes
    /// `y`: `[N]`, u32.
    ///
    /// # Errors
    /// When `y` has another shape or type.
    pub fn new(y: &Tensor) -> Result<Self> {
        Ok(Self { y: Labels::new(y)? })
    }
}

impl Objective for CrossEntropy {
    fn value_and_grad(&self, rows: &[u32], logits: &Tensor) -> rslad_models::Result<(Tensor, Tensor)> {
        let y = self.y.of(rows, logits)?; // [n, 1]
        let log_probs = log_softmax(logits)?;
        let value = log_probs.gather(&y, 1)?.squeeze(1)?.neg()?;
        // p - onehot(y), where the label's p_y - 1 is taken as minus the others' sum: on an image that is
        // classified with confidence the subtraction would keep hardly any digits.
        let label = one_hot(&y, logits.dim(1)?)?.to_dtype(logits.dtype())?;
        let others = (log_probs.exp()? * (1.0 - &label)?)?;
        Ok((value, (&others - label.broadcast_mul(&others.sum_keepdim(1)?)?)?))
    }
}

/// KL(softmax of fixed target logits || softmax of the logits): what TRADES (target: the student at
/// x_nat) and RSLAD (target: the teacher at x_nat) ascend.
///
/// # Source
/// Zi et al. 2021 (RSLAD), Table 1; their eq. 3 prints the student as the target, their code has the
/// teacher.
#[derive(Clone, Debug)]
pub struct KlTo {
    log_probs: Tensor,
}

impl KlTo {
    /// The divergence from these logits' distribution.
    ///
    /// # Shapes
    /// `target_logits`: `[N, K]`.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn new(target_logits: &Tensor) -> Result<Self> {
        Ok(Self { log_probs: log_softmax(&target_logits.detach())? })
    }
}

impl Objective for KlTo {
    fn value_and_grad(&self, rows: &[u32], logits: &Tensor) -> rslad_models::Result<(Tensor, Tensor)> {
        let log_target = rows::take(&self.log_probs, rows)?; // [n, K]
        let target = log_target.exp()?;
        let log_probs = log_softmax(logits)?;
        let value = (&target * (log_target - &log_probs)?)?.sum(1)?;
        Ok((value, (log_probs.exp()? - target)?))
    }
}

/// The Carlini-Wagner margin, `-max(z_y - max_{j != y} z_j + confidence, 0)`: pushing stops once
/// another class leads by `confidence`.
///
/// # Source
/// Carlini and Wagner 2017; confidence 50 in Madry's challenge code and in IAD's `cwloss`, which never
/// binds for usual logits.
#[derive(Clone, Debug)]
pub struct Margin {
    y: Labels,
    confidence: f64,
}

impl Margin {
    /// The margin of these labels.
    ///
    /// # Shapes
    /// `y`: `[N]`, u32.
    ///
    /// # Units
    /// `confidence` in logits.
    ///
    /// # Errors
    /// When `y` has another shape or type, or the confidence is not finite.
    pub fn new(y: &Tensor, confidence: f64) -> Result<Self> {
        if !confidence.is_finite() {
            let expected = "a finite number of logits".to_owned();
            return Err(Error::Value { what: "confidence", value: confidence.to_string(), expected });
        }
        Ok(Self { y: Labels::new(y)?, confidence })
    }
}

impl Objective for Margin {
    fn value_and_grad(&self, rows: &[u32], logits: &Tensor) -> rslad_models::Result<(Tensor, Tensor)> {
        let y = self.y.of(rows, logits)?; // [n, 1]
        let other = best_other(logits, &y)?; // [n, 1]
        let lead = ((logits.gather(&y, 1)? - logits.gather(&other, 1)?)? + self.confidence)?;
        let value = lead.maximum(0.0)?.neg()?.squeeze(1)?;
        let (dtype, k) = (logits.dtype(), logits.dim(1)?);
        let toward_other = (one_hot(&other, k)?.to_dtype(dtype)? - one_hot(&y, k)?.to_dtype(dtype)?)?;
        Ok((value, toward_other.broadcast_mul(&lead.ge(0.0)?.to_dtype(dtype)?)?)) // ge: as PyTorch's clamp
    }
}

/// The difference-of-logits ratio: invariant to the scale of the logits, so a network cannot hide its
/// gradients by inflating them.
///
/// # Source
/// Croce and Hein 2020, "Reliable evaluation of adversarial robustness", eq. 6; the 1e-12 is in the
/// released code only. Where the label has the third largest logit the ratio is constant and its
/// derivative is 0; such an image is misclassified already.
#[derive(Clone, Debug)]
pub struct Dlr(Aims);

impl Dlr {
    /// The ratio for these labels.
    ///
    /// # Shapes
    /// `y`: `[N]`, u32; the logits need at least 3 classes.
    ///
    /// # Errors
    /// When `y` has another shape or type.
    pub fn new(y: &Tensor) -> Result<Self> {
        let aims = Labels::new(y)?.y.to_vec1::<u32>()?.into_iter().map(|y| Aim { y, loss: Loss::Dlr });
        Ok(Self(Aims(aims.collect())))
    }
}

impl Objective for Dlr {
    fn value_and_grad(&self, rows: &[u32], logits: &Tensor) -> rslad_models::Result<(Tensor, Tensor)> {
        self.0.value_and_grad(rows, logits)
    }
}

/// The difference-of-logits ratio toward target classes.
///
/// # Source
/// Croce and Hein 2020, eq. 7; the 1e-12 is in the released code only.
#[derive(Clone, Debug)]
pub struct DlrTargeted(Aims);

impl DlrTargeted {
    /// The ratio for these labels and targets.
    ///
    /// # Shapes
    /// `y`, `target`: `[N]`, u32; the logits need at least 4 classes.
    ///
    /// # Errors
    /// When either has another shape or type.
    pub fn new(y: &Tensor, target: &Tensor) -> Result<Self> {
        let (y, target) = (Labels::new(y)?.y.to_vec1::<u32>()?, Labels::new(target)?.y.to_vec1::<u32>()?);
        if y.len() != target.len() {
            let expected = format!("[{}], a target per label", y.len());
            return Err(Error::Tensor { what: "target", got: format!("[{}]", target.len()), expected });
        }
        let aims = y.into_iter().zip(target).map(|(y, t)| Aim { y, loss: Loss::DlrTargeted(t) });
        Ok(Self(Aims(aims.collect())))
    }
}

impl Objective for DlrTargeted {
    fn value_and_grad(&self, rows: &[u32], logits: &Tensor) -> rslad_models::Result<(Tensor, Tensor)> {
        self.0.value_and_grad(rows, logits)
    }
}

/// Labels, with the largest of them: devices differ in what they do with a class that does not exist.
#[derive(Clone, Debug)]
struct Labels {
    y: Tensor,
    largest: u32,
}

impl Labels {
    fn new(y: &Tensor) -> Result<Self> {
        if y.rank() != 1 || y.dtype() != DType::U32 {
            let got = format!("{:?} {:?}", y.dtype(), y.dims());
            return Err(Error::Tensor { what: "y", got, expected: "U32 [N]".to_owned() });
        }
        let largest = y.to_vec1::<u32>()?.into_iter().max().unwrap_or(0);
        Ok(Self { y: y.clone(), largest })
    }

    /// The labels of these rows, `[n, 1]`.
    fn of(&self, rows: &[u32], logits: &Tensor) -> rslad_models::Result<Tensor> {
        let k = logits.dim(1)?;
        if self.largest as usize >= k {
            let message = format!(
                "label {} in the batch, expected labels below {k}, the classes of the model",
                self.largest
            );
            return Err(rslad_models::Error::Other(message));
        }
        Ok(rows::take(&self.y, rows)?.unsqueeze(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses;
    use candle_core::Device;
    use proptest::prelude::*;
    use rslad_models::ClosureObjective;

    /// The closed form against autograd of the expression, also for a permuted part of the rows.
    fn check(
        name: &str,
        closed: &dyn Objective,
        n: u32,
        logits: &Tensor,
        expression: impl Fn(&[u32], &Tensor) -> Tensor + Sync,
    ) {
        let by_autograd = ClosureObjective(|rows: &[u32], z: &Tensor| Ok(expression(rows, z)));
        let part: Vec<u32> = (0..n).rev().step_by(2).collect();
        for rows in [(0..n).collect::<Vec<_>>(), part] {
            let z = rows::take(logits, &rows).unwrap();
            let (value, grad) = closed.value_and_grad(&rows, &z).unwrap();
            let (value2, grad2) = by_autograd.value_and_grad(&rows, &z).unwrap();
            for (a, b, what) in [(value, value2, "value"), (grad, grad2, "gradient")] {
                let scale = b
                    .abs()
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .max(0)
                    .unwrap()
                    .to_scalar::<f64>()
                    .unwrap()
                    .max(1.0);
                let worst = (a - b)
                    .unwrap()
                    .abs()
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .max(0)
                    .unwrap()
                    .to_scalar::<f64>()
                    .unwrap();
                assert!(worst <= 1e-12 * scale, "{name}: {what} off by {worst}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn closed_forms_are_the_derivatives_of_their_expressions(
            z in proptest::collection::vec(-100.0..100.0f64, 24), t in proptest::collection::vec(-100.0..100.0f64, 24),
            y in proptest::collection::vec(0u32..4, 6), shift in 0u32..3, confidence in 0.0..60.0f64,
        ) {
            let device = Device::Cpu;
            let z = Tensor::from_vec(z, (6, 4), &device).unwrap();
            let t = Tensor::from_vec(t, (6, 4), &device).unwrap();
            let y = Tensor::from_vec(y, 6, &device).unwrap();
            let labels = |rows: &[u32]| rows::take(&y, rows).unwrap();
            check("cross-entropy", &CrossEntropy::new(&y).unwrap(), 6, &z, |rows, z| {
                losses::cross_entropy(z, &labels(rows)).unwrap()
            });
            check("kl", &KlTo::new(&t).unwrap(), 6, &z, |rows, z| losses::kl(&rows::take(&t, rows).unwrap(), z).unwrap());
            check("dlr", &Dlr::new(&y).unwrap(), 6, &z, |rows, z| losses::dlr(z, &labels(rows)).unwrap());
            let away = |y: &u32| (y + 1 + shift) % 4;
            let target = Tensor::from_vec(y.to_vec1::<u32>().unwrap().iter().map(away).collect(), 6, &device).unwrap();
            check("dlr_targeted", &DlrTargeted::new(&y, &target).unwrap(), 6, &z, |rows, z| {
                losses::dlr_targeted(z, &labels(rows), &rows::take(&target, rows).unwrap()).unwrap()
            });
            let aims = |loss| Aims(y.to_vec1::<u32>().unwrap().into_iter().map(|y| Aim { y, loss }).collect());
            check("cross-entropy by rows", &aims(Loss::CrossEntropy), 6, &z, |rows, z| {
                losses::cross_entropy(z, &labels(rows)).unwrap()
            });
            check("margin by rows", &aims(Loss::Margin), 6, &z, |rows, z| {
                losses::margin(z, &labels(rows)).unwrap().neg().unwrap()
            });
            check("margin", &Margin::new(&y, confidence).unwrap(), 6, &z, |rows, z| {
                let lead = (losses::margin(z, &labels(rows)).unwrap() + confidence).unwrap();
                lead.relu().unwrap().neg().unwrap()
            });
        }
    }

    #[test]
    fn a_label_beyond_the_classes_is_an_error_that_names_it() {
        let y = Tensor::new(&[0u32, 7], &Device::Cpu).unwrap();
        let logits = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        for objective in [&CrossEntropy::new(&y).unwrap() as &dyn Objective, &Margin::new(&y, 0.0).unwrap()] {
            let message = objective.value_and_grad(&[0, 1], &logits).unwrap_err().to_string();
            assert!(message.contains("label 7 in the batch, expected labels below 3"), "{message}");
        }
        assert!(CrossEntropy::new(&logits).is_err() && Margin::new(&y, f64::NAN).is_err());
    }
}
