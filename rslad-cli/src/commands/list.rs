//! `rslad list`: the registries, as they are.

use crate::args::{ListArgs, Listed};
use crate::say;
use anyhow::Result;
use rslad_attacks::attacks::ATTACKS;
use rslad_attacks::suite::{SUITES, Suite};
use rslad_data::DATASETS;
use rslad_distill::{METHODS, RECIPES, Recipe};
use rslad_models::arch::PRESETS;
use rslad_models::{ARCHS, ArchSpec};

pub(crate) fn run(args: &ListArgs) -> Result<()> {
    let text = match args.what {
        Listed::Archs => archs()?,
        Listed::Attacks => attacks(),
        Listed::Methods => methods(),
        Listed::Recipes => recipes()?,
        Listed::Suites => suites()?,
        Listed::Teachers => teachers(),
        Listed::Datasets => entries(DATASETS.iter().map(|d| (d.usage(), d.about.to_string()))),
    };
    Ok(say::result(text.trim_end())?)
}

/// Names in a column, texts beside them.
fn entries(rows: impl Iterator<Item = (String, String)>) -> String {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, about)| format!("{name:width$}  {about}\n")).collect()
}

/// TOML keys on one line.
fn on_one_line(keys: &str) -> String {
    keys.trim().replace('\n', ", ")
}

fn archs() -> Result<String> {
    let mut text = "Costs are of the published options, for one image of 32x32.\n\n".to_string();
    for arch in ARCHS {
        text += &format!("{}  {}\n", arch.name, arch.about);
        text +=
            &format!("    options  {}\n    costs    {}\n\n", on_one_line(arch.published), cost(arch.name)?);
    }
    text += "Names with some options fixed:\n\n";
    for preset in PRESETS {
        text += &format!("{}  {} with {}\n", preset.name, preset.arch, on_one_line(preset.options));
        text += &format!("    costs    {}\n\n", cost(preset.name)?);
    }
    Ok(text + "rslad weights inspect FILE shows a checkpoint layer by layer")
}

fn cost(name: &str) -> Result<String> {
    let graph = ArchSpec::published(name, &toml::Table::new())?.graph()?;
    Ok(format!(
        "{} parameters · {} multiply-accumulates · {}B of activations (f32)",
        say::count(graph.n_parameters() as u64),
        say::short(graph.macs(32, 32)?),
        say::short(4 * graph.activations(32, 32)?)
    ))
}

fn attacks() -> String {
    let entry = |attack: &rslad_attacks::attacks::AttackEntry| match attack.usual.trim() {
        "" => format!("{}  {}\n\n", attack.name, attack.about),
        keys => format!("{}  {}\n    usual keys  {}\n\n", attack.name, attack.about, on_one_line(keys)),
    };
    ATTACKS.iter().map(entry).collect()
}

fn methods() -> String {
    let legend = "S student, T teacher, x clean image, x' adversarial image, y label; x' maximizes the inner loss.\n\n";
    let entry = |m: &rslad_distill::methods::MethodEntry| {
        format!(
            "{}  {}\n    outer  {}\n    inner  {}\n    keys   {}\n\n",
            m.name, m.about, m.outer, m.inner, m.keys
        )
    };
    legend.to_string() + &METHODS.iter().map(entry).collect::<String>()
}

fn recipes() -> Result<String> {
    let about = |name| Recipe::load(name, &[]).map(|recipe| recipe.about);
    let rows =
        RECIPES.iter().map(|r| Ok((r.name.to_string(), about(r.name)?))).collect::<Result<Vec<_>>>()?;
    Ok(entries(rows.into_iter()) + RECIPE_NAMES)
}

const RECIPE_NAMES: &str = "
paper      the printed formula, where the released code computes another: released
own, 300   a baseline on the schedule of its own paper, and with the 300 epochs of RSLAD
on-test    the best checkpoint is chosen on the test set, as the released code does: biased upward
minutes, hours  on one CPU: a narrow student, fewer epochs
label_slots-A-B-C-alpha  the label in the attack, at x' and at x

rslad train --recipe NAME --print shows one in full, with --set KEY=VALUE as changed";

fn teachers() -> String {
    let entry = |t: &rslad_distill::teachers::Teacher| {
        let hash = t.sha256.as_deref().unwrap_or("no hash known");
        let clean = 100.0 * t.clean;
        let url = t.url.join("\n            ");
        format!(
            "{}  {clean:.2} % clean on {}\n    file    {}\n    sha256  {hash}\n    url     {url}\n    source  {}\n\n",
            t.name, t.data, t.file, t.source
        )
    };
    rslad_distill::teachers::all().iter().map(entry).collect()
}

fn suites() -> Result<String> {
    let entry = |name: &str| -> Result<String> {
        let suite = Suite::load(name)?;
        let columns: Vec<&str> = suite.columns.iter().map(|c| c.name.as_str()).collect();
        Ok(format!("{}  {}\n    columns  {}\n\n", suite.name, suite.about, columns.join(", ")))
    };
    SUITES.iter().map(|s| entry(s.name)).collect()
}
