//! `cargo xtask ci`: the gate, for people.
//!
//! The list of checks has one home, `.ci/run`, because that file must also work where nothing of
//! this workspace has been built yet.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// How much is checked.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Extent {
    /// What every change must pass.
    Usual,
    /// Also features that the binary leaves out.
    Full,
}

/// Runs the gate and lets it speak for itself.
///
/// # Errors
/// When bash is missing or a check is red.
pub(crate) fn run(root: &Path, extent: Extent) -> anyhow::Result<()> {
    let mut gate = Command::new("bash");
    gate.arg(".ci/run").current_dir(root);
    if extent == Extent::Full {
        gate.arg("--full");
    }
    let status = gate.status().context("cannot start bash")?;
    if !status.success() {
        bail!("the gate is red, see above");
    }
    Ok(())
}
