//! The errors of this crate.

use std::path::PathBuf;

/// What can go wrong with a radius, a problem, an attack or a suite.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value outside its domain.
    #[error("{what} is {value}, expected {expected}")]
    Value {
        /// What the value is of.
        what: &'static str,
        /// The value as given.
        value: String,
        /// What would be right, and how to write it.
        expected: String,
    },
    /// A tensor whose shape or type does not fit.
    #[error("{what} is {got}, expected {expected}")]
    Tensor {
        /// The tensor.
        what: &'static str,
        /// Its type and shape.
        got: String,
        /// What would fit.
        expected: String,
    },
    /// Images with values outside [0, 1].
    #[error(
        "image {index} of the batch has values from {min} to {max}, expected [0, 1]; \
         scale images to [0, 1] and leave mean and standard deviation to the model"
    )]
    Images {
        /// The first such image of the batch.
        index: usize,
        /// Its smallest value (NaN if it holds one).
        min: f32,
        /// Its largest value (NaN if it holds one).
        max: f32,
    },
    /// A configuration that does not say what it must, or says more.
    #[error("{0}")]
    Config(String),
    /// An attack that is not in the registry.
    #[error("unknown attack `{name}`, expected one of: {known}")]
    UnknownAttack {
        /// The name as given.
        name: String,
        /// The registered names.
        known: String,
    },
    /// A suite that is neither embedded nor a file.
    #[error("unknown suite `{name}`, expected one of: {known}, or the path of a TOML file")]
    UnknownSuite {
        /// The name as given.
        name: String,
        /// The embedded suites.
        known: String,
    },
    /// A search used in a way it cannot support, or one that broke its contract.
    #[error("{0}")]
    Search(String),
    /// A file that cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A source of examples that failed.
    #[error(transparent)]
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// A classifier or an objective that failed.
    #[error(transparent)]
    Model(#[from] rslad_models::Error),
    /// A tensor operation that failed.
    #[error("tensor operation failed: {0}")]
    Candle(#[from] candle_core::Error),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
