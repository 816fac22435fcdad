//! The command as its users meet it: arguments, exit codes, files, signals.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod bad_input;
mod data;
mod eval;
mod list;
mod output;
mod quickstart;
mod signals;
mod soft_labels;
mod support;
mod train;
mod weights;
