//! A slice through the loss around images, for pictures: how it rises along the attack's own direction,
//! and along one that has nothing to do with the network.
//!
//! Where the first direction rises steeply and the second hardly, a small step fools the network; where
//! the loss jumps about, gradients mislead an attack and its verdict is not to be trusted.

use crate::error::{Error, Result};
use crate::losses;
use crate::objectives::CrossEntropy;
use crate::problem::Problem;
use candle_core::Tensor;
use rslad_models::Classifier;
use rslad_models::randomness::Purpose;

/// The mean cross-entropy over a square of directions.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// Positions along both directions, in radii, ascending: -1 to 1, `[G]`.
    pub at: Vec<f64>,
    /// The loss, `[G][G]`: rows along the gradient's sign, columns along the random direction.
    pub loss: Vec<Vec<f64>>,
}

const DIRECTION: Purpose = Purpose::named("landscape/direction");

/// The loss at `x_nat + eps (a sign(gradient) + b random)`, clamped to [0, 1], for a and b on a grid of
/// `points` values from -1 to 1. The random direction has entries of -1 and 1.
///
/// # Errors
/// When `points` is below 2, or the classifier fails.
pub fn slice(f: &dyn Classifier, problem: &Problem, points: usize) -> Result<Slice> {
    if points < 2 {
        let expected = "at least 2 points on a side".to_owned();
        return Err(Error::Value { what: "a slice", value: points.to_string(), expected });
    }
    let (x_nat, eps) = (problem.ball().x_nat(), problem.ball().eps().get());
    let gradient = f.gradient(x_nat, &CrossEntropy::new(problem.y())?)?.dx.sign()?; // [N, C, H, W]
    let random = problem.uniform(DIRECTION, 0)?.sign()?; // [N, C, H, W]
    let at: Vec<f64> = (0..points).map(|i| 2.0 * i as f64 / (points - 1) as f64 - 1.0).collect();
    let loss_at = |a: f64, b: f64| -> Result<f64> {
        let step = ((&gradient * (a * eps))? + (&random * (b * eps))?)?;
        let x: Tensor = (x_nat + step)?.clamp(0f32, 1f32)?;
        let loss = losses::cross_entropy(&f.logits(&x)?.detach(), problem.y())?; // [N]
        Ok(f64::from(loss.mean_all()?.to_scalar::<f32>()?))
    };
    let row = |&a: &f64| at.iter().map(|&b| loss_at(a, b)).collect::<Result<Vec<f64>>>();
    let loss = at.iter().map(row).collect::<Result<_>>()?;
    Ok(Slice { at, loss })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ball, Draws};
    use candle_core::Device;

    /// Logits that are the two values of an image of two pixels.
    struct Pixels;

    impl Classifier for Pixels {
        fn n_classes(&self) -> usize {
            2
        }

        fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
            Ok(x.flatten_from(1)?)
        }
    }

    #[test]
    fn the_loss_rises_along_the_gradient_and_is_the_networks_own() {
        let x = Tensor::new(&[[[[0.7f32, 0.3]]]], &Device::Cpu).unwrap();
        let y = Tensor::new(&[0u32], &Device::Cpu).unwrap();
        let ball = Ball::new(&x, "0.1".parse().unwrap()).unwrap();
        let problem = Problem::new(ball, &y, vec![0], Draws::Keyed { seed: 0, epoch: 0 }).unwrap();
        let Slice { at, loss } = slice(&Pixels, &problem, 3).unwrap();
        assert_eq!(at, [-1.0, 0.0, 1.0]);
        let expected = |gap: f64| (1.0 + (-gap).exp()).ln(); // of logits that are `gap` apart
        for (a, gap) in [(0, 0.6), (1, 0.4), (2, 0.2)] {
            assert!((loss[a][1] - expected(gap)).abs() < 1e-6, "{loss:?}");
        }
        assert!(slice(&Pixels, &problem, 1).is_err());
    }
}
