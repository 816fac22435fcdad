//! What the quickstart says: no claim that its numbers do not carry.

use super::design::{self, Design};
use crate::args::QuickstartArgs;
use crate::grid::file::Cell;
use crate::grid::{Plan, State};
use crate::report::model::{Measured, Report, Row};
use crate::{device, run_info, say, table};
use anyhow::{Context, Result};
use std::path::Path;

pub(super) fn introduction(args: &QuickstartArgs, plan: &Plan<'_>, design: &Design) -> Result<String> {
    let test = rslad_data::open(&design.data, rslad_data::Split::Test)?;
    let [_, h, w] = test.shape();
    let students = plan.cells.iter().filter(|cell| matches!(cell.cell, Cell::Train(_))).count();
    let open = (0..plan.cells.len()).filter(|&index| plan.state(index) != State::Finished).count();
    Ok(format!(
        "rslad {} · quickstart · seed {} · {}, {} cores\n\
         data       {}, {h}x{w}, {} test images\n\
         work       {students} students to train and attack: {} cells, {open} to do\n\
         directory  {} (Ctrl-C is safe: run again to continue)\n",
        env!("CARGO_PKG_VERSION"),
        args.seed,
        device::chosen(None)?,
        run_info::cores(),
        test.name(),
        say::count(design.n as u64),
        plan.cells.len(),
        args.out.display()
    ))
}

/// The tables, what they show, and where to go from here: to standard output.
pub(super) fn conclude(report: &Report, design: &Design, out: &Path) -> Result<()> {
    let most = design.most_labels();
    for radius in &design.radius {
        let heading = design::group(&radius.eps);
        let group =
            report.groups.iter().find(|group| group.heading == heading).context("a radius has rows")?;
        let shown = |i: &usize| report.columns[*i].name != "fgsm"; // the weakest, and a line has its length
        let columns: Vec<usize> = (0..report.columns.len()).filter(shown).collect();
        let head = columns.iter().map(|&i| report.columns[i].heading.clone());
        let header = std::iter::once(format!("{heading}, %")).chain(head).collect();
        let rows = group.rows.iter().map(|row| {
            let cells = columns.iter().map(|&i| of(row, i).map_or(String::new(), share));
            std::iter::once(row.label.clone()).chain(cells).collect()
        });
        say::result(table::plain(header, rows, 1))?;
        say::result(claim(&group.rows, &most)?)?;
        say::result("")?;
    }
    say::result(format!(
        "The share of {} test images that are classified correctly, and still are under each attack; in\n\
         brackets the 95 % interval of the images. Where there are two seeds it is their mean; the report\n\
         shows them apart, with paired tests and FGSM. AA is AutoAttack, on fewer images.\n",
        say::count(design.n as u64)
    ))?;
    say::result(format!("report   {}", out.join("report.html").display()))?;
    say::result(format!("picture  {}", out.join("adversarial.png").display()))?;
    say::result(format!("results  {}", out.join("report.json").display()))?;
    Ok(say::result("next     rslad list recipes · rslad train --help · rslad eval --help")?)
}

fn of(row: &Row, column: usize) -> Option<&Measured> {
    row.cells[column].measured.as_ref()
}

fn share(measured: &Measured) -> String {
    table::cell(measured.accuracy, measured.ci95)
}

/// The attack that leaves a row the least, of those on all images.
fn worst(row: &Row) -> Result<&Measured> {
    let most = row.cells.iter().filter_map(|cell| Some(cell.measured.as_ref()?.n)).max().unwrap_or(0);
    let all = row.cells.iter().filter_map(|cell| cell.measured.as_ref()).filter(|m| m.n == most);
    all.min_by(|a, b| a.accuracy.total_cmp(&b.accuracy)).context("a row was measured")
}

/// How RSLAD without labels stands to the others, in a sentence each; `most` names those with all labels.
fn claim(rows: &[Row], most: &str) -> Result<String> {
    let ours = rows.iter().find(|row| row.key.method == "rslad").context("a design has an RSLAD student")?;
    let rslad = worst(ours)?;
    let mut few: Vec<(&Row, &Measured)> = vec![];
    let mut all = None;
    for row in rows.iter().filter(|row| ["natural", "sat", "trades"].contains(&row.key.method.as_str())) {
        match row.key.variant.as_deref() == Some(most) {
            true => all = Some((row, worst(row)?)),
            false => few.push((row, worst(row)?)),
        }
    }
    let best = few.into_iter().max_by(|a, b| a.1.accuracy.total_cmp(&b.1.accuracy));
    let mut said = vec![format!("Without a label, RSLAD keeps {} under the worst attack.", percent(rslad))];
    let (row, other) = best.context("a design has students with few labels")?;
    let name = format!("{}, the best of those with few labels,", row.label);
    said.push(format!("{name} keeps {}: {}", percent(other), stands(rslad, other)));
    let (row, other) = all.context("a design has a student with all labels")?;
    said.push(format!("{} keeps {}: {}", row.label, percent(other), stands(rslad, other)));
    Ok(said.join("\n"))
}

fn percent(measured: &Measured) -> String {
    format!("{:.1} %", 100.0 * measured.accuracy)
}

fn stands(rslad: &Measured, other: &Measured) -> &'static str {
    match () {
        () if rslad.ci95.0 > other.ci95.1 => "RSLAD is ahead.",
        () if rslad.ci95.1 < other.ci95.0 => "RSLAD is behind.",
        () => "their intervals overlap.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::file::{Checkpoint, Role, Row as Key};
    use crate::report::model::{Cell, Mark};
    use rslad_attacks::result::Accuracy;

    fn row(method: &str, labels: &str, correct: usize) -> Row {
        let key = Key {
            role: Role::Student,
            student: "within 8/255".into(),
            method: method.into(),
            checkpoint: Checkpoint::Last,
            variant: Some(labels.into()),
        };
        let measured = |correct, n| {
            let accuracy = Accuracy { correct, n };
            Some(Measured { accuracy: accuracy.share(), ci95: accuracy.ci95(), n, seeds: vec![] })
        };
        let cell = |measured| Cell { measured, published: None, difference: None, mark: Mark::Unpublished };
        let cells = vec![cell(measured(900, 1000)), cell(measured(correct, 1000)), cell(measured(1, 50))];
        Row { label: format!("{method}, {labels}"), checkpoint: "last".into(), size: None, cells, key }
    }

    #[test]
    fn no_rank_is_claimed_within_the_intervals() {
        let said = |few, rslad, all| {
            let rows = [
                row("sat", "100 labels", few),
                row("rslad", "no label", rslad),
                row("trades", "4,000 labels", all),
            ];
            claim(&rows, "4,000 labels").unwrap()
        };
        assert_eq!(
            said(473, 715, 714),
            "Without a label, RSLAD keeps 71.5 % under the worst attack.\n\
             sat, 100 labels, the best of those with few labels, keeps 47.3 %: RSLAD is ahead.\n\
             trades, 4,000 labels keeps 71.4 %: their intervals overlap."
        );
        assert!(said(700, 715, 800).contains("70.0 %: their intervals overlap"));
        assert!(said(700, 715, 800).ends_with("80.0 %: RSLAD is behind."));
    }
}
