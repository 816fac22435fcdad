//! The `rslad` binary, which chores call as a program like any other.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// What it is built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum With {
    /// As everybody builds it.
    Defaults,
    /// And with MPI.
    Mpi,
}

/// The binary: the one that RSLAD_BINARY names, else built if need be.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn rslad(root: &Path, with: With) -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("RSLAD_BINARY") {
        return Ok(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--locked", "--package", "rslad-cli"]);
    if with == With::Mpi {
        build.args(["--features", "mpi"]);
    }
    build.args(["--message-format", "json-render-diagnostics"]);
    let output = build.current_dir(root).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("rslad does not build, see above");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let path = messages.lines().rev().find_map(executable);
    path.context("cargo built no program named rslad")
}

/// The program that a message of cargo says was built.
fn executable(message: &str) -> Option<PathBuf> {
    let (_, rest) = message.split_once("\"executable\":\"")?;
    let path = rest.split('"').next()?.replace("\\\\", "\\");
    let path = PathBuf::from(path);
    (path.file_stem()? == "rslad").then_some(path)
}
