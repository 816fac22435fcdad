//! Data sets from files, in every form that they are published in, whole and damaged.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod archives;
mod cifar;
mod damaged;
#[cfg(feature = "fetch")]
mod fetch;
mod mutated;
mod own;
mod published;
#[cfg(feature = "fetch")]
mod server;
