//! `rslad list`: the registries, as they are.

use crate::args::{ListArgs, Listed};
use anyhow::Result;
use rslad_attacks::attacks::ATTACKS;
use rslad_attacks::suite::{SUITES, Suite};
use rslad_data::DATASETS;
use rslad_distill::{METHODS, RECIPES, Recipe};
use rslad_models::ARCHS;

pub(crate) fn run(args: &ListArgs) -> Result<()> {
    match args.what {
        Listed::Archs => archs(),
        Listed::Attacks => attacks(),
        Listed::Methods => methods(),
        Listed::Recipes => recipes()?,
        Listed::Suites => suites()?,
        Listed::Datasets => entries(DATASETS.iter().map(|d| (d.name, d.about.to_string()))),
    }
    Ok(())
}

/// Names in a column, texts beside them.
fn entries<'a>(rows: impl Iterator<Item = (&'a str, String)>) {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, about) in rows {
        println!("{name:width$}  {about}");
    }
}

/// TOML keys on one line.
fn on_one_line(keys: &str) -> String {
    keys.trim().replace('\n', ", ")
}

fn archs() {
    for arch in ARCHS {
        println!(
            "{}  {}\n    options, as published: {}\n",
            arch.name,
            arch.about,
            on_one_line(arch.published)
        );
    }
}

fn attacks() {
    for attack in ATTACKS {
        println!("{}  {}", attack.name, attack.about);
        if !attack.usual.trim().is_empty() {
            println!("    usual keys: {}", on_one_line(attack.usual));
        }
        println!();
    }
}

fn methods() {
    println!(
        "S student, T teacher, x clean image, x' adversarial image, y label; x' maximizes the inner loss.\n"
    );
    for method in METHODS {
        println!("{}  {}", method.name, method.about);
        println!("    outer  {}\n    inner  {}\n    keys   {}\n", method.outer, method.inner, method.keys);
    }
}

fn recipes() -> Result<()> {
    let about = |name| Recipe::load(name, &[]).map(|recipe| recipe.about);
    let rows = RECIPES.iter().map(|r| Ok((r.name, about(r.name)?))).collect::<Result<Vec<_>>>()?;
    entries(rows.into_iter());
    println!("\nrslad train --recipe NAME --print shows one in full");
    Ok(())
}

fn suites() -> Result<()> {
    for entry in SUITES {
        let suite = Suite::load(entry.name)?;
        let columns: Vec<&str> = suite.columns.iter().map(|c| c.name.as_str()).collect();
        println!("{}  {}\n    columns: {}\n", suite.name, suite.about, columns.join(", "));
    }
    Ok(())
}
