//! Networks for small robust image classifiers: what they are, how they run, how they are stored.
//!
//! A network is a value: a [`Graph`](graph::Graph), a short list of named nodes over a small set of
//! ops. Parameter names, shapes, initial weights, costs and every way of running it are read off that
//! value. [`Network`] owns a graph with its parameters; it is run through one of two views, whose types
//! say the mode: [`Training`] normalizes by batch statistics and updates buffers, [`Frozen`] uses
//! running statistics and cannot change anything.
//!
//! This crate knows nothing of attacks, losses, data sets or files other than checkpoints. It is also
//! the home of [`randomness`], which data, networks and attacks share.

pub mod arch;
pub mod checkpoint;
pub mod classifier;
pub mod device;
pub mod durable;
pub mod error;
pub mod exec;
pub mod graph;
mod init;
mod kernels;
pub mod network;
pub mod params;
pub mod randomness;

pub use arch::{ARCHS, ArchSpec};
pub use classifier::{Classifier, ClosureObjective, Gradient, Memory, Objective};
pub use device::DeviceSpec;
pub use error::{Error, Result};
pub use exec::{AttackView, Engine, Exchange, Executor, Frozen, Isa, Pass, Training};
pub use network::Network;
