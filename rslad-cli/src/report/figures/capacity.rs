//! Robustness against size: students of several widths over what they cost, the teacher as a level line.

use super::charts::{Axes, Line, chart, slug, top};
use super::kit::Figure;
use crate::grid::file::Role;
use crate::model_cost::Cost;
use crate::report::labels;
use crate::report::model::{Measured, Report, Row};
use crate::say;
use anyhow::Result;

/// What a size is measured by.
struct Measure {
    name: &'static str,
    of: fn(&Cost) -> f64,
    text: fn(f64) -> String,
}

const MEASURES: [Measure; 3] = [
    Measure { name: "parameters", of: |cost| cost.parameters as f64, text: |n| say::short(n as u64) },
    Measure { name: "multiply-accumulates", of: |cost| cost.macs as f64, text: |n| say::short(n as u64) },
    Measure { name: "milliseconds an image", of: |cost| cost.ms_per_image, text: labels::milliseconds },
];

/// A figure for each measure, where the students of an architecture differ in size.
pub(super) fn figures(report: &Report) -> Result<Vec<Figure>> {
    let mut figures = vec![];
    // The hardest column: tables have it last.
    let Some(position) = report.columns.len().checked_sub(1).filter(|_| report.compares_sizes()) else {
        return Ok(figures);
    };
    let measured = |row: &Row| row.cells[position].measured.clone();
    let teachers: Vec<Measured> = report
        .rows()
        .filter(|(_, row)| row.key.role == Role::Teacher)
        .filter_map(|(_, row)| measured(row))
        .collect();
    for group in &report.groups {
        for measure in &MEASURES {
            let mut lines: Vec<Line> = vec![];
            for row in group.rows.iter().filter(|row| row.key.role == Role::Student) {
                let (Some(size), Some(measured)) = (&row.size, measured(row)) else { continue };
                let at = (measure.of)(size).log10();
                let line = line_of(&mut lines, &row.key.method);
                line.points.push((at, 100.0 * measured.accuracy));
                line.bars.push((at, 100.0 * measured.ci95.0, 100.0 * measured.ci95.1));
            }
            if lines.iter().all(|line| line.points.len() < 2) {
                continue;
            }
            lines.iter_mut().for_each(|line| line.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
            let all = lines.iter().flat_map(|line| line.points.iter().map(|point| point.0));
            let (low, high) = all.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
            let (low, high) = (low - 0.1, high + 0.1);
            for teacher in &teachers {
                let level = 100.0 * teacher.accuracy;
                let points = vec![(low, level), (high, level)];
                lines.push(Line {
                    label: "Teacher".into(),
                    method: "teacher".into(),
                    points,
                    ..Line::default()
                });
            }
            let axes = Axes {
                x: low..high,
                y: 0.0..top(&lines),
                x_label: measure.name,
                y_label: "robust accuracy, %",
                x_text: &|x| (measure.text)(10f64.powf(x)),
                x_ticks: 5,
            };
            let column = &report.columns[position].heading;
            let level = if teachers.is_empty() { "" } else { "; the level line is the teacher" };
            let caption = format!(
                "Accuracy under {column} against {}, on a scale of powers, with 95 % intervals{level}.",
                measure.name
            );
            let name = format!("capacity-{}-{}", slug(&group.heading), slug(measure.name));
            let title = format!("{}: robustness and {}", group.heading, measure.name);
            figures.push(chart((&name, "table"), title, caption, &lines, &axes)?);
        }
    }
    Ok(figures)
}

/// The line of a method, begun where it is not there yet.
fn line_of<'l>(lines: &'l mut Vec<Line>, method: &str) -> &'l mut Line {
    let position = lines.iter().position(|line| line.method == method).unwrap_or_else(|| {
        lines.push(Line { label: labels::method(method), method: method.into(), ..Line::default() });
        lines.len() - 1
    });
    &mut lines[position]
}
