//! Stochastic gradient descent with momentum and weight decay, as PyTorch's.

use crate::error::Result;
use candle_core::{Tensor, Var};
use rslad_models::exec::{Descent, sum_of_squares};

/// SGD: `g = grad + weight_decay w; v = momentum v + g (v = g at first); w = w - lr v`.
///
/// No dampening, no Nesterov. Weight decay is applied to every parameter, batch normalization's and
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
        let descent = Descent { lr, momentum: self.momentum, weight_decay: self.weight_decay };
        for (i, ((_, w), grad)) in parameters.zip(gradients).enumerate() {
            if i == self.velocity.len() {
                self.velocity.push(w.as_detached_tensor().zeros_like()?);
            }
            descent.step(w, &mut self.velocity[i], grad)?;
        }
        Ok(())
    }

    /// The velocities, one per parameter in order; empty before the first step.
    pub fn velocity(&self) -> &[Tensor] {
        &self.velocity
    }

    /// The optimizer with this past, which the next step changes in place.
    pub fn with_velocity(self, velocity: Vec<Tensor>) -> Self {
        Self { velocity, ..self }
    }
}

/// The L2 norm of all tensors together, added up in f64.
///
/// # Errors
/// When a tensor operation fails.
pub fn global_norm<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<f64> {
    let squares = tensors.into_iter().map(|t| Ok(sum_of_squares(t)?)).collect::<Result<Vec<f64>>>()?;
    Ok(squares.iter().sum::<f64>().sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use proptest::prelude::*;
    use rslad_models::{ArchSpec, Network};

    fn tensor(values: &[f64]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    /// PyTorch's update of one number, with `dampening = 0` and `nesterov = False`.
    struct ByHand {
        w: f64,
        v: Option<f64>,
    }

    impl ByHand {
        fn step(&mut self, grad: f64, lr: f64, momentum: f64, weight_decay: f64) {
            let g = grad + weight_decay * self.w;
            let v = self.v.map_or(g, |v| momentum * v + g);
            self.w -= lr * v;
            self.v = Some(v);
        }
    }

    #[test]
    fn three_steps_by_hand() {
        // g = grad + w/2; v = .9 v + g; w -= .1 v
        let w = Var::new(&[1.0f32, -2.0], &Device::Cpu).unwrap();
        let mut sgd = Sgd::new(0.9, 0.5);
        let expected = [[0.85f32, -2.0], [0.5725, -1.9], [0.144_125, -1.795]];
        for (grad, expected) in [[1.0f32, 1.0], [1.0, 0.0], [1.5, 0.8]].iter().zip(expected) {
            let grad = Tensor::new(grad, &Device::Cpu).unwrap();
            sgd.step([("w", &w)].into_iter(), &[grad], 0.1).unwrap();
            let ours: Vec<f32> = w.to_vec1().unwrap();
            assert!(ours.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{ours:?} {expected:?}");
        }
    }

    proptest! {
        #[test]
        fn steps_are_those_of_pytorch(
            momentum in prop_oneof![Just(0.0), 0.0..0.99f64],
            weight_decay in prop_oneof![Just(0.0), 0.0..0.1f64],
            w in prop::array::uniform2(-3.0..3.0f64),
            steps in prop::collection::vec((prop::array::uniform2(-2.0..2.0f64), 1e-4..0.5f64), 1..12),
            resume in 0usize..12,
        ) {
            let parameters = w.map(|w| Var::from_tensor(&tensor(&[w])).unwrap());
            let mut by_hand = w.map(|w| ByHand { w, v: None });
            let mut sgd = Sgd::new(momentum, weight_decay);
            for (i, (grads, lr)) in steps.into_iter().enumerate() {
                if i == resume {
                    sgd = Sgd::new(momentum, weight_decay).with_velocity(sgd.velocity().to_vec());
                }
                let named = ["a", "b"].into_iter().zip(&parameters);
                sgd.step(named, &grads.map(|g| tensor(&[g])), lr).unwrap();
                for ((ours, truth), grad) in parameters.iter().zip(&mut by_hand).zip(grads) {
                    truth.step(grad, lr, momentum, weight_decay);
                    let ours = ours.to_vec1::<f64>().unwrap()[0];
                    prop_assert!((ours - truth.w).abs() <= 1e-12 * truth.w.abs().max(1.0), "{} {}", ours, truth.w);
                }
            }
        }
    }

    #[test]
    fn weight_decay_touches_every_parameter_and_no_buffer() {
        let options = "classes = 3\nin_channels = 1\nnorm = 'none'\nwidth = 2";
        let network = Network::new(&ArchSpec::parse("tiny_cnn", options).unwrap(), 0).unwrap();
        let images = Tensor::arange(0f32, 128.0, &Device::Cpu).unwrap().reshape((2, 1, 8, 8)).unwrap();
        network.training().forward(&images).unwrap(); // running statistics away from 0 and 1
        let before = network.params().state_dict().unwrap();
        let gradients: Vec<Tensor> = network.parameters().map(|(_, w)| w.zeros_like().unwrap()).collect();
        Sgd::new(0.9, 0.5).step(network.parameters(), &gradients, 0.1).unwrap();
        let parameters: Vec<&str> = network.parameters().map(|(name, _)| name).collect();
        for ((name, old), (_, new)) in before.iter().zip(network.params().state_dict().unwrap()) {
            let decay = if parameters.contains(&name.as_str()) { 0.95 } else { 1.0 };
            let values = |t: &Tensor| -> Vec<f64> {
                t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
            };
            for (old, new) in values(old).iter().zip(values(&new)) {
                assert!((decay * old - new).abs() <= 1e-6 * old.abs(), "{name}: {old} became {new}");
            }
        }
    }

    #[test]
    fn a_velocity_holds_no_graph() {
        let (w, x) = (Var::from_tensor(&tensor(&[1.0])).unwrap(), Var::from_tensor(&tensor(&[3.0])).unwrap());
        let with_graph = (w.as_tensor() * x.as_tensor()).unwrap();
        assert!(with_graph.track_op());
        let mut sgd = Sgd::new(0.9, 0.1);
        for _ in 0..2 {
            sgd.step([("w", &w)].into_iter(), std::slice::from_ref(&with_graph), 0.1).unwrap();
            assert!(!sgd.velocity()[0].track_op() && !w.as_detached_tensor().track_op());
        }
    }

    #[test]
    fn the_norm_is_that_of_all_tensors_together() {
        let norm = global_norm(&[tensor(&[3.0]), tensor(&[0.0, 4.0]), tensor(&[12.0])]).unwrap();
        assert_eq!(norm, 13.0);
    }
}
