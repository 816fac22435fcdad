//! The errors of this crate.

use std::path::PathBuf;

/// What can go wrong with a network, its weights or its inputs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An architecture name that is not in the registry.
    #[error("unknown architecture `{name}`, expected one of: {known}")]
    UnknownArch {
        /// The name as given.
        name: String,
        /// The registered names.
        known: String,
    },
    /// An option of an architecture that is missing, unknown or outside its domain.
    #[error("architecture `{arch}`: {message}")]
    ArchOption {
        /// The architecture.
        arch: String,
        /// Key, value, expectation and fix.
        message: String,
    },
    /// A tensor whose shape does not fit.
    #[error("{what} has shape {got:?}, expected {expected}")]
    Shape {
        /// The tensor.
        what: String,
        /// Its shape.
        got: Vec<usize>,
        /// What would fit.
        expected: String,
    },
    /// A checkpoint that does not fit the network or is damaged.
    #[error("{path}: {message}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// A file that cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file that cannot be written.
    #[error("{path}: cannot write {bytes} bytes: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// How much was to be written.
        bytes: usize,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// An objective or a caller's classifier that failed.
    #[error("{0}")]
    Other(String),
    /// A tensor operation that failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
