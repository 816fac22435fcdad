//! Exit codes and the one-line story of an error.

use std::io::ErrorKind;

/// What ended the command, where it is not an error of a library.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// A flag that cannot be followed.
    #[error("{0}")]
    Usage(String),
    /// Told to stop; the state is saved.
    #[error("stopped; the state is saved: run the same command again to continue")]
    Interrupted,
}

/// The exit code of an error, as documented in `rslad --help`.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(of_cause).unwrap_or(2)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(ended) = cause.downcast_ref::<Ended>() {
        return Some(match ended {
            Ended::Usage(_) => 2,
            Ended::Interrupted => 75,
        });
    }
    if let Some(error) = cause.downcast_ref::<std::io::Error>() {
        return Some(of_io(error.kind()));
    }
    None.or_else(|| cause.downcast_ref().map(of_distill))
        .or_else(|| cause.downcast_ref().map(of_model))
        .or_else(|| cause.downcast_ref().map(of_attack))
        .or_else(|| cause.downcast_ref::<rslad_data::Error>().map(|_| 3))
}

fn of_distill(error: &rslad_distill::Error) -> u8 {
    use rslad_distill::Error as E;
    match error {
        E::NotFinite { .. } => 5,
        E::InUse { .. } => 6,
        E::Io { source, .. } => of_io(source.kind()),
        E::Data(_) => 3,
        E::Model(error) => of_model(error),
        E::Attack(error) => of_attack(error),
        _ => 2,
    }
}

fn of_model(error: &rslad_models::Error) -> u8 {
    use rslad_models::Error as E;
    match error {
        E::Checkpoint { .. } | E::Other(_) => 4,
        E::Shape { .. } => 3,
        E::Io { source, .. } => of_io(source.kind()),
        _ => 2,
    }
}

fn of_attack(error: &rslad_attacks::Error) -> u8 {
    use rslad_attacks::Error as E;
    match error {
        E::Images { .. } => 3,
        E::Model(error) => of_model(error),
        E::Io { source, .. } => of_io(source.kind()),
        _ => 2,
    }
}

/// A file that is not there is one the user named; anything else is the disk.
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
