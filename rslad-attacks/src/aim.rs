//! What single examples ascend, in closed form and row by row: the lanes of a search may aim at
//! different things.
//!
//! A row of logits is a handful of numbers; a chain of tensor operations on it costs more than the
//! network's own gradient does for a small network.

use crate::error::{Error, Result};
use candle_core::{DType, Tensor};
use rslad_models::Objective;

/// A loss of one example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    CrossEntropy,
    /// `max_{j != y} z_j - z_y`.
    Margin,
    /// The difference-of-logits ratio.
    Dlr,
    /// The difference-of-logits ratio toward a class.
    DlrTargeted(u32),
    /// `z_t - z_y`.
    Lead(u32),
}

/// A loss and the label it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aim {
    pub(crate) y: u32,
    pub(crate) loss: Loss,
}

/// One aim for each row.
#[derive(Clone, Debug)]
pub(crate) struct Aims(pub(crate) Vec<Aim>);

impl Objective for Aims {
    fn value_and_grad(&self, rows: &[u32], logits: &Tensor) -> rslad_models::Result<(Tensor, Tensor)> {
        let (n, k) = logits.dims2()?;
        let z = logits.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let mut grad = vec![0.0; n * k];
        let mut values = Vec::with_capacity(n);
        for ((&row, z), grad) in rows.iter().zip(z.chunks(k)).zip(grad.chunks_mut(k)) {
            let value = self.0[row as usize].value_and_grad(z, grad);
            values.push(value.map_err(|e| rslad_models::Error::Other(e.to_string()))?);
        }
        let tensor = |t: Tensor| t.to_dtype(logits.dtype());
        let device = logits.device();
        Ok((tensor(Tensor::from_vec(values, n, device)?)?, tensor(Tensor::from_vec(grad, (n, k), device)?)?))
    }
}

impl Aim {
    /// The loss of logits `z`, its derivative into `grad`, which holds zeros.
    pub(crate) fn value_and_grad(&self, z: &[f64], grad: &mut [f64]) -> Result<f64> {
        self.check(z.len())?;
        let y = self.y as usize;
        Ok(match self.loss {
            Loss::CrossEntropy => cross_entropy(z, y, grad),
            Loss::Margin => difference(z, y, best_other(z, y), grad),
            Loss::Lead(t) => difference(z, y, t as usize, grad),
            Loss::Dlr => {
                let [first, _, third] = largest::<3>(z);
                ratio(z, y, best_other(z, y), first, &[third], grad)
            }
            Loss::DlrTargeted(t) => {
                let [first, _, third, fourth] = largest::<4>(z);
                ratio(z, y, t as usize, first, &[third, fourth], grad)
            }
        })
    }

    pub(crate) fn check(&self, classes: usize) -> Result<()> {
        let (loss, needs) = match self.loss {
            Loss::CrossEntropy => ("the cross-entropy", 1),
            Loss::Margin => ("a margin", 2),
            Loss::Lead(_) => ("a lead over the label", 2),
            Loss::Dlr => ("the difference-of-logits ratio (DLR)", 3),
            Loss::DlrTargeted(_) => ("the targeted difference-of-logits ratio (DLR)", 4),
        };
        let named = match self.loss {
            Loss::DlrTargeted(t) | Loss::Lead(t) => self.y.max(t),
            _ => self.y,
        };
        if classes < needs {
            let expected = format!("at least {needs}, which {loss} compares");
            return Err(Error::Value { what: "the number of classes", value: classes.to_string(), expected });
        }
        match (named as usize) < classes {
            true => Ok(()),
            false => Err(Error::Value {
                what: "a label or target",
                value: named.to_string(),
                expected: format!("a class below {classes}, as many as the model has"),
            }),
        }
    }
}

fn cross_entropy(z: &[f64], y: usize, grad: &mut [f64]) -> f64 {
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = z.iter().map(|z| libm::exp(z - max)).sum();
    let mut others = 0.0;
    for (class, (g, z)) in grad.iter_mut().zip(z).enumerate() {
        if class != y {
            *g = libm::exp(z - max) / sum;
            others += *g;
        }
    }
    grad[y] = -others; // not p_y - 1: a confident row would keep hardly any digits
    libm::log(sum) + max - z[y]
}

/// `z_other - z_y`.
fn difference(z: &[f64], y: usize, other: usize, grad: &mut [f64]) -> f64 {
    grad[other] += 1.0;
    grad[y] -= 1.0;
    z[other] - z[y]
}

/// `(z_other - z_y) / (z_first - mean of z_lower + 1e-12)`.
fn ratio(z: &[f64], y: usize, other: usize, first: usize, lower: &[usize], grad: &mut [f64]) -> f64 {
    let share = 1.0 / lower.len() as f64;
    let scale = z[first] - share * lower.iter().map(|&k| z[k]).sum::<f64>() + 1e-12;
    let value = (z[other] - z[y]) / scale;
    grad[other] += 1.0 / scale;
    grad[y] -= 1.0 / scale;
    grad[first] -= value / scale;
    for &k in lower {
        grad[k] += share * value / scale;
    }
    value
}

/// The class of the largest logit but the label's, the first of equals.
pub(crate) fn best_other(z: &[f64], y: usize) -> usize {
    let others = (0..z.len()).filter(|&k| k != y);
    others.reduce(|best, k| if z[k] > z[best] { k } else { best }).unwrap_or(y)
}

/// The class of the largest logit, the first of equals; NaN loses.
pub(crate) fn first_largest(z: &[f64]) -> u32 {
    let better = |best: usize, k: usize| z[k] > z[best] || z[best].is_nan() && !z[k].is_nan();
    (0..z.len()).reduce(|best, k| if better(best, k) { k } else { best }).unwrap_or(0) as u32
}

/// Whether the label is the prediction; never where a logit is NaN or infinite.
pub(crate) fn holds(z: &[f64], y: u32) -> bool {
    first_largest(z) == y && z.iter().all(|z| z.is_finite())
}

/// All classes by descending logit, the first of equals first.
pub(crate) fn ranked(z: &[f64]) -> Vec<u32> {
    let mut classes: Vec<u32> = (0..z.len() as u32).collect();
    classes.sort_by(|&a, &b| z[b as usize].total_cmp(&z[a as usize]));
    classes
}

/// The classes of the `N` largest logits in descending order, the first of equals first.
fn largest<const N: usize>(z: &[f64]) -> [usize; N] {
    let mut places = [usize::MAX; N];
    for class in 0..z.len() {
        let mut moving = class;
        for place in &mut places {
            if *place == usize::MAX || z[moving].total_cmp(&z[*place]).is_gt() {
                std::mem::swap(place, &mut moving);
            }
            if moving == usize::MAX {
                break;
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_agree_with_a_stable_sort() {
        for z in [
            vec![3.0, 1.0, 3.0, 2.0, 3.0],
            vec![0.0, -1.0, 5.0, 4.0],
            vec![1.0; 4],
            vec![-0.0, 0.0, 1.0, 2.0],
        ] {
            let sorted: Vec<usize> = ranked(&z).into_iter().map(|k| k as usize).collect();
            assert_eq!(largest::<4>(&z), sorted[..4], "{z:?}");
        }
    }

    #[test]
    fn too_few_classes_and_unknown_ones_are_named() {
        let refused = |loss, classes: usize| {
            let message = Aim { y: 1, loss }.value_and_grad(&vec![0.0; classes], &mut vec![0.0; classes]);
            message.unwrap_err().to_string()
        };
        assert!(refused(Loss::Dlr, 2).contains("the number of classes is 2, expected at least 3"));
        assert!(refused(Loss::DlrTargeted(2), 3).contains("expected at least 4"));
        assert!(refused(Loss::Margin, 1).contains("expected at least 2"));
        assert!(refused(Loss::CrossEntropy, 1).contains("label or target is 1, expected a class below 1"));
        assert!(refused(Loss::Lead(7), 4).contains("is 7, expected a class below 4"));
    }

    #[test]
    fn a_label_holds_where_it_comes_first_and_all_is_finite() {
        for (z, expected) in [
            ([1.0, 2.0, 0.0], true),
            ([2.0, 2.0, 0.0], false),
            ([1.0, 2.0, 2.0], true),
            ([1.0, f64::INFINITY, 0.0], false),
            ([1.0, 2.0, f64::NAN], false),
        ] {
            assert_eq!(holds(&z, 1), expected, "{z:?}");
        }
    }
}
