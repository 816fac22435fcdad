//! L-infinity attacks on image classifiers, and the harness that judges them.
//!
//! Robust accuracy is an upper bound that is only as good as the attack, and most wrong numbers in the
//! literature are not wrong gradients: they are a radius in the wrong unit, a model in the wrong mode, a
//! point a little outside the ball, a seed that moved with the batch size, a loss averaged where it
//! should be summed. This crate is built so that these cannot be written:
//!
//! - A radius is a [`Linf`], read from "8/255"; "8" is refused.
//! - A model is a [`Classifier`](rslad_models::Classifier): images to logits, no mode, no parameters.
//! - Attacks only search. [`ascend`] and [`perturb`] are the only doors: they project what a search
//!   found into its [`Ball`], exactly, and judge it with a fresh forward.
//! - Random numbers are keyed by seed, attack and example, so a result does not move with batches.
//! - Losses are per example; what happened to each example is the result, accuracies are derived.
//!
//! FGSM, PGD, CW-inf and the inner maximizations of training are one loop, [`SignAscent`]. A results
//! table is a [`Suite`], a TOML file. New attacks are a file and a line in [`attacks::ATTACKS`].
//!
//! # Attack your own model
//!
//! Implement two methods; the gradient comes from candle's autograd.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use rslad_attacks::{Ball, Draws, Problem, attacks, perturb};
//!
//! /// Two classes: is the left pixel brighter than the right one?
//! struct Brighter;
//!
//! impl rslad_models::Classifier for Brighter {
//!     fn n_classes(&self) -> usize {
//!         2
//!     }
//!     fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
//!         Ok(x.flatten_from(1)?) // [N, 1, 1, 2] -> [N, 2]
//!     }
//! }
//!
//! # fn main() -> rslad_attacks::Result<()> {
//! let x_nat = Tensor::new(&[[[[0.9f32, 0.1]]], [[[0.52, 0.48]]]], &Device::Cpu)?;
//! let y = Tensor::new(&[0u32, 0], &Device::Cpu)?;
//! let ball = Ball::new(&x_nat, "8/255".parse()?)?;
//! let problem = Problem::new(ball, &y, vec![0, 1], Draws::Keyed { seed: 0, epoch: 0 })?;
//!
//! let fgsm = attacks::find("fgsm")?.usually();
//! let found = perturb(&Brighter, fgsm.as_ref(), &problem)?;
//! assert_eq!(found.robust, [true, false]); // 0.52 - 8/255 < 0.48 + 8/255
//! # Ok(())
//! # }
//! ```
//!
//! On two classes the optimum of a linear model is known: FGSM goes to it. A model made of candle's own
//! operations is attacked in the same way, here by an ensemble:
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use rslad_attacks::{Ball, Draws, Problem, attacks, perturb};
//!
//! /// A layer of weights `[D, K]`.
//! struct Layer(Tensor);
//!
//! impl rslad_models::Classifier for Layer {
//!     fn n_classes(&self) -> usize {
//!         self.0.dims()[1]
//!     }
//!     fn logits(&self, x: &Tensor) -> rslad_models::Result<Tensor> {
//!         Ok(x.flatten_from(1)?.matmul(&self.0)?.tanh()?)
//!     }
//! }
//!
//! # fn main() -> rslad_attacks::Result<()> {
//! let model = Layer(Tensor::new(&[[1f32, 0., -1., 0.5], [0., 1., 0.5, -1.]], &Device::Cpu)?);
//! let x_nat = Tensor::new(&[[[[0.9f32, 0.1]]], [[[0.53, 0.5]]]], &Device::Cpu)?;
//! let y = Tensor::new(&[0u32, 0], &Device::Cpu)?;
//! let ball = Ball::new(&x_nat, "8/255".parse()?)?;
//! let problem = Problem::new(ball, &y, vec![0, 1], Draws::Keyed { seed: 0, epoch: 0 })?;
//!
//! let stages = "stages = [{ attack = 'apgd_ce', iterations = 20, restarts = 1, rho = 0.75, eot = 1 },
//!                         { attack = 'fgsm' }]";
//! let mine = attacks::find("worst_case")?.build(&stages.parse().unwrap())?;
//! let found = perturb(&model, mine.as_ref(), &problem)?;
//! assert_eq!(found.robust, [true, false]);
//! # Ok(())
//! # }
//! ```
//!
//! This crate knows nothing of parameters, modes, optimizers, data sets or files of results.

#![forbid(unsafe_code)]

mod aim;
mod apgd;
pub mod ascent;
pub mod attack;
pub mod attacks;
pub mod ball;
pub mod checks;
pub mod compare;
pub mod error;
pub mod evaluate;
mod fab;
pub mod landscape;
mod lanes;
pub mod linf;
mod lockstep;
pub mod losses;
pub mod objectives;
mod pixels;
pub mod problem;
pub mod result;
mod rows;
pub mod suite;
pub mod transfer;
mod walk;
mod worst_case;

pub use ascent::{ByLabels, ClipStart, SignAscent, Start};
pub use attack::{Access, Attack, Finished, Perturbed, Search, Stage, State, ascend, perturb};
pub use ball::{Ball, Order};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, Examples, Ledger, Observer, Place, Protocol, Source, Verdict, evaluate};
pub use linf::{Linf, StepSize};
pub use problem::{Draws, Problem};
pub use suite::{Column, SUITES, Suite};
pub use walk::Leave;
pub use worst_case::WorstCase;
