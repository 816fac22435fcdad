//! `rslad eval diff`: two models on the same images.

use crate::args::DiffArgs;
use crate::exit::Ended;
use crate::parts::Part;
use crate::{say, table};
use anyhow::{Context, Result};
use rslad_attacks::compare::Comparison;
use rslad_models::durable;
use serde::Serialize;

/// How many images a line names; a file names them all.
const NAMED: usize = 20;

#[derive(Serialize)]
struct Differences {
    schema: u32,
    first: String,
    second: String,
    columns: Vec<Column>,
}

#[derive(Serialize)]
struct Column {
    name: String,
    #[serde(flatten)]
    comparison: Comparison,
    /// The images on which only one of them is right.
    only_first_right: Vec<u32>,
    only_second_right: Vec<u32>,
}

pub(super) fn run(args: &DiffArgs) -> Result<()> {
    let (first, second) = (Part::read(&args.first)?, Part::read(&args.second)?);
    check(&first, &second)?;
    let names = first.result.columns.iter().map(|c| c.name.clone());
    let shared = names.filter(|name| second.result.columns.iter().any(|c| c.name == *name));
    let mut columns = vec![column("clean", &first, &second)?];
    for name in shared {
        columns.push(column(&name, &first, &second)?);
    }
    let header = ["accuracy, %", "A", "B", "only A right", "only B right", "p (McNemar)"];
    let rows = columns.iter().map(|Column { name, comparison: c, .. }| {
        vec![
            name.clone(),
            table::cell(c.first, c.first_ci95),
            table::cell(c.second, c.second_ci95),
            c.only_first.to_string(),
            c.only_second.to_string(),
            format!("{:.2e}", c.p),
        ]
    });
    say::result(table::plain(header.map(String::from).to_vec(), rows, 1))?;
    for side in [("A", &first), ("B", &second)] {
        say::result(format!("{} = {} ({})", side.0, side.1.dir.display(), side.1.result.model.path))?;
    }
    say::result(format!(
        "n = {}, eps {}; p: how likely a split as uneven is if neither is better",
        columns[0].comparison.n, first.result.eps
    ))?;
    for column in &columns {
        for (who, images) in [("A", &column.only_first_right), ("B", &column.only_second_right)] {
            if !images.is_empty() {
                say::result(format!("{}: only {who} is right on {}", column.name, named(images)))?;
            }
        }
    }
    let Some(file) = &args.out else { return Ok(()) };
    let show = |part: &Part| part.dir.display().to_string();
    let all = Differences { schema: 1, first: show(&first), second: show(&second), columns };
    let text = serde_json::to_string_pretty(&all).context("the differences")? + "\n";
    durable::write(file, text.as_bytes())?;
    Ok(say::result(file.display())?)
}

/// They asked the same of the same images.
fn check(first: &Part, second: &Part) -> Result<()> {
    let refuse = |what: String| -> Result<()> {
        let message = format!("{}: {what}; expected two models on the same images", second.dir.display());
        Err(Ended::Usage(message).into())
    };
    let (a, b) = (&first.result, &second.result);
    if a.data != b.data || first.u32s("index")? != second.u32s("index")? {
        return refuse(format!("is of other images than {}", first.dir.display()));
    }
    if a.eps != b.eps {
        return refuse(format!("is at radius {}, {} at {}", b.eps, first.dir.display(), a.eps));
    }
    Ok(())
}

fn column(name: &str, first: &Part, second: &Part) -> Result<Column> {
    let flags = |part: &Part| match name {
        "clean" => part.flags("clean_correct"),
        _ => part.flags(&format!("{name}/robust")),
    };
    let (a, b, ids) = (flags(first)?, flags(second)?, first.u32s("index")?);
    let only = |a: &[bool], b: &[bool]| {
        let right = ids.iter().zip(a.iter().zip(b)).filter(|(_, (a, b))| **a && !**b);
        right.map(|(id, _)| *id).collect::<Vec<u32>>()
    };
    let comparison = Comparison::of(&a, &b)?;
    Ok(Column {
        name: name.to_owned(),
        comparison,
        only_first_right: only(&a, &b),
        only_second_right: only(&b, &a),
    })
}

fn named(images: &[u32]) -> String {
    let shown: Vec<String> = images.iter().take(NAMED).map(u32::to_string).collect();
    match images.len() > NAMED {
        true => format!("{} images: {}, ... (--out FILE names them all)", images.len(), shown.join(", ")),
        false => format!("{}: {}", images.len(), shown.join(", ")),
    }
}
