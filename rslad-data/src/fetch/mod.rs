//! Gets published data sets over the network: mirrors in order, broken transfers taken up where they
//! broke, and no file under its name before its hash is right.
//!
//! A data set is offered in forms, each of some files; the first form that can be had whole is taken.
//! The proxy variables of the platform are honored (`ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`,
//! `NO_PROXY`); see [`Environment`] for ours.

mod client;
mod offers;
mod transfer;

pub use client::Client;
pub use offers::{FETCHABLE, Fetchable, Offer, RemoteFile};

use crate::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// What the environment says about the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Nothing may be asked for: `RSLAD_OFFLINE` is set, to anything but 0.
    pub offline: bool,
    /// The hub may not be asked: `HF_HUB_OFFLINE`.
    pub hub_offline: bool,
    /// Another address of the hub: `HF_ENDPOINT`.
    pub hub: Option<String>,
    /// What the hub is shown, and nobody else: `HF_TOKEN`.
    pub hub_token: Option<String>,
}

impl Environment {
    /// As the process has it.
    pub fn of_process() -> Self {
        let text = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let on = |name| text(name).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"));
        Self {
            offline: on("RSLAD_OFFLINE"),
            hub_offline: on("HF_HUB_OFFLINE"),
            hub: text("HF_ENDPOINT"),
            hub_token: text("HF_TOKEN"),
        }
    }
}

/// What happens while files are fetched, in this order for each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The file is there already, and is right.
    Present(&'a str),
    /// A mirror sends the file.
    Begins {
        /// The file.
        name: &'a str,
        /// Where it comes from.
        url: &'a str,
        /// The bytes that were there before.
        have: u64,
        /// The bytes of the whole, if they are known.
        total: Option<u64>,
    },
    /// So many more bytes are there.
    Received(u64),
    /// A mirror failed, or has to be asked again.
    Failed {
        /// Where the file should have come from.
        url: &'a str,
        /// Why it did not.
        reason: &'a str,
    },
    /// The file is there, and is right.
    Done(&'a str),
}

/// Fetches a data set in the first form that can be had whole; says where its files are.
///
/// # Errors
/// When no form can be had: names every address and what it answered. When the directory cannot be
/// written to, or somebody else fetches the same file.
pub fn fetch(
    offers: &[Offer],
    directory: &Path,
    client: &Client,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(directory).map_err(Error::writing(directory))?;
    let mut failures = Vec::new();
    for offer in offers {
        let files: Result<Option<Vec<PathBuf>>> = offer
            .files
            .iter()
            .map(|file| transfer::get(file, directory, client, watch, &mut failures))
            .collect();
        if let Some(files) = files? {
            return Ok(files);
        }
    }
    let tried: Vec<String> = failures.iter().map(|(url, reason)| format!("\n  {url}: {reason}")).collect();
    Err(Error::file(
        directory,
        format!("could not be fetched:{}\n{}", tried.concat(), by_hand(offers, directory)),
    ))
}

/// How to do it by other means.
fn by_hand(offers: &[Offer], directory: &Path) -> String {
    let Some(offer) = offers.first() else { return String::new() };
    let files: Vec<String> =
        offer.files.iter().map(|file| format!("{} (sha256 {})", file.name, file.sha256)).collect();
    format!("by hand: put {} into {}", files.join(", "), directory.display())
}
