//! What the quickstart says: no claim that its numbers do not carry.

use super::Part;
use crate::args::QuickstartArgs;
use crate::result_file::ResultFile;
use crate::{run_info, say, table};
use anyhow::{Context, Result};
use rslad_attacks::Linf;
use rslad_attacks::result::ColumnSummary;
use rslad_data::Dataset;
use rslad_distill::Inputs;
use std::path::Path;

pub(super) fn introduction(args: &QuickstartArgs, test: &Dataset, inputs: &Inputs) -> String {
    let [_, h, w] = test.shape();
    format!(
        "rslad {} · quickstart · seed {} · cpu, {} cores\n\
         data       handwritten digits, {h}x{w}: {} to train, {} to select, {} to test\n\
         directory  {} (Ctrl-C is safe: run again to continue)\n",
        env!("CARGO_PKG_VERSION"),
        args.seed,
        run_info::cores(),
        inputs.train.len(),
        inputs.selection.len(),
        test.len(),
        args.out.display()
    )
}

/// The accuracies on one line.
pub(super) fn accuracies(result: &ResultFile) -> String {
    let columns = result.columns.iter().map(|c| format!("{} {:.1}", c.name, 100.0 * c.accuracy));
    let all: Vec<String> =
        std::iter::once(format!("clean {:.1}", 100.0 * result.clean.accuracy)).chain(columns).collect();
    all.join(" · ") + " %"
}

/// The table, what it shows, and where to go from here: to standard output.
pub(super) fn conclude(parts: &[Part], eps: Linf, out: &Path) -> Result<()> {
    let rows: Vec<(&str, &ResultFile)> = parts.iter().map(|part| (part.name, &part.result)).collect();
    say::result(table::of_results(&rows))?;
    let n = rows[0].1.data.n;
    say::result(format!(
        "\nThe share of the {n} test images that are classified correctly, and still are under each attack\n\
         within eps {eps}; in brackets the 95 % interval. Each model is attacked in its own right.\n"
    ))?;
    let worst = |name: &str| worst(parts, name);
    say::result(robustness(worst("natural")?, worst("RSLAD")?))?;
    say::result(ranking(worst("SAT")?, worst("RSLAD")?, n))?;
    say::result(format!("\nreport   {}", out.join("report.html").display()))?;
    say::result(format!("picture  {}", out.join("adversarial.png").display()))?;
    say::result(format!("results  {}", out.join("result.json").display()))?;
    Ok(say::result("next     rslad list recipes · rslad train --help · rslad eval --help")?)
}

/// The attack that leaves a model the least.
fn worst<'p>(parts: &'p [Part], name: &str) -> Result<&'p ColumnSummary> {
    let part = parts.iter().find(|part| part.name == name).context("a part of the demonstration")?;
    let columns = part.result.columns.iter();
    columns.min_by(|a, b| a.accuracy.total_cmp(&b.accuracy)).context("a suite has columns")
}

fn robustness(natural: &ColumnSummary, rslad: &ColumnSummary) -> String {
    let percent = |c: &ColumnSummary| format!("{:.1} %", 100.0 * c.accuracy);
    match rslad.ci95.0 > natural.ci95.1 {
        true => format!(
            "What this shows: the worst of the attacks leaves the natural student {}, and {} to one\n\
             that never saw a label, only a robust teacher's answers.",
            percent(natural),
            percent(rslad)
        ),
        false => format!(
            "Under the worst of the attacks the natural student keeps {}, the RSLAD student {}:\n\
             as they were trained here, their intervals overlap, and this shows no difference.",
            percent(natural),
            percent(rslad)
        ),
    }
}

fn ranking(sat: &ColumnSummary, rslad: &ColumnSummary, n: usize) -> String {
    let half = 50.0 * (rslad.ci95.1 - rslad.ci95.0);
    let apart = sat.ci95.0 > rslad.ci95.1 || rslad.ci95.0 > sat.ci95.1;
    let why = match apart {
        true => "this is one seed, one small network, and a short training",
        false => "their intervals overlap, and this is one seed",
    };
    format!(
        "What it cannot show: whether SAT or RSLAD is the better method. With {n} images an accuracy is\n\
         known to about {half:.0} points either way; {why}."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rslad_attacks::result::{Accuracy, EightBit};

    fn column(correct: usize) -> ColumnSummary {
        let accuracy = Accuracy { correct, n: 360 };
        ColumnSummary {
            name: "pgd20".into(),
            attack: "pgd".into(),
            robust: correct,
            n: 360,
            accuracy: accuracy.share(),
            ci95: accuracy.ci95(),
            max_linf: 0.15,
            seconds: 0.0,
            funnel: vec![],
            non_finite: 0,
            eight_bit: EightBit { fallen: 0, still: 0 },
            adapted: None,
        }
    }

    #[test]
    fn no_difference_is_claimed_within_the_intervals() {
        let clear = robustness(&column(17), &column(209));
        assert!(clear.contains("leaves the natural student 4.7 %, and 58.1 % to one"), "{clear}");
        assert!(robustness(&column(190), &column(209)).contains("this shows no difference"));
        assert!(robustness(&column(300), &column(209)).contains("this shows no difference"));
    }

    #[test]
    fn methods_are_not_ranked_by_one_run() {
        assert!(ranking(&column(205), &column(209), 360).contains("intervals overlap"));
        assert!(ranking(&column(100), &column(209), 360).contains("one small network"));
    }
}
