//! `rslad eval`.

use crate::args::EvalArgs;
use crate::evaluation::{self, Job, ModelInfo, SaveAdversarial};
use crate::exit::Ended;
use crate::progress::Show;
use crate::{inputs, interrupt, table};
use anyhow::Result;
use rslad_attacks::Linf;
use rslad_attacks::suite::{Column, Suite};
use rslad_models::ArchSpec;
use rslad_models::checkpoint::Provenance;

pub(crate) fn run(args: &EvalArgs, quiet: bool) -> Result<()> {
    let suite = suite(args)?;
    let result = args.out.join("result.json");
    if result.exists() {
        let message = format!("{} is there already: choose another --out, or remove it", result.display());
        return Err(Ended::Usage(message).into());
    }
    let arch = args.arch.as_deref().map(|name| arch(name, &args.arch_set)).transpose()?;
    let (network, provenance, sha256) = inputs::model(&args.model, arch.as_ref())?;
    let mut data = rslad_data::open(&args.data, args.split)?;
    if let Some(n) = args.n {
        data = data.limit(n)?;
    }
    inputs::check_fit(&network, &data)?;
    let (eps, origin) = radius(args, &provenance)?;
    let show = Show::here(quiet);
    if show != Show::Nothing {
        eprintln!(
            "{} · {} images of {} ({}) · eps {eps} ({origin}) · seed {}",
            args.model.display(),
            data.len(),
            data.name(),
            data.split(),
            args.seed
        );
    }
    let stop = interrupt::flag()?;
    let job = Job {
        name: "attacking",
        f: &network.freeze()?,
        model: ModelInfo { path: args.model.display().to_string(), sha256, arch: network.arch().clone() },
        data: &data,
        suite: &suite,
        eps,
        seed: args.seed,
        batch_size: args.batch_size as usize,
        save: if args.save_adversarial { SaveAdversarial::Yes } else { SaveAdversarial::No },
    };
    let result = evaluation::run(job, &args.out, show, &stop)?;
    println!("{}", table::of_results(&[("model", &result)]));
    println!("n = {}, 95 % Wilson intervals; {}", result.data.n, args.out.join("result.json").display());
    for warning in &result.warnings {
        println!("warning: {warning}");
    }
    Ok(())
}

fn arch(name: &str, options: &[(String, String)]) -> Result<ArchSpec> {
    let mut changes = toml::Table::new();
    for (key, value) in options {
        let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
        changes.insert(key.clone(), parsed.unwrap_or_else(|| toml::Value::String(value.clone())));
    }
    Ok(ArchSpec::published(name, &changes)?)
}

/// All columns that the flags ask for.
fn suite(args: &EvalArgs) -> Result<Suite> {
    let mut columns: Vec<Column> = Vec::new();
    for name in &args.suite {
        columns.extend(Suite::load(name)?.columns);
    }
    for name in &args.attack {
        columns.extend(Suite::of_attack(rslad_attacks::attacks::find(name)?).columns);
    }
    let mut names = std::collections::BTreeSet::new();
    if let Some(twice) = columns.iter().find(|c| !names.insert(c.name.clone())) {
        let message =
            format!("column `{}` is asked for twice by --suite and --attack, expected once", twice.name);
        return Err(Ended::Usage(message).into());
    }
    Ok(Suite { name: "command line".into(), about: String::new(), columns })
}

/// The radius, and where it comes from.
fn radius(args: &EvalArgs, provenance: &Provenance) -> Result<(Linf, &'static str)> {
    if let Some(eps) = args.eps {
        return Ok((eps, "--eps"));
    }
    match provenance.get("eval_eps").and_then(|v| v.as_str()) {
        Some(text) => Ok((text.parse()?, "as the checkpoint was selected")),
        None => Ok(("8/255".parse()?, "the usual one; change it with --eps")),
    }
}
