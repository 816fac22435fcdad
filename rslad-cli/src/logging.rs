//! Logs: to standard error while the command runs.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Sends log events to standard error: warnings, or more with `-v`; `RUST_LOG` decides where it is set.
pub(crate) fn to_stderr(verbose: u8) {
    let usual = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let colors = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colors).init();
}
