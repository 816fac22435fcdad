//! Figures: SVG drawn once, shown inline in the page, and written to files.
//!
//! Text and axes are drawn in one color that is nobody else's, [`style::INK`]. Inline it becomes
//! `currentColor`, so that a figure follows the page into the dark; in a file it becomes near-black on
//! white.

mod adversarial;
mod capacity;
mod charts;
mod dots;
mod heat;
mod kit;
mod style;

pub(crate) use kit::Figure;

use super::gather::Found;
use super::model::Report;
use anyhow::Result;

/// All figures that there is something to draw for, in the order of the report's sections.
pub(crate) fn draw(report: &Report, found: &Found) -> Result<Vec<Figure>> {
    let mut figures = vec![];
    figures.extend(dots::overview(report)?);
    figures.extend(capacity::figures(report)?);
    figures.extend(charts::overfitting(report)?);
    figures.extend(charts::radius(report)?);
    figures.extend(adversarial::grids(found)?);
    figures.extend(heat::classes(report)?);
    figures.extend(heat::confusions(report)?);
    figures.extend(charts::funnel(report)?);
    figures.extend(heat::transfers(report)?);
    figures.extend(heat::landscapes(found)?);
    Ok(figures)
}
