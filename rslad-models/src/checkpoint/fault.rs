//! What can be wrong with a weight file, in types: callers and tests tell a damaged file from a refused one.

use crate::error::Error;
use std::path::Path;

/// Why a weight file is not read. Nothing of the file has been executed, and nothing is half loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A file that is something else altogether.
    #[error("{0}")]
    NotWeights(String),
    /// A file that ends too early.
    #[error("ends within {0}; a download that broke off? fetch it again and compare the size")]
    Truncated(String),
    /// A file that contradicts itself.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// A file that names code which no state dict needs.
    #[error(
        "names `{0}`, which a state dict of tensors does not need; nothing was executed. {hint}",
        hint = hint(.0)
    )]
    Refused(String),
    /// A feature of a file format that is not read.
    #[error("{0}")]
    Unsupported(String),
    /// A file that is larger in some respect than any weight file.
    #[error("has {what}, expected at most {most}")]
    Limit {
        /// The respect.
        what: String,
        /// The limit.
        most: u64,
    },
    /// A file whose contents hold no state dict.
    #[error("{0}")]
    NoStateDict(String),
    /// A state dict with entries that are not tensors, or that occur twice.
    #[error("the state dict {0}")]
    Entries(String),
}

impl Fault {
    /// The error about this file.
    pub(crate) fn of(self, path: &Path) -> Error {
        Error::Checkpoint { path: path.into(), message: self.to_string() }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    pub(crate) fn limit(what: impl Into<String>, most: usize) -> Self {
        Self::Limit { what: what.into(), most: most as u64 }
    }
}

/// What to do about a refused name: most are classes of whole pickled modules.
fn hint(name: &str) -> &'static str {
    let innocent = |c: char| c.is_alphanumeric() || "._".contains(c);
    let module = name.split('.').next().unwrap_or_default();
    if ["os", "posix", "nt", "subprocess", "builtins", "__builtin__", "sys"].contains(&module)
        || !name.chars().all(innocent)
    {
        "Do not load this file with `torch.load` either"
    } else {
        "If the file is a whole model, save `model.state_dict()` in PyTorch and load that"
    }
}
