//! Exit codes and the one-line story of an error.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// What ended the command, where it is not an error of a library.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// A flag, recipe or suite that cannot be followed.
    #[error("{0}")]
    Usage(String),
    /// A directory that cannot be made or written to.
    #[error("{path}: cannot write there ({source}); choose another --out", path = path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A step that was replayed and is not finite, as in its run.
    #[error(
        "the step is not finite again; lower `optim.lr`, lengthen `schedule.warmup` or add `[guard]` to the recipe"
    )]
    NotFinite,
    /// A directory that another process is writing to.
    #[error("{path}: another evaluation is writing there; wait for it, or choose another --out", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Told to stop; the state is saved.
    #[error("stopped; the state is saved: run the same command again to continue")]
    Interrupted,
    /// Something that a cell names is missing.
    #[error("{what}")]
    Missing {
        /// What, and what to do about it.
        what: String,
        /// The code of its kind: data or weights.
        code: u8,
    },
    /// Not now.
    #[error("{0}")]
    TryAgain(String),
    /// A cell of a grid failed.
    #[error("{what}")]
    Cell {
        /// Which, and with what words.
        what: String,
        /// Its exit code.
        code: u8,
    },
    /// Another process of the same run says why it ends.
    #[error("ended with the other processes of the run")]
    ToldByAnother {
        /// The exit code of all of them.
        code: u8,
    },
    /// Told to stop within an evaluation that had decided nothing yet.
    #[error("stopped before anything was decided; run the same command again to repeat it")]
    EvaluationInterrupted,
}

/// The exit code of an error, as documented in `rslad --help`.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(of_cause).unwrap_or(2)
}

/// Whether the error is that nobody reads standard output any more.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
}

/// Whether somebody else tells the error.
pub(crate) fn is_told_by_another(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Ended::ToldByAnother { .. }))
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    None.or_else(|| cause.downcast_ref().map(of_ended))
        .or_else(|| cause.downcast_ref::<io::Error>().map(|_| 7)) // of standard output
        .or_else(|| cause.downcast_ref().map(of_distill))
        .or_else(|| cause.downcast_ref().map(of_model))
        .or_else(|| cause.downcast_ref().map(of_attack))
        .or_else(|| cause.downcast_ref().map(of_data))
}

fn of_ended(ended: &Ended) -> u8 {
    match ended {
        Ended::Usage(_) => 2,
        Ended::NotFinite => 5,
        Ended::NotWritable { .. } => 7,
        Ended::InUse { .. } => 6,
        Ended::Missing { code, .. } | Ended::Cell { code, .. } | Ended::ToldByAnother { code } => *code,
        Ended::Interrupted | Ended::TryAgain(_) | Ended::EvaluationInterrupted => 75,
    }
}

fn of_distill(error: &rslad_distill::Error) -> u8 {
    use rslad_distill::Error as E;
    match error {
        E::NotFinite { .. } => 5,
        E::InUse { .. } => 6,
        E::Io { source, .. } => of_io(source.kind()),
        E::Data(error) => of_data(error),
        E::Model(error) => of_model(error),
        E::Attack(error) => of_attack(error),
        _ => 2,
    }
}

fn of_data(error: &rslad_data::Error) -> u8 {
    use rslad_data::Error as E;
    match error {
        E::InUse { .. } => 6,
        E::Write { .. } => 7,
        _ => 3,
    }
}

fn of_model(error: &rslad_models::Error) -> u8 {
    use rslad_models::Error as E;
    match error {
        E::Checkpoint { .. } | E::Other(_) => 4,
        E::Shape { .. } => 3,
        E::Io { source, .. } => of_io(source.kind()),
        E::Write { .. } => 7,
        _ => 2,
    }
}

fn of_attack(error: &rslad_attacks::Error) -> u8 {
    use rslad_attacks::Error as E;
    match error {
        E::Images { .. } | E::Source(_) => 3,
        E::Model(error) => of_model(error),
        _ => 2, // the files it reads are suites
    }
}

/// A file of a run that is gone cannot be continued from; anything else is the disk.
fn of_io(kind: ErrorKind) -> u8 {
    if kind == ErrorKind::NotFound { 4 } else { 7 }
}

/// The causes of an error in one line, without what a cause repeats.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut story = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !story.contains(&cause) {
            let link = if story.is_empty() { "" } else { ": " };
            story = format!("{story}{link}{cause}");
        }
    }
    story
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_error_keeps_its_code_under_a_context() {
        let check = |error: anyhow::Error, expected: u8| {
            assert_eq!(code(&error.context("while doing something")), expected);
        };
        check(Ended::Usage("no".into()).into(), 2);
        check(rslad_data::open("digit", rslad_data::Split::Test).unwrap_err().into(), 3);
        let path = PathBuf::from("last.safetensors");
        let wrong = rslad_models::Error::Checkpoint { path: path.clone(), message: "is damaged".into() };
        check(rslad_distill::Error::Model(wrong).into(), 4);
        let full = || io::Error::from(ErrorKind::StorageFull);
        check(rslad_models::Error::Io { path: path.clone(), source: full() }.into(), 7);
        let gone = ErrorKind::NotFound.into();
        let gone = rslad_models::Error::Write { path: path.clone(), bytes: 9, source: gone };
        check(rslad_distill::Error::Model(gone).into(), 7);
        check(Ended::NotWritable { path, source: full() }.into(), 7);
        check(Ended::Interrupted.into(), 75);
    }

    #[test]
    fn a_story_says_nothing_twice() {
        let error = Err::<(), _>(io::Error::other("no such thing")).context("recipe: no such thing");
        assert_eq!(describe(&error.unwrap_err()), "recipe: no such thing");
        let error = Err::<(), _>(io::Error::other("no such thing")).context("recipe");
        assert_eq!(describe(&error.unwrap_err()), "recipe: no such thing");
    }
}
