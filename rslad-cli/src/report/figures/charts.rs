//! Charts of lines: over epochs, over radii, over the attacks of an ensemble.

use super::kit::{Canvas, Entry, Figure, drawing, legend, legend_height};
use super::style::{INK, PLOT, TEXT, WIDTH, color, dashes, of_variant};
use crate::report::model::{Report, Run};
use anyhow::Result;
use plotters::prelude::*;
use std::ops::Range;

/// A line of a chart, in percent on the y axis.
#[derive(Default)]
pub(super) struct Line {
    pub(super) label: String,
    pub(super) method: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Lower and upper bounds at the points.
    pub(super) bars: Vec<(f64, f64, f64)>,
    /// Positions marked by a short upright line.
    pub(super) ticks: Vec<(f64, f64)>,
    /// A position marked by a circle.
    pub(super) circle: Option<(f64, f64)>,
}

/// The frame of a chart.
pub(super) struct Axes<'a> {
    pub(super) x: Range<f64>,
    pub(super) y: Range<f64>,
    pub(super) x_label: &'a str,
    pub(super) y_label: &'a str,
    pub(super) x_text: &'a dyn Fn(f64) -> String,
    pub(super) x_ticks: usize,
}

/// The different values of a property, in order of appearance.
fn distinct<'r, T>(items: &'r [T], of: impl Fn(&'r T) -> &'r str) -> Vec<&'r str> {
    let mut all: Vec<&str> = vec![];
    for item in items {
        if !all.contains(&of(item)) {
            all.push(of(item));
        }
    }
    all
}

/// Robust accuracy over epochs, a figure for each architecture.
pub(super) fn overfitting(report: &Report) -> Result<Vec<Figure>> {
    let of_group = |group: &str| -> Result<Figure> {
        let runs: Vec<&Run> = report.runs.iter().filter(|run| run.group == group).collect();
        let first_seed = runs.iter().map(|run| run.seed).min();
        let one_seed: Vec<&&Run> = runs.iter().filter(|run| Some(run.seed) == first_seed).collect();
        let lines = one_seed.iter().map(|run| Line {
            label: run.label.clone(),
            method: run.method.clone(),
            points: run.points.iter().map(|p| (p.epoch as f64, 100.0 * p.robust)).collect(),
            bars: vec![],
            ticks: run.drops.iter().filter_map(|&drop| at(run, drop)).collect(),
            circle: run.best_epoch.and_then(|epoch| at(run, epoch)),
        });
        let lines: Vec<Line> = lines.collect();
        let axes = Axes {
            x: 0.0..span(&lines),
            y: 0.0..top(&lines),
            x_label: "epoch",
            y_label: "robust accuracy, %",
            x_text: &|x| format!("{x:.0}"),
            x_ticks: 6,
        };
        let (on, n) = runs.first().map_or(("", 0), |run| (run.on.as_str(), run.n));
        let caption = format!(
            "Robust accuracy on {n} {on} images after each evaluated epoch. A circle marks the epoch that was \
             kept as best, a short upright line an epoch after which the learning rate drops."
        );
        let name = format!("overfitting-{}", slug(group));
        chart(
            (&name, "overfitting"),
            format!("{group}: robust accuracy while training"),
            caption,
            &lines,
            &axes,
        )
    };
    distinct(&report.runs, |run| &run.group).into_iter().map(of_group).collect()
}

fn at(run: &Run, epoch: u64) -> Option<(f64, f64)> {
    let point = run.points.iter().find(|point| point.epoch == epoch)?;
    Some((point.epoch as f64, 100.0 * point.robust))
}

/// Robust accuracy over the radius, a figure for each architecture and attack.
pub(super) fn radius(report: &Report) -> Result<Vec<Figure>> {
    let mut figures = vec![];
    for group in distinct(&report.radii, |curve| &curve.group) {
        for column in distinct(&report.radii, |curve| &curve.column) {
            let curves = report.radii.iter().filter(|c| c.group == group && c.column == column);
            let lines = curves.map(|curve| Line {
                label: curve.label.clone(),
                method: curve.method.clone(),
                points: curve.points.iter().map(|p| (255.0 * p.eps, 100.0 * p.accuracy)).collect(),
                bars: curve
                    .points
                    .iter()
                    .map(|p| (255.0 * p.eps, 100.0 * p.ci95.0, 100.0 * p.ci95.1))
                    .collect(),
                ticks: vec![],
                circle: None,
            });
            let lines: Vec<Line> = lines.collect();
            if lines.is_empty() {
                continue;
            }
            let axes = Axes {
                x: 0.0..span(&lines),
                y: 0.0..100.0,
                x_label: "radius, of 255",
                y_label: "accuracy, %",
                x_text: &|x| format!("{x:.0}"),
                x_ticks: 8,
            };
            let caption = format!("Accuracy under {column} at each radius, with 95 % intervals.");
            let name = format!("radius-{}-{}", slug(group), slug(column));
            figures.push(chart(
                (&name, "radius"),
                format!("{group}: accuracy against radius"),
                caption,
                &lines,
                &axes,
            )?);
        }
    }
    Ok(figures)
}

/// What stands after each attack of an ensemble.
pub(super) fn funnel(report: &Report) -> Result<Vec<Figure>> {
    let mut figures = vec![];
    for group in distinct(&report.funnels, |funnel| &funnel.group) {
        let funnels: Vec<_> =
            report.funnels.iter().filter(|f| f.group == group && !f.label.contains("(last")).collect();
        let Some(first) = funnels.first() else { continue };
        let names: Vec<String> = first.stages.iter().map(|stage| stage.name.clone()).collect();
        let same = funnels.iter().filter(|f| f.stages.iter().map(|s| &s.name).eq(names.iter()));
        let lines = same.map(|funnel| Line {
            label: funnel.label.split(" (").next().unwrap_or(&funnel.label).into(),
            method: funnel.method.clone(),
            points: funnel
                .stages
                .iter()
                .enumerate()
                .map(|(i, s)| (i as f64, 100.0 * s.standing as f64 / funnel.n as f64))
                .collect(),
            bars: vec![],
            ticks: vec![],
            circle: None,
        });
        let lines: Vec<Line> = lines.collect();
        let stage = |x: f64| {
            let whole = (x - x.round()).abs() < 0.01 && x > -0.01;
            names.get(x.round() as usize).filter(|_| whole).cloned().unwrap_or_default()
        };
        let axes = Axes {
            x: -0.3..names.len() as f64 - 0.7,
            y: 0.0..100.0,
            x_label: "after the attack",
            y_label: "still standing, %",
            x_text: &stage,
            x_ticks: names.len(),
        };
        let caption =
            "Images that are still classified correctly after each attack of the ensemble, each attack \
                       working on what the ones before it left."
                .to_string();
        let name = format!("funnel-{}", slug(group));
        figures.push(chart(
            (&name, "funnel"),
            format!("{group}: {} attack by attack", first.column),
            caption,
            &lines,
            &axes,
        )?);
    }
    Ok(figures)
}

fn span(lines: &[Line]) -> f64 {
    lines.iter().flat_map(|line| line.points.iter().map(|p| p.0)).fold(1.0, f64::max)
}

/// The upper end of a percent axis: the next ten above all points and intervals.
pub(super) fn top(lines: &[Line]) -> f64 {
    let points = lines.iter().flat_map(|line| line.points.iter().map(|p| p.1));
    let highest =
        points.chain(lines.iter().flat_map(|line| line.bars.iter().map(|bar| bar.2))).fold(0.0, f64::max);
    ((highest / 10.0).floor() * 10.0 + 10.0).min(100.0)
}

/// A name as part of a file's.
pub(super) fn slug(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(plain).collect()
}

pub(super) fn chart(
    (name, section): (&str, &'static str),
    title: String,
    caption: String,
    lines: &[Line],
    axes: &Axes<'_>,
) -> Result<Figure> {
    let looks = looks(lines);
    let entries = lines.iter().zip(&looks);
    let entries: Vec<Entry> =
        entries.map(|(line, &(color, dashes))| Entry { label: line.label.clone(), color, dashes }).collect();
    // The plot keeps its height under a long legend.
    let size = (WIDTH, PLOT + legend_height(&entries, WIDTH) as u32);
    Figure::new((name, section), title, caption, size, |canvas| {
        let height = legend(canvas, &entries)?;
        let (_, below) = canvas.split_vertically(height);
        plot(&below, lines, &looks, axes)
    })
}

/// A color and dashes for each line: those of its method, unless a method has several.
fn looks(lines: &[Line]) -> Vec<(RGBColor, Option<(i32, i32)>)> {
    let is_once = |line: &Line| lines.iter().filter(|other| other.method == line.method).count() == 1;
    let by_method = lines.iter().all(is_once);
    let look = |(i, line): (usize, &Line)| match by_method {
        true => (color(&line.method), dashes(&line.method)),
        false => of_variant(i),
    };
    lines.iter().enumerate().map(look).collect()
}

fn plot(
    area: &Canvas<'_>,
    lines: &[Line],
    looks: &[(RGBColor, Option<(i32, i32)>)],
    axes: &Axes<'_>,
) -> Result<()> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(6)
        .margin_right(22)
        .margin_left(6)
        .margin_bottom(8)
        .x_label_area_size(48)
        .y_label_area_size(62)
        .build_cartesian_2d(axes.x.clone(), axes.y.clone())
        .map_err(drawing)?;
    let ink = INK.mix(0.85);
    let label = TextStyle::from(("sans-serif", TEXT).into_font()).color(&ink);
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.12))
        .axis_style(INK.mix(0.45))
        .label_style(label.clone())
        .axis_desc_style(label)
        .x_desc(axes.x_label)
        .y_desc(axes.y_label)
        .x_labels(axes.x_ticks)
        .y_labels(6)
        .x_label_formatter(&|x| (axes.x_text)(*x))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()
        .map_err(drawing)?;
    for (line, &(color, dashes)) in lines.iter().zip(looks) {
        let style = color.stroke_width(2);
        match dashes {
            None => {
                chart
                    .draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(3)))
                    .map_err(drawing)?;
            }
            Some((on, off)) => {
                let dashed = DashedLineSeries::new(line.points.iter().copied(), on, off, style);
                chart.draw_series(dashed).map_err(drawing)?;
            }
        }
        let bars = line.bars.iter().filter(|(_, low, high)| high > low).map(|&(x, low, high)| {
            PathElement::new(vec![(x, low), (x, high)], color.mix(0.45).stroke_width(2))
        });
        chart.draw_series(bars).map_err(drawing)?;
        if line.points.len() <= 24 {
            chart
                .draw_series(line.points.iter().map(|&p| Circle::new(p, 3, color.filled())))
                .map_err(drawing)?;
        }
        let height = (axes.y.end - axes.y.start) / 28.0;
        let ticks = line
            .ticks
            .iter()
            .map(|&(x, y)| PathElement::new(vec![(x, y - height), (x, y + height)], color.stroke_width(3)));
        chart.draw_series(ticks).map_err(drawing)?;
        chart
            .draw_series(line.circle.iter().map(|&p| Circle::new(p, 8, color.stroke_width(2))))
            .map_err(drawing)?;
    }
    Ok(())
}
