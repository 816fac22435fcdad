//! `rslad eval`: one evaluation, its parts put together, two of them compared.

mod diff;
pub(crate) mod merge;
mod sweep;

use crate::args::{EvalAction, EvalArgs, EvalCommand};
use crate::evaluation::{self, Job, SaveAdversarial};
use crate::inputs;
use crate::output::Output;
use crate::progress::Show;
use crate::result_file::{ModelInfo, Question, ResultFile};
use crate::suite::Resolved;
use crate::weight_files::{self, Stated, Unsaid, Weights};
use crate::{device, interrupt, per_example, say, suite, table};
use anyhow::{Context, Result};
use rslad_attacks::Linf;
use rslad_attacks::checks::Outcome;
use rslad_attacks::suite::Use;
use rslad_data::Dataset;
use rslad_models::Frozen;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(crate) fn run(command: &EvalCommand, quiet: bool) -> Result<()> {
    match (&command.action, &command.attack) {
        (Some(EvalAction::Merge(args)), _) => merge::run(args),
        (Some(EvalAction::Diff(args)), _) => diff::run(args),
        (None, Some(args)) => attack(args, quiet),
        (None, None) => unreachable!("clap asks for the flags where there is no subcommand"),
    }
}

fn attack(args: &EvalArgs, quiet: bool) -> Result<()> {
    let show = Show::here(quiet);
    let stop = interrupt::flag(show)?;
    let prepared = Prepared::new(args, &stop)?;
    if !args.eps_sweep.is_empty() {
        return sweep::run(args, &prepared, show, &stop);
    }
    let (eps, origin) = prepared.radius(args)?;
    let introduce = || introduce(args, &prepared.data, eps, origin);
    let (_, file) = prepared.evaluate(args, eps, &args.out, show, &stop, introduce)?;
    Ok(say::result(file.display())?)
}

/// Everything that a radius is missing to be an evaluation.
struct Prepared {
    suite: Resolved,
    weights: Weights,
    /// The surrogate that points are made on.
    source: Option<ModelInfo>,
    frozen: Frozen,
    data: Dataset,
}

impl Prepared {
    fn new(args: &EvalArgs, stop: &Arc<AtomicBool>) -> Result<Self> {
        let mut suite = suite::resolve(&args.suite, &args.attack)?;
        suite::check_use(&args.suite, if args.source.is_some() { Use::Transfer } else { Use::Evaluation })?;
        let stated = Stated::new(args.arch.as_deref(), &args.arch_set)?;
        let weights = weight_files::weights(&args.model, &stated, Unsaid::Refuse)?;
        let data = inputs::images(&args.data, args.split, args.n)?;
        inputs::check_fit(&weights.network, &data)?;
        let mut source = None;
        if let Some(file) = &args.source {
            let surrogate = weight_files::weights(file, &Stated::nothing(), Unsaid::Refuse)?;
            inputs::check_fit(&surrogate.network, &data).with_context(|| file.display().to_string())?;
            suite = suite.on_surrogate(&inputs::surrogate(&surrogate.network, stop)?);
            source = Some(info(file, &surrogate));
        }
        Ok(Self { suite, frozen: device::frozen(&weights.network)?, weights, source, data })
    }

    /// The radius, and where it comes from.
    fn radius(&self, args: &EvalArgs) -> Result<(Linf, &'static str)> {
        if let Some(eps) = args.eps {
            return Ok((eps, "--eps"));
        }
        match self.weights.provenance.get("eval_eps").and_then(|v| v.as_str()) {
            Some(text) => Ok((text.parse()?, "as the checkpoint was selected")),
            None => Ok(("8/255".parse()?, "the usual one; change it with --eps")),
        }
    }

    /// The evaluation at a radius, from an earlier one in the directory where there is one.
    fn evaluate(
        &self,
        args: &EvalArgs,
        eps: Linf,
        dir: &Path,
        show: Show,
        stop: &AtomicBool,
        introduce: impl FnOnce(),
    ) -> Result<(ResultFile, std::path::PathBuf)> {
        let question = Question {
            model: info(&args.model, &self.weights),
            source: self.source.clone(),
            data: evaluation::data_info(&self.data),
            shard: args.shard,
            eps,
            seed: args.seed,
        };
        let save = if args.save_adversarial { SaveAdversarial::Yes } else { SaveAdversarial::No };
        let before = question.answered(dir, &self.suite.text)?;
        let before = before.filter(|_| save == SaveAdversarial::No || per_example::has_images(dir));
        let out = Output::open(dir)?;
        let _lock = out.lock()?;
        if show != Show::Nothing {
            introduce();
            let remarks = self.weights.remarks.iter();
            remarks.for_each(|remark| say::note(format!("{}: {remark}", args.model.display())));
        }
        if let Some(result) = before {
            if show != Show::Nothing {
                say::note(format!("already done: the result of before is in {}", dir.display()));
            }
            report(&result)?;
            return Ok((result, out.file("result.json")));
        }
        let job = Job {
            name: "attacking",
            f: &self.frozen,
            data: &self.data,
            question,
            suite: &self.suite,
            batch_size: args.batch_size as usize,
            save,
            dir: out.path(),
            warnings: inputs::strange_data(&self.weights.provenance, &self.data)
                .map(|strange| format!("the model {strange}"))
                .into_iter()
                .collect(),
        };
        let mut finished = evaluation::run(&job, show, stop)?;
        let clean = &finished.result.clean;
        let off = weight_files::pinned(&self.weights).and_then(|published| {
            weight_files::not_as_published(published, &self.data, clean.accuracy, clean.ci95)
        });
        finished.result.warnings.extend(off);
        report(&finished.result)?; // before it is written: a full disk must not cost the numbers
        finished.write(out.path())?;
        Ok((finished.result, out.file("result.json")))
    }
}

fn info(file: &Path, weights: &Weights) -> ModelInfo {
    ModelInfo {
        path: file.display().to_string(),
        sha256: weights.sha256.clone(),
        arch: weights.network.arch().clone(),
    }
}

fn introduce(args: &EvalArgs, data: &Dataset, eps: Linf, origin: &str) {
    let part = args.shard.map_or(String::new(), |shard| format!("part {shard} of "));
    say::note(format!(
        "{} · {part}{} images of {} ({}) · eps {eps} ({origin}) · seed {}",
        args.model.display(),
        data.len(),
        data.name(),
        data.split(),
        args.seed
    ));
}

/// The numbers, where they come from, and whether they can be believed.
fn report(result: &ResultFile) -> Result<()> {
    for warning in &result.warnings {
        say::note(format!("warning: {warning}"));
    }
    say::result(table::of_results(&[("model", result)]))?;
    say::result(format!("n = {}, eps {}, in brackets the 95 % Wilson interval", result.clean.n, result.eps))?;
    for column in &result.columns {
        if !column.funnel.is_empty() {
            let left = |stage: &rslad_attacks::result::FunnelStage| {
                format!("{} {:.1}", stage.name, 100.0 * stage.robust as f64 / column.n as f64)
            };
            let stages: Vec<String> = column.funnel.iter().map(left).collect();
            say::result(format!("{}, standing after each attack: {}", column.name, stages.join(" > ")))?;
        }
    }
    let rounded: Vec<String> = result
        .columns
        .iter()
        .map(|c| format!("{} {} of {}", c.name, c.eight_bit.still, c.eight_bit.fallen))
        .collect();
    say::result(format!("fallen that stay so as 8-bit images: {}", rounded.join(", ")))?;
    trust(result)
}

fn trust(result: &ResultFile) -> Result<()> {
    let failed = result.trust.iter().filter(|check| check.outcome == Outcome::Warning);
    let failed: Vec<_> = failed.collect();
    say::result(format!(
        "trust: {} of {} checks passed",
        result.trust.len() - failed.len(),
        result.trust.len()
    ))?;
    for check in failed {
        say::result(format!("  not so: {} ({})", check.name, check.seen))?;
    }
    Ok(())
}
