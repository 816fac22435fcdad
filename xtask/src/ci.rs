//! `cargo xtask ci`: the gate, for people.
//!
//! The list of checks has one home, `.ci/run`, because that file must also work where nothing of
//! this workspace has been built yet.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Runs the gate and lets it speak for itself.
///
/// # Errors
/// When bash is missing or a check is red.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let status =
        Command::new("bash").arg(".ci/run").current_dir(root).status().context("cannot start bash")?;
    if !status.success() {
        bail!("the gate is red, see above");
    }
    Ok(())
}
