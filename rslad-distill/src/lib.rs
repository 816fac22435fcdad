//! Robust training and robustness distillation: methods, recipes and the trainer.
//!
//! A [`Method`] declares the forwards it needs and turns their logits into what its
//! attack ascends and what the student descends; one [`step`] runs any of them. A recipe says everything
//! else about a run, and the trainer follows it: it survives interruption with the same bits, and what
//! it does is seen through an observer.
//!
//! This crate knows nothing of terminals, and computes no gradient of a network by itself.
#![forbid(unsafe_code)]

pub mod averaging;
pub mod awp;
pub mod checks;
pub mod dump;
pub mod error;
mod exchange;
pub mod guard;
pub mod inner;
mod keys;
pub mod method;
pub mod methods;
#[cfg(feature = "mpi")]
pub mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
pub mod observer;
pub mod optim;
pub mod pair;
pub mod ranks;
pub mod recipe;
pub mod run_dir;
pub mod schedule;
pub mod soft_labels;
mod state;
pub mod step;
pub mod stoppable;
pub mod teachers;
pub mod tensorboard;
pub mod times;
pub mod together;
pub mod trainer;

pub use error::{Error, Result};
pub use method::Method;
pub use methods::METHODS;
pub use observer::Observer;
pub use recipe::{RECIPES, Recipe};
pub use run_dir::RunDir;
pub use soft_labels::SoftLabels;
pub use trainer::{Inputs, Outcome, train, train_together};
