//! The overview: every row of the table as a dot with its interval, on the hardest column.

use super::kit::{Canvas, Figure, drawing, text, width_of};
use super::style::{INK, TEXT, WIDTH, color};
use crate::report::model::{Cell, Report, Row};
use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

const RIGHT: i32 = 28;
const ROW: i32 = 27;
const HEAD: i32 = 10;
const FOOT: i32 = 58;

/// A line of the figure.
enum Line<'r> {
    Heading(&'r str),
    Row(&'r Row, &'r Cell),
}

/// The last of the columns that most rows were measured in, all rows below each other.
pub(super) fn overview(report: &Report) -> Result<Option<Figure>> {
    let measured = |i: usize| report.rows().filter(|(_, row)| row.cells[i].measured.is_some()).count();
    let most = (0..report.columns.len()).map(measured).max().unwrap_or(0);
    let Some(position) = (0..report.columns.len()).rev().find(|&i| most > 0 && measured(i) == most) else {
        return Ok(None);
    };
    let mut lines = vec![];
    for group in &report.groups {
        let rows: Vec<&Row> =
            group.rows.iter().filter(|row| row.cells[position].measured.is_some()).collect();
        if !rows.is_empty() {
            lines.push(Line::Heading(&group.heading));
            lines.extend(rows.into_iter().map(|row| Line::Row(row, &row.cells[position])));
        }
    }
    let column = &report.columns[position].heading;
    let published =
        report.rows().any(|(_, row)| row.cells[position].published.is_some()) && report.stamp.is_none();
    let caption = format!(
        "A dot is the mean over seeds, the bar its 95 % interval, small rings single \
         seeds{}.",
        if published { ", a diamond the published value" } else { "" }
    );
    let size = (WIDTH, (HEAD + FOOT + ROW * lines.len() as i32) as u32);
    let title = format!("The table at a glance: {column}");
    Figure::new(("overview", "table"), title, caption, size, |canvas| {
        let scale = Scale::of(&lines, published);
        scale.axis(canvas, lines.len())?;
        for (i, line) in lines.iter().enumerate() {
            let y = HEAD + ROW * i as i32 + ROW / 2;
            match line {
                Line::Heading(name) => {
                    text(canvas, name, (8, y + 2), (HPos::Left, VPos::Center), (TEXT + 1, INK.mix(1.0)))?;
                }
                Line::Row(row, cell) => scale.row(canvas, row, cell, y, published)?,
            }
        }
        Ok(())
    })
    .map(Some)
}

/// Percent to pixels.
struct Scale {
    top: f64,
    /// Where the scale begins, behind the names of the rows.
    left: i32,
}

fn name(row: &Row) -> String {
    format!("{}, {}", row.label, row.checkpoint)
}

impl Scale {
    fn of(lines: &[Line<'_>], published: bool) -> Self {
        let highest = lines.iter().filter_map(|line| match line {
            Line::Row(_, cell) => {
                let published = cell.published.as_ref().filter(|_| published).map_or(0.0, |p| p.accuracy);
                Some(cell.measured.as_ref().map_or(0.0, |m| m.ci95.1).max(published))
            }
            Line::Heading(_) => None,
        });
        let highest = 100.0 * highest.fold(0.0, f64::max);
        let names = lines.iter().map(|line| match line {
            Line::Heading(name) => 8 + width_of(name, TEXT + 1),
            Line::Row(row, _) => 18 + width_of(&name(row), TEXT),
        });
        let left = names.max().unwrap_or(0) + 26;
        Self { top: ((highest / 10.0).ceil() * 10.0).clamp(10.0, 100.0), left: left.clamp(120, 300) }
    }

    fn x(&self, share: f64) -> i32 {
        let width = f64::from(WIDTH as i32 - self.left - RIGHT);
        self.left + (width * (100.0 * share / self.top).clamp(0.0, 1.0)).round() as i32
    }

    fn axis(&self, canvas: &Canvas<'_>, lines: usize) -> Result<()> {
        let bottom = HEAD + ROW * lines as i32;
        let step = if self.top > 50.0 { 20.0 } else { 10.0 };
        let mut at = 0.0;
        while at <= self.top + 1e-9 {
            let x = self.x(at / 100.0);
            let path = PathElement::new(vec![(x, HEAD), (x, bottom)], INK.mix(0.12));
            canvas.draw(&path).map_err(drawing)?;
            text(
                canvas,
                &format!("{at:.0}"),
                (x, bottom + 8),
                (HPos::Center, VPos::Top),
                (TEXT, INK.mix(0.85)),
            )?;
            at += step;
        }
        let middle = (self.left + WIDTH as i32 - RIGHT) / 2;
        text(canvas, "accuracy, %", (middle, bottom + 30), (HPos::Center, VPos::Top), (TEXT, INK.mix(0.85)))
    }

    fn row(&self, canvas: &Canvas<'_>, row: &Row, cell: &Cell, y: i32, published: bool) -> Result<()> {
        text(canvas, &name(row), (18, y), (HPos::Left, VPos::Center), (TEXT, INK.mix(0.9)))?;
        let Some(measured) = &cell.measured else { return Ok(()) };
        let color = color(&row.key.method);
        let bar = vec![(self.x(measured.ci95.0), y), (self.x(measured.ci95.1), y)];
        canvas.draw(&PathElement::new(bar, color.mix(0.45).stroke_width(5))).map_err(drawing)?;
        if measured.seeds.len() > 1 {
            for seed in &measured.seeds {
                let ring = Circle::new((self.x(seed.accuracy), y), 4, color.stroke_width(1));
                canvas.draw(&ring).map_err(drawing)?;
            }
        }
        canvas.draw(&Circle::new((self.x(measured.accuracy), y), 5, color.filled())).map_err(drawing)?;
        if let Some(paper) = cell.published.as_ref().filter(|_| published) {
            let x = self.x(paper.accuracy);
            let diamond = vec![(x, y - 7), (x + 7, y), (x, y + 7), (x - 7, y), (x, y - 7)];
            canvas.draw(&PathElement::new(diamond, INK.mix(0.9).stroke_width(2))).map_err(drawing)?;
        }
        Ok(())
    }
}
