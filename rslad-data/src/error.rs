//! The errors of this crate.

/// What can go wrong between a data spec and a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A data spec whose name is not in the registry.
    #[error("unknown data set `{spec}`, expected one of: {known}{hint}")]
    UnknownDataset {
        /// The spec as given.
        spec: String,
        /// The registered names.
        known: String,
        /// `; did you mean ...`, or nothing.
        hint: String,
    },
    /// A data spec with an argument where none belongs.
    #[error("data `{spec}`: `{name}` is embedded and takes nothing after its name; write `{name}`")]
    UnexpectedArgument {
        /// The spec as given.
        spec: String,
        /// The data set's name.
        name: &'static str,
    },
    /// A split that does not exist.
    #[error("unknown split `{0}`, expected `train` or `test`")]
    UnknownSplit(String),
    /// A data set that contradicts itself, or a part that it does not have.
    #[error("data set `{name}`: {message}")]
    Dataset {
        /// The data set's name.
        name: String,
        /// Thing, value, expectation and fix.
        message: String,
    },
    /// A batch that contradicts itself or leaves `[0,1]`.
    #[error("batch: {0}")]
    Batch(String),
    /// A tensor operation that failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
