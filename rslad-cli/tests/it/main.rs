//! The command as its users meet it: arguments, exit codes, files, signals.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod bad_input;
mod data;
mod disk;
mod doctor;
mod engines;
mod eval;
mod eval_journal;
mod eval_parts;
mod grid;
mod killed;
mod list;
mod memory;
mod output;
mod quickstart;
mod record;
mod replay;
mod report;
mod shown;
mod signals;
mod soft_labels;
mod support;
mod tensorboard;
mod train;
mod transfer;
mod watch;
mod weights;
