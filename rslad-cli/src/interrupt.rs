//! Ctrl-C, termination and the warning that cluster managers send before it (SIGUSR1): the first asks the
//! work to save and stop, another ends the process at once.

use crate::progress::Show;
use crate::say;
use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Signals nearer than this to the first are the same wish: `timeout` and cluster managers send one to
/// the process and one to its group.
const ONE_WISH: Duration = Duration::from_millis(500);

#[cfg(unix)]
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, signal_hook::consts::SIGUSR1];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// A flag that the first signal raises.
pub(crate) fn flag(show: Show) -> Result<Arc<AtomicBool>> {
    let (stop, at_once) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for signal in SIGNALS {
        let code = 128 + signal; // what a shell says of a process that the signal ended
        flag::register_conditional_shutdown(signal, code, Arc::clone(&at_once))
            .context("cannot watch for signals")?;
        flag::register(signal, Arc::clone(&stop)).context("cannot watch for signals")?;
    }
    let raised = Arc::clone(&stop);
    thread::spawn(move || watch(&raised, &at_once, show));
    Ok(stop)
}

/// Answers the first signal, and arms the second.
fn watch(raised: &AtomicBool, at_once: &AtomicBool, show: Show) {
    while !raised.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(50));
    }
    if show != Show::Nothing {
        say::note("\nstopping as soon as the state is safe; once more ends at once");
    }
    thread::sleep(ONE_WISH);
    at_once.store(true, Ordering::Relaxed);
}
