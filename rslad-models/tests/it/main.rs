//! The networks from outside: equal to PyTorch's, sound under random options, safe on disk.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

#[path = "../common/mod.rs"]
mod common;

mod case;
mod checkpoints;
mod contract;
mod costs;
mod full_size;
mod hostile;
mod initialization;
mod interpreter;
mod models_match_pytorch;
mod names;
mod python;
mod small;
mod torch_files;
mod views;
