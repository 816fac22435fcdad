//! Reports: what run and evaluation directories hold, as a page that people want to open.
//!
//! [`gather`] reads files, [`build`] turns them into one [`model::Report`] of plain numbers and words,
//! and everything that is written (HTML, Markdown, LaTeX, JSON, figures) is drawn from that. Nothing is
//! computed anew and no network is opened, so a report of old directories is as good as one of new ones.

mod build;
mod classes;
mod curves;
mod figures;
mod gather;
mod labels;
pub(crate) mod model;
mod pairs;
mod published;
pub(crate) mod render;
mod rows;
mod trust;

use crate::output::Output;
use anyhow::{Context, Result};
use rslad_models::durable;
use std::path::{Path, PathBuf};

/// What a report says that the directories do not know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    pub(crate) title: Option<String>,
    /// What must stand over every number.
    pub(crate) stamp: Option<String>,
    /// The command that makes the whole again.
    pub(crate) remake: Option<String>,
    /// Published values.
    pub(crate) table: Option<PathBuf>,
    /// Cells of the grid that are not finished.
    pub(crate) to_do: usize,
}

/// Writes the report of everything below some directories; returns the path of the page.
///
/// # Errors
/// When nothing below them can be reported, a file is not what its name says, or `out` cannot be
/// written to.
pub(crate) fn write(dirs: &[PathBuf], frame: &Frame, out: &Path) -> Result<PathBuf> {
    write_all(dirs, frame, out).map(|(page, _)| page)
}

/// As [`write()`], with what the page says.
///
/// # Errors
/// As of [`write()`].
pub(crate) fn write_all(dirs: &[PathBuf], frame: &Frame, out: &Path) -> Result<(PathBuf, model::Report)> {
    let table = frame.table.as_deref().map(published::Table::load).transpose()?;
    let found = gather::gather(dirs)?;
    let report = build::report(&found, frame, table.as_ref());
    let figures = figures::draw(&report, &found).context("drawing the figures")?;
    let output = Output::open(out)?;
    let folder = out.join("figures");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let save = |name: &str, bytes: &[u8]| durable::write(&output.file(name), bytes);
    for figure in &figures {
        save(&format!("figures/{}.svg", figure.name), figure.file().as_bytes())?;
        if let Some(png) = figure.png()? {
            save(&format!("figures/{}.png", figure.name), &png)?;
        }
    }
    let json = serde_json::to_string_pretty(&report).context("report.json")? + "\n";
    save("report.json", json.as_bytes())?;
    save("report.md", render::markdown(&report, &figures)?.as_bytes())?;
    save("report.tex", render::latex(&report)?.as_bytes())?;
    save("report.html", render::html(&report, &figures)?.as_bytes())?; // last: where it is all is
    Ok((output.file("report.html"), report))
}
