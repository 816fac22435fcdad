//! Data sets from files, in every form that they are published in, whole and damaged.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod archives;
#[cfg(feature = "candle-datasets")]
mod candle_datasets;
mod cifar;
mod damaged;
#[cfg(feature = "fetch")]
mod fetch;
#[cfg(feature = "parquet")]
mod hostile_parquet;
mod mutated;
mod own;
mod published;
#[cfg(feature = "fetch")]
mod server;
