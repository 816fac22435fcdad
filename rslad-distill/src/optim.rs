//! Stochastic gradient descent with momentum and weight decay, as PyTorch's.

use crate::error::Result;
use candle_core::{DType, Tensor, Var};

/// SGD: `g = grad + weight_decay w; v = momentum v + g (v = g at first); w = w - lr v`.
///
/// No dampening, no Nesterov. Weight decay is applied to every parameter, batch normalisation's and
/// biases included; buffers are not parameters and never seen.
///
/// # Source
/// PyTorch's `torch.optim.SGD`, the optimizer of every released code of the paper's tables.
#[derive(Clone, Debug)]
pub struct Sgd {
    momentum: f64,
    weight_decay: f64,
    velocity: Vec<Tensor>, // one per parameter; empty before the first step
}

impl Sgd {
    /// An optimizer without a past.
    pub fn new(momentum: f64, weight_decay: f64) -> Self {
        Self { momentum, weight_decay, velocity: Vec::new() }
    }

    /// One step at learning rate `lr`; `gradients` in the order of `parameters`.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn step<'a>(
        &mut self,
        parameters: impl Iterator<Item = (&'a str, &'a Var)>,
        gradients: &[Tensor],
        lr: f64,
    ) -> Result<()> {
        let mut velocity = Vec::with_capacity(gradients.len());
        for (i, ((_, w), grad)) in parameters.zip(gradients).enumerate() {
            let g = (grad + (w.as_detached_tensor() * self.weight_decay)?)?;
            let v = match self.velocity.get(i) {
                Some(v) => ((v * self.momentum)? + g)?,
                None => g,
            };
            w.set(&(w.as_detached_tensor() - (&v * lr)?)?)?;
            velocity.push(v);
        }
        self.velocity = velocity;
        Ok(())
    }

    /// The velocities, one per parameter in order; empty before the first step.
    pub fn velocity(&self) -> &[Tensor] {
        &self.velocity
    }

    /// The optimizer with this past.
    pub fn with_velocity(self, velocity: Vec<Tensor>) -> Self {
        Self { velocity, ..self }
    }
}

/// The L2 norm of all tensors together, added up in f64.
///
/// # Errors
/// When a tensor operation fails.
pub fn global_norm<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<f64> {
    let square = |t: &Tensor| Ok(t.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?);
    let squares = tensors.into_iter().map(square).collect::<Result<Vec<f64>>>()?;
    Ok(squares.iter().sum::<f64>().sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn three_steps_by_hand() {
        let w = Var::new(&[1.0f32, -2.0], &Device::Cpu).unwrap();
        let mut sgd = Sgd::new(0.9, 0.5);
        // by hand: g = grad + w/2; v = .9 v + g; w -= .1 v
        let expected = [[0.85f32, -2.0], [0.5725, -1.9], [0.196375, -1.79]];
        let gradients = [[1.0f32, 1.0], [1.0, 0.0], [1.5, 0.8]];
        let mut v = [0.0f64; 2];
        let mut by_hand = [1.0f64, -2.0];
        for (step, grad) in gradients.iter().enumerate() {
            let grad_tensor = Tensor::new(grad, &Device::Cpu).unwrap();
            sgd.step([("w", &w)].into_iter(), &[grad_tensor], 0.1).unwrap();
            for i in 0..2 {
                v[i] = if step == 0 { 0.0 } else { 0.9 * v[i] } + f64::from(grad[i]) + 0.5 * by_hand[i];
                by_hand[i] -= 0.1 * v[i];
            }
            let ours: Vec<f32> = w.to_vec1().unwrap();
            assert!(
                ours.iter().zip(by_hand).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6),
                "{ours:?} {by_hand:?}"
            );
            if step == 0 {
                assert_eq!(ours, expected[0]);
            }
        }
    }
}
