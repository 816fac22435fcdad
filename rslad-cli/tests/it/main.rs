//! The command as its users meet it: arguments, exit codes, files, signals.

mod bad_input;
mod eval;
mod list;
mod output;
mod quickstart;
mod signals;
mod support;
mod train;
mod weights;
