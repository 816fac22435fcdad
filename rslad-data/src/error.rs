//! The errors of this crate.

use std::io;
use std::path::{Path, PathBuf};

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
    /// A data spec with an argument where none belongs, or without one that must be there.
    #[error("data `{spec}`: {message}")]
    Spec {
        /// The spec as given.
        spec: String,
        /// What is wrong, and the fix.
        message: String,
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
    /// A file or directory that does not hold what it should.
    #[error("{}: {message}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Thing, value, expectation and fix.
        message: String,
    },
    /// A file that cannot be read.
    #[error("{}: cannot be read ({source})", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error("{}: cannot be written ({source}); free space or choose another directory", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file that another process is fetching.
    #[error("{}: is being fetched by another process; wait for it, or end it", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A batch that contradicts itself or leaves `[0,1]`.
    #[error("batch: {0}")]
    Batch(String),
    /// A tensor operation that failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// A file that does not hold what it should.
    pub(crate) fn file(path: &Path, message: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), message: message.into() }
    }

    /// For `map_err`: a file that cannot be written.
    #[cfg(feature = "fetch")]
    pub(crate) fn writing(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| Self::Write { path: path.to_owned(), source }
    }

    /// For `map_err`: a file that cannot be read.
    pub(crate) fn reading(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| Self::Read { path: path.to_owned(), source }
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
