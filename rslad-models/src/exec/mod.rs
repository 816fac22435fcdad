//! Ways to run a graph. The type of a view says its mode.
//!
//! [`Frozen`] is eval mode: running statistics, no parameter gradients, nothing to update. [`Training`]
//! is train mode: batch statistics, parameter gradients, running statistics updated by every forward.
//! [`AttackView`] is the train-mode attack of some released codes. All three stand on an executor below
//! this module; what is above it sees images, logits and gradients only, so a faster executor changes
//! no caller. `reference` runs on candle ops and autograd: it is the specification. The others compile:
//! a graph becomes a `program` (fused steps), for an image size a `plan` (where every number lies), and
//! a `runner` takes images through it with the kernels.

mod again;
mod backward;
mod batch;
pub(crate) mod device;
mod engine;
mod exchange;
mod frozen;
mod plan;
mod program;
mod reference;
mod runner;
#[cfg(test)]
mod tests;
mod training;
mod update;
mod weights;

pub use crate::kernels::Isa;
pub use device::sign_step;
pub use engine::{Engine, Executor};
pub use exchange::Exchange;
pub use frozen::Frozen;
pub use training::{AttackView, Pass, Training};
pub use update::{Descent, sum_of_squares};
