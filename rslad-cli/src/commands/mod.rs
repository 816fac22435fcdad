//! One file a command: read the arguments, call the libraries, print.

pub(crate) mod bench;
pub(crate) mod cell;
pub(crate) mod completions;
pub(crate) mod data;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod grid;
pub(crate) mod list;
pub(crate) mod quickstart;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod train;
pub(crate) mod transfer;
pub(crate) mod watch;
pub(crate) mod weights;
