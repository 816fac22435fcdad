//! Logs: to standard error while the command runs, and as JSON lines to `log.jsonl` of the run
//! directory once there is one.

use crate::say;
use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// The run directory's log, once it is known.
static LOG: OnceLock<File> = OnceLock::new();

/// Starts logging. Standard error gets warnings, or more with `-v`; `RUST_LOG` decides where it is set.
pub(crate) fn start(verbose: u8) {
    let usual = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let terminal = fmt::layer().with_writer(io::stderr).with_ansi(say::colors()).with_filter(filter);
    let file = fmt::layer()
        .json()
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(|| RunLog)
        .with_filter(LevelFilter::INFO);
    tracing_subscriber::registry().with(terminal).with(file).init();
}

/// From now on also to this run directory. Only the first call of a process counts.
pub(crate) fn also_to(directory: &Path) -> Result<()> {
    if LOG.get().is_some() {
        return Ok(());
    }
    let path = directory.join("log.jsonl");
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.with_context(|| path.display().to_string())?;
    LOG.get_or_init(|| file);
    Ok(())
}

/// Writes to the run directory's log; to nowhere before there is one.
struct RunLog;

impl Write for RunLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match LOG.get() {
            Some(mut file) => file.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        LOG.get().map_or(Ok(()), |mut file| file.flush())
    }
}
