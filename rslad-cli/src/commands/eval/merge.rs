//! `rslad eval merge`: the shards of an evaluation, put together to what it would have been in one piece.

use crate::args::MergeArgs;
use crate::evaluation::{self, Finished};
use crate::exit::Ended;
use crate::output::Output;
use crate::parts::Part;
use crate::result_file::{Question, Shard};
use crate::say;
use anyhow::{Context, Result};
use candle_core::Tensor;
use rslad_attacks::Evaluation;
use rslad_attacks::checks::{self, Check, Outcome};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) fn run(args: &MergeArgs) -> Result<()> {
    let parts = read(&args.dirs)?;
    let out = Output::open(&args.out)?;
    let _lock = out.lock()?;
    let finished = assemble(&parts)?;
    super::report(finished.result())?;
    finished.write(out.path())?;
    Ok(say::result(out.file("result.json").display())?)
}

/// The evaluation whose parts are in these directories.
///
/// # Errors
/// When one is missing, is there twice, or is of another evaluation: names the directory.
pub(crate) fn whole(dirs: &[PathBuf]) -> Result<Finished> {
    assemble(&read(dirs)?)
}

/// The parts in their order.
fn read(dirs: &[PathBuf]) -> Result<Vec<Part>> {
    let mut parts = dirs.iter().map(|dir| Part::read(dir)).collect::<Result<Vec<_>>>()?;
    check(&parts)?;
    parts.sort_by_key(|part| part.result.shard.map(|shard| shard.index));
    Ok(parts)
}

/// They are all shards of one evaluation, each of them once.
fn check(parts: &[Part]) -> Result<()> {
    let first = parts.first().context("clap asks for directories")?;
    let odd = |dir: &Path, what: String| -> anyhow::Error {
        let dir = dir.display();
        Ended::Usage(format!("{dir}: {what}, expected the parts of one evaluation")).into()
    };
    let question = |part: &Part| {
        let r = &part.result;
        let (model, source, data) = (r.model.clone(), r.source.clone(), r.data.clone());
        Question { model, source, data, shard: None, eps: r.eps, seed: r.seed }
    };
    // The odd one is one that differs from most, so that the first can be it too.
    let hash = |part: &Part| question(part).hash(&part.suite);
    let alike = |part: &&Part| parts.iter().filter(|other| hash(other) == hash(part)).count();
    let model = parts.iter().rev().max_by_key(alike).unwrap_or(first);
    for part in parts {
        if let Some(differs) = question(model).difference(&part.result) {
            return Err(odd(&part.dir, format!("is of {differs} than {}", model.dir.display())));
        }
        if part.suite != model.suite {
            return Err(odd(&part.dir, format!("is of other attacks than {}", model.dir.display())));
        }
    }
    let mut seen: BTreeMap<usize, &Part> = BTreeMap::new();
    for part in parts {
        let Some(shard) = part.result.shard else {
            return Err(odd(&part.dir, "is a whole evaluation".into()));
        };
        if let Some(of) = model.result.shard.map(|shard| shard.of).filter(|of| *of != shard.of) {
            return Err(odd(&part.dir, format!("is part {shard}, the others are parts of {of}")));
        }
        if let Some(twin) = seen.insert(shard.index, part) {
            return Err(odd(&part.dir, format!("is part {shard}, and so is {}", twin.dir.display())));
        }
    }
    let of = model.result.shard.map_or(0, |shard| shard.of);
    let missing: Vec<String> = (1..=of)
        .filter(|index| !seen.contains_key(index))
        .map(|index| Shard { index, of }.to_string())
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => {
            let message = format!("parts are missing: {}, expected all {of} of them", missing.join(", "));
            Err(Ended::Usage(message).into())
        }
    }
}

fn assemble(parts: &[Part]) -> Result<Finished> {
    let first = &parts[0];
    let mut whole = first.evaluation()?;
    for part in &parts[1..] {
        join(&mut whole, part.evaluation()?);
    }
    check_partition(&whole, first)?;
    let question = Question {
        model: first.result.model.clone(),
        source: first.result.source.clone(),
        data: first.result.data.clone(),
        shard: None,
        eps: first.result.eps,
        seed: first.result.seed,
    };
    let mut trust = of_models(parts);
    trust.extend(checks::of_results(&whole));
    // What a summary does not derive itself is said in every part.
    let derived = whole.summary().warnings;
    let of_part = |part: &Part| -> Result<Vec<String>> {
        let own = part.evaluation()?.summary().warnings;
        Ok(part.result.warnings.iter().filter(|w| !own.contains(w)).cloned().collect())
    };
    let mut warnings = Vec::new();
    for warning in parts.iter().map(of_part).collect::<Result<Vec<_>>>()?.concat() {
        if !warnings.contains(&warning) && !derived.contains(&warning) {
            warnings.push(warning);
        }
    }
    let mut tensors = whole.per_example()?;
    for name in first.points() {
        let points = parts.iter().map(|part| part.tensor(name)).collect::<Result<Vec<&Tensor>>>()?;
        tensors.insert(name.clone(), Tensor::cat(&points, 0)?);
    }
    let result = evaluation::result_file(&question, &whole, trust, first.result.cost.clone(), warnings);
    Ok(Finished::assembled(result, tensors, first.suite.clone()))
}

/// Appends the examples of the next shard.
fn join(whole: &mut Evaluation, part: Evaluation) {
    whole.ids.extend(part.ids);
    whole.labels.extend(part.labels);
    whole.clean_predictions.extend(part.clean_predictions);
    whole.clean_correct.extend(part.clean_correct);
    whole.clean_non_finite += part.clean_non_finite;
    for (all, own) in whole.columns.iter_mut().zip(part.columns) {
        all.robust.extend(own.robust);
        all.predictions = all.predictions.take().zip(own.predictions).map(|(all, own)| [all, own].concat());
        all.linf.extend(own.linf);
        all.fell_to.extend(own.fell_to);
        all.non_finite += own.non_finite;
        all.eight_bit += own.eight_bit;
        all.seconds += own.seconds;
    }
}

fn check_partition(whole: &Evaluation, first: &Part) -> Result<()> {
    let ascending = whole.ids.windows(2).all(|pair| pair[0] < pair[1]);
    match ascending && whole.ids.len() == first.result.data.n {
        true => Ok(()),
        false => Err(Ended::Usage(format!(
            "the parts hold {} images, expected each of the {} images of `{}` once",
            whole.ids.len(),
            first.result.data.n,
            first.result.data.name
        ))
        .into()),
    }
}

/// The checks of the model: each part made them on its own first images; a warning stays one.
fn of_models(parts: &[Part]) -> Vec<Check> {
    let of_results: Vec<String> = parts[0]
        .evaluation()
        .map(|evaluation| checks::of_results(&evaluation).into_iter().map(|check| check.name).collect())
        .unwrap_or_default();
    let own = |part: &Part| -> Vec<Check> {
        part.result.trust.iter().filter(|check| !of_results.contains(&check.name)).cloned().collect()
    };
    let mut all = own(&parts[0]);
    for check in parts[1..].iter().flat_map(own) {
        if let Some(known) = all.iter_mut().find(|known| known.name == check.name)
            && check.outcome == Outcome::Warning
        {
            *known = check;
        }
    }
    all
}
