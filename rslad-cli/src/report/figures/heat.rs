//! Matrices in shades: classes, answers under attack, transfer, slices of the loss.

use super::charts::slug;
use super::kit::{Canvas, Figure, drawing, text, width_of};
use super::style::{BLUE, INK, RED, TEXT, WIDTH};
use crate::report::gather::Found;
use crate::report::model::{ClassTable, Report};
use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

/// A matrix with labels; values in [0, 1] are shades, texts stand in the cells.
struct Matrix {
    rows: Vec<String>,
    columns: Vec<String>,
    shade: Vec<Vec<f64>>,
    texts: Vec<Vec<String>>,
    /// Cells that are drawn in red: what went wrong.
    wrong: fn(usize, usize) -> bool,
}

/// More classes than this do not fit into a matrix that can be read.
const MOST: usize = 20;

/// Robust accuracy of every class under every method.
pub(super) fn classes(report: &Report) -> Result<Vec<Figure>> {
    let mut figures = vec![];
    for group in groups(&report.classes) {
        let tables: Vec<&ClassTable> = report.classes.iter().filter(|t| t.group == group).collect();
        let Some(first) = tables.first().filter(|t| t.classes.len() <= MOST) else { continue };
        let share = |robust: usize, n: usize| if n == 0 { f64::NAN } else { robust as f64 / n as f64 };
        let shade: Vec<Vec<f64>> = first
            .classes
            .iter()
            .enumerate()
            .map(|(i, _)| tables.iter().map(|t| share(t.classes[i].robust, t.classes[i].n)).collect())
            .collect();
        let percent = |v: &f64| if v.is_nan() { "no image".into() } else { format!("{:.0}", 100.0 * v) };
        let matrix = Matrix {
            rows: first.classes.iter().map(|row| row.class.clone()).collect(),
            columns: tables.iter().map(|t| t.label.clone()).collect(),
            texts: shade.iter().map(|row| row.iter().map(percent).collect()).collect(),
            shade,
            wrong: |_, _| false,
        };
        let caption = format!(
            "Robust accuracy in percent, by class, under {}; the stronger the color the more robust.",
            first.column
        );
        let name = format!("classes-{}", slug(group));
        figures.push(matrix.figure((&name, "classes"), format!("{group}: classes"), caption)?);
    }
    Ok(figures)
}

fn groups(tables: &[ClassTable]) -> Vec<&str> {
    let mut all: Vec<&str> = tables.iter().map(|table| table.group.as_str()).collect();
    all.dedup();
    all
}

/// Where the answers go under attack: of the first and the last student of each architecture.
pub(super) fn confusions(report: &Report) -> Result<Vec<Figure>> {
    let mut figures = vec![];
    for group in groups(&report.classes) {
        let tables: Vec<&ClassTable> = report.classes.iter().filter(|t| t.group == group).collect();
        let ends = if tables.len() > 1 { vec![tables[0], tables[tables.len() - 1]] } else { tables };
        for table in ends {
            let Some(confusion) = table.confusion.as_ref().filter(|c| c.len() <= MOST) else { continue };
            let names: Vec<String> = table.classes.iter().map(|row| row.class.clone()).collect();
            let share = |row: &Vec<usize>, n: usize| n as f64 / row.iter().sum::<usize>().max(1) as f64;
            let matrix = Matrix {
                shade: confusion.iter().map(|row| row.iter().map(|&n| share(row, n)).collect()).collect(),
                texts: confusion.iter().map(|row| row.iter().map(|&n| counted(n)).collect()).collect(),
                columns: names.clone(),
                rows: names,
                wrong: |i, j| i != j,
            };
            let caption = format!(
                "Counts under {}: rows are labels, columns the answers under attack; red is what fell.",
                table.column
            );
            let name = format!("confusion-{}-{}", slug(group), slug(&table.label));
            let title = format!("{group}, {}: where the answers go", table.label);
            figures.push(matrix.figure((&name, "classes"), title, caption)?);
        }
    }
    Ok(figures)
}

fn counted(n: usize) -> String {
    if n == 0 { String::new() } else { n.to_string() }
}

/// Accuracy on images made on another model.
pub(super) fn transfers(report: &Report) -> Result<Vec<Figure>> {
    let figure = |(i, transfer): (usize, &crate::report::model::Transfer)| {
        let percent = |v: &f64| format!("{:.1}", 100.0 * v);
        let matrix = Matrix {
            rows: transfer.sources.clone(),
            columns: transfer.targets.clone(),
            shade: transfer.accuracy.clone(),
            texts: transfer.accuracy.iter().map(|row| row.iter().map(percent).collect()).collect(),
            wrong: |_, _| false,
        };
        let caption = format!(
            "Accuracy in percent on {} images within eps {}: rows are the models that the attacked images were \
             made on, columns those that judge them.",
            transfer.n, transfer.eps
        );
        let name = format!("transfer-{i}-{}", slug(&transfer.column));
        matrix.figure((&name, "funnel"), format!("Transfer of {}", transfer.column), caption)
    };
    report.transfers.iter().enumerate().map(figure).collect()
}

impl Matrix {
    fn figure(&self, name: (&str, &'static str), title: String, caption: String) -> Result<Figure> {
        let left = 16 + self.rows.iter().map(|row| width_of(row, TEXT)).max().unwrap_or(0);
        let each = (WIDTH as i32 - left - 8) / self.columns.len().max(1) as i32;
        let widest = self.columns.iter().map(|c| width_of(c, TEXT)).max().unwrap_or(0);
        let slanted = widest > each;
        let head = if slanted { widest.min(300) + 14 } else { 32 };
        let row = each.clamp(20, 32);
        let size = (WIDTH, (head + row * self.rows.len() as i32 + 10) as u32);
        Figure::new(name, title, caption, size, |canvas| {
            for (j, column) in self.columns.iter().enumerate() {
                let x = left + each * j as i32 + each / 2;
                column_label(canvas, column, (x, head - 6), slanted)?;
            }
            for (i, name) in self.rows.iter().enumerate() {
                let y = head + row * i as i32;
                text(
                    canvas,
                    name,
                    (left - 8, y + row / 2),
                    (HPos::Right, VPos::Center),
                    (TEXT, INK.mix(0.9)),
                )?;
                for j in 0..self.columns.len() {
                    let x = left + each * j as i32;
                    self.cell(canvas, (i, j), [(x + 1, y + 1), (x + each - 1, y + row - 1)])?;
                }
            }
            Ok(())
        })
    }

    fn cell(&self, canvas: &Canvas<'_>, (i, j): (usize, usize), corners: [(i32, i32); 2]) -> Result<()> {
        let shade = self.shade[i][j];
        let color = if (self.wrong)(i, j) { RED } else { BLUE };
        let strength = if shade.is_nan() { 0.0 } else { 0.04 + 0.66 * shade.clamp(0.0, 1.0) };
        canvas.draw(&Rectangle::new(corners, color.mix(strength).filled())).map_err(drawing)?;
        let [(x0, y0), (x1, y1)] = corners;
        let size = if x1 - x0 < 34 { TEXT - 4 } else { TEXT };
        let center = ((x0 + x1) / 2, (y0 + y1) / 2);
        text(canvas, &self.texts[i][j], center, (HPos::Center, VPos::Center), (size, INK.mix(0.95)))
    }
}

fn column_label(canvas: &Canvas<'_>, label: &str, at: (i32, i32), upright: bool) -> Result<()> {
    if !upright {
        return text(canvas, label, at, (HPos::Center, VPos::Bottom), (TEXT, INK.mix(0.9)));
    }
    let font = ("sans-serif", TEXT).into_font().transform(FontTransform::Rotate270);
    let anchor = plotters::style::text_anchor::Pos::new(HPos::Left, VPos::Center);
    let ink = INK.mix(0.9);
    let style = TextStyle::from(font).color(&ink).pos(anchor);
    canvas.draw(&Text::new(label.to_string(), at, style)).map_err(drawing)
}

/// A slice of the loss for each model, in the same shades.
pub(super) fn landscapes(found: &Found) -> Result<Vec<Figure>> {
    let mut figures = vec![];
    for (i, look) in found.looks.iter().enumerate() {
        let losses = || look.file.loss.values().flatten().flatten().copied();
        let lowest = losses().fold(f64::MAX, f64::min);
        let highest = losses().fold(f64::MIN_POSITIVE, f64::max);
        let models: Vec<&String> =
            look.file.models.iter().filter(|m| look.file.loss.contains_key(*m)).collect();
        let per_line = models.len().clamp(1, 2);
        let panel = (WIDTH as i32 - 20) / per_line as i32;
        let lines = models.len().div_ceil(per_line) as i32;
        let caption = format!(
            "Mean loss around {} images within eps {}: upward along the sign of the model's own gradient, to the \
             right along a random direction; all panels in the same shades, from a loss of {lowest:.2} to {highest:.2}.",
            look.label.len(),
            look.file.eps
        );
        let name = format!("landscape-{i}");
        let size = (WIDTH, (lines * (panel + 30) + 8) as u32);
        figures.push(Figure::new(
            (&name, "landscape"),
            "The loss around images".into(),
            caption,
            size,
            |canvas| {
                for (k, model) in models.iter().enumerate() {
                    let corner =
                        (14 + panel * (k % per_line) as i32, 4 + (panel + 30) * (k / per_line) as i32);
                    slice(canvas, model, &look.file.loss[*model], lowest..highest, corner, panel - 16)?;
                }
                Ok(())
            },
        )?);
    }
    Ok(figures)
}

fn slice(
    canvas: &Canvas<'_>,
    model: &str,
    loss: &[Vec<f64>],
    range: std::ops::Range<f64>,
    (x0, y0): (i32, i32),
    side: i32,
) -> Result<()> {
    text(canvas, model, (x0 + side / 2, y0 + 4), (HPos::Center, VPos::Top), (TEXT, INK.mix(0.95)))?;
    let (top, points) = (y0 + 26, loss.len() as i32);
    let at = |k: i32| side * k / points;
    for (i, row) in loss.iter().enumerate() {
        for (j, value) in row.iter().enumerate() {
            let (i, j) = (points - 1 - i as i32, j as i32); // upward along the gradient
            let corners = [(x0 + at(j), top + at(i)), (x0 + at(j + 1), top + at(i + 1))];
            let share = (value - range.start) / (range.end - range.start).max(f64::MIN_POSITIVE);
            let strength = 0.02 + 0.93 * share.clamp(0.0, 1.0);
            canvas.draw(&Rectangle::new(corners, RED.mix(strength).filled())).map_err(drawing)?;
        }
    }
    let frame = [(x0, top), (x0 + side, top + side)];
    canvas.draw(&Rectangle::new(frame, INK.mix(0.35))).map_err(drawing)?;
    let center = (x0 + side / 2, top + side / 2);
    canvas.draw(&Circle::new(center, 3, INK.mix(0.9).filled())).map_err(drawing)
}
