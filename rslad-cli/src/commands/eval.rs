//! `rslad eval`.

use crate::args::EvalArgs;
use crate::evaluation::{self, Job, SaveAdversarial};
use crate::inputs;
use crate::output::Output;
use crate::progress::Show;
use crate::result_file::{ModelInfo, Question, ResultFile};
use crate::weight_files::{self, Stated, Unsaid, Weights};
use crate::{interrupt, say, suite, table};
use anyhow::Result;
use rslad_attacks::Linf;
use rslad_data::Dataset;
use rslad_models::checkpoint::Provenance;

pub(crate) fn run(args: &EvalArgs, quiet: bool) -> Result<()> {
    let suite = suite::resolve(&args.suite, &args.attack)?;
    let stated = Stated::new(args.arch.as_deref(), &args.arch_set)?;
    let weights = weight_files::weights(&args.model, &stated, Unsaid::Refuse)?;
    let published = weight_files::pinned(&weights);
    let Weights { network, provenance, sha256, remarks, .. } = weights;
    let data = data(args)?;
    inputs::check_fit(&network, &data)?;
    let (eps, origin) = radius(args, &provenance)?;
    let model = ModelInfo { path: args.model.display().to_string(), sha256, arch: network.arch().clone() };
    let question = Question { model, data: evaluation::data_info(&data), eps, seed: args.seed };
    let save = if args.save_adversarial { SaveAdversarial::Yes } else { SaveAdversarial::No };

    let before = question.answered(&args.out, &suite.text)?;
    let before = before.filter(|_| save == SaveAdversarial::No || evaluation::has_adversarial(&args.out));
    let show = Show::here(quiet);
    let stop = interrupt::flag(show)?;
    let out = Output::open(&args.out)?;
    if show != Show::Nothing {
        introduce(args, &data, eps, origin);
        remarks.iter().for_each(|remark| say::note(format!("{}: {remark}", args.model.display())));
    }
    if let Some(result) = before {
        if show != Show::Nothing {
            say::note(format!("already done: the result of before is in {}", args.out.display()));
        }
        report(&result)?;
        return Ok(say::result(out.file("result.json").display())?);
    }
    let job = Job {
        name: "attacking",
        f: &network.freeze()?,
        data: &data,
        question,
        suite: &suite,
        batch_size: args.batch_size as usize,
        save,
        warnings: inputs::strange_data(&provenance, &data)
            .map(|strange| format!("the model {strange}"))
            .into_iter()
            .collect(),
    };
    let mut finished = evaluation::run(&job, show, &stop)?;
    let clean = &finished.result.clean;
    let off = published
        .and_then(|published| weight_files::not_as_published(published, &data, clean.accuracy, clean.ci95));
    finished.result.warnings.extend(off);
    report(&finished.result)?; // before it is written: a full disk must not cost the numbers
    finished.write(out.path())?;
    Ok(say::result(out.file("result.json").display())?)
}

fn data(args: &EvalArgs) -> Result<Dataset> {
    let data = inputs::open(&args.data, args.split)?;
    Ok(args.n.map(|n| data.limit(n as usize)).transpose()?.unwrap_or(data))
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

fn introduce(args: &EvalArgs, data: &Dataset, eps: Linf, origin: &str) {
    say::note(format!(
        "{} · {} images of {} ({}) · eps {eps} ({origin}) · seed {}",
        args.model.display(),
        data.len(),
        data.name(),
        data.split(),
        args.seed
    ));
}

fn report(result: &ResultFile) -> Result<()> {
    for warning in &result.warnings {
        say::note(format!("warning: {warning}"));
    }
    say::result(table::of_results(&[("model", result)]))?;
    Ok(say::result(format!(
        "n = {}, eps {}, in brackets the 95 % Wilson interval",
        result.data.n, result.eps
    ))?)
}
