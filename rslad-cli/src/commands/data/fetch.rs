//! `rslad data fetch`.

use crate::args::FetchArgs;
use crate::progress::{Show, Work};
use crate::say;
use anyhow::{Context, Result};
use rslad_data::cache;
use rslad_data::fetch::{Client, Environment, Event, FETCHABLE, Offer, fetch};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(60);

pub(super) fn run(args: &FetchArgs, quiet: bool) -> Result<()> {
    let show = Show::here(quiet);
    let (name, dir) = (&args.name, directory(args)?);
    let client = Client::new(Environment::of_process(), PAUSE, SILENCE);
    let mut progress = Progress { show, transfer: None };
    fetch(&offers(args)?, &dir, &client, &mut |event| progress.see(event))?;
    drop(progress);
    // The embedded sample has the plain name of Fashion-MNIST, so the whole needs its place.
    let plain = args.dir.is_none() && name != "fashion-mnist";
    let spec = if plain { name.clone() } else { format!("{name}:{}", dir.display()) };
    Ok(say::result(format!("--data {spec}"))?)
}

fn directory(args: &FetchArgs) -> Result<PathBuf> {
    Ok(args.dir.clone().map_or_else(|| cache::directory(&args.name), Ok)?)
}

fn offers(args: &FetchArgs) -> Result<Vec<Offer>> {
    let set = FETCHABLE.iter().find(|set| set.name == args.name).context("the parser knows the names")?;
    let mirrored = |offer: Offer| match &args.mirror {
        Some(base) => offer.with_mirror(base),
        None => offer,
    };
    Ok((set.offers)().into_iter().map(mirrored).collect())
}

/// Shows a bar with speed and time left for each transfer, and a line for all else.
struct Progress {
    show: Show,
    transfer: Option<Transfer>,
}

struct Transfer {
    work: Work,
    began: Instant,
    bytes: u64,
}

impl Progress {
    fn see(&mut self, event: Event<'_>) {
        match event {
            Event::Present(name) => self.line(&format!("{name}: already here, sha256 as published")),
            Event::Begins { name, url, have, total } => {
                self.line(&format!("{name}{} from {url}", size(have, total)));
                let work = Work::new(self.show, "fetching", total.unwrap_or(0), have);
                self.transfer = Some(Transfer { work, began: Instant::now(), bytes: 0 });
            }
            Event::Received(n) => {
                if let Some(Transfer { work, began, bytes }) = &mut self.transfer {
                    *bytes += n;
                    work.advance(n, || speed(*bytes, began.elapsed()));
                }
            }
            Event::Failed { url, reason } => {
                self.transfer = None;
                self.line(&format!("{url}: {reason}"));
            }
            Event::Done(name) => {
                self.transfer = None;
                self.line(&format!("{name}: sha256 as published"));
            }
        }
    }

    fn line(&self, text: &str) {
        if self.show != Show::Nothing {
            say::note(text);
        }
    }
}

fn size(have: u64, total: Option<u64>) -> String {
    let megabytes = |n: u64| format!("{:.1}", n as f64 / 1e6);
    match (have, total) {
        (0, None) => String::new(),
        (0, Some(total)) => format!(" ({} MB)", megabytes(total)),
        (have, None) => format!(" (after {} MB)", megabytes(have)),
        (have, Some(total)) => format!(" ({} of {} MB are here)", megabytes(have), megabytes(total)),
    }
}

fn speed(bytes: u64, time: Duration) -> String {
    format!("{:.1} MB/s", bytes as f64 / 1e6 / time.as_secs_f64().max(1e-3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_speeds_are_told_in_megabytes() {
        assert_eq!(size(0, Some(170_052_171)), " (170.1 MB)");
        assert_eq!(size(50_000_000, Some(170_052_171)), " (50.0 of 170.1 MB are here)");
        assert_eq!(speed(3_000_000, Duration::from_secs(2)), "1.5 MB/s");
    }
}
