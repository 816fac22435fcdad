//! The errors of this crate, by what a caller can do about them.

use std::path::PathBuf;

/// What can go wrong in a recipe, a run or its directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recipe that does not say what it must, or says what makes no sense.
    #[error("{recipe}: {message}")]
    Recipe {
        /// The file or name of the recipe.
        recipe: String,
        /// Key, value, expectation and fix.
        message: String,
    },
    /// Data, teacher and student that do not fit each other.
    #[error("{0}")]
    Mismatch(String),
    /// A loss or gradient that is not finite.
    #[error(
        "{what} is not finite in epoch {epoch}, step {step}; lower `optim.lr`, lengthen `schedule.warmup` or add \
         `[guard]` to the recipe; `rslad replay {dump}` shows the step again"
    )]
    NotFinite {
        /// The quantity.
        what: String,
        /// The epoch, from 1.
        epoch: u64,
        /// The step within the epoch, from 1.
        step: u64,
        /// The file that holds the step.
        dump: String,
    },
    /// A method that asked for what it did not declare.
    #[error("{0}")]
    Method(String),
    /// Ranks that do not fit together.
    #[error("{0}")]
    Ranks(String),
    /// A run directory that holds something else or cannot be used.
    #[error("{path}: {message}")]
    RunDir {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A run directory that another process holds.
    #[error("{path}: in use by {holder}; wait for it to end or choose another directory")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// A file that cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A data set that cannot be read.
    #[error(transparent)]
    Data(#[from] rslad_data::Error),
    /// A network or checkpoint that failed.
    #[error(transparent)]
    Model(#[from] rslad_models::Error),
    /// An attack that failed.
    #[error(transparent)]
    Attack(#[from] rslad_attacks::Error),
    /// A tensor operation that failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
