//! `rslad data`: gets data sets, checks them, shows what is in them.

mod fetch;

use crate::args::{DataArgs, DataCommand, InfoArgs, VerifyArgs};
use crate::exit::Ended;
use crate::picture::sheet;
use crate::{inputs, say, table};
use anyhow::Result;
use rslad_data::fetch::FETCHABLE;
use rslad_data::{ChannelStatistics, Dataset, Split, cache, channel_statistics};
use rslad_models::durable;
use std::path::Path;

pub(crate) fn run(args: &DataArgs, quiet: bool) -> Result<()> {
    match &args.command {
        DataCommand::Fetch(args) => fetch::run(args, quiet),
        DataCommand::Verify(args) => verify(args),
        DataCommand::Info(args) => info(args),
    }
}

/// Reads both splits whole, which is what finds damage, and compares them with what was published.
fn verify(args: &VerifyArgs) -> Result<()> {
    let spec = match &args.dir {
        Some(dir) => format!("{}:{}", args.name, dir.display()),
        None if FETCHABLE.iter().any(|set| set.name == args.name) => {
            format!("{}:{}", args.name, cache::directory(&args.name)?.display())
        }
        None => args.name.clone(),
    };
    let mut strange = false;
    let mut rows = vec![];
    for split in [Split::Train, Split::Test] {
        let data = inputs::open(&spec, split)?;
        strange |= !data.notes().is_empty();
        rows.push(row(&data));
    }
    say::result(counts(rows))?;
    let verdict = if strange { "whole, but not in all as published: see the notes" } else { "as published" };
    Ok(say::result(format!("{spec}: {verdict}"))?)
}

fn info(args: &InfoArgs) -> Result<()> {
    let spec = match &args.dir {
        Some(_) if args.spec.contains(':') => {
            let spec = &args.spec;
            return Err(
                Ended::Usage(format!("`{spec}` names a place itself, expected no --dir beside it")).into()
            );
        }
        Some(dir) => format!("{}:{}", args.spec, dir.display()),
        None => args.spec.clone(),
    };
    let train = inputs::open(&spec, Split::Train)?;
    let test = inputs::open(&spec, Split::Test)?;
    let [c, h, w] = train.shape();
    say::result(format!("{spec}: {c}x{h}x{w}, {} classes\n", train.n_classes()))?;
    say::result(counts([&train, &test].into_iter().map(row)))?;
    say::result("")?;
    say::result(statistics(&[&train, &test]))?;
    say::result("")?;
    say::result(classes(&train, &test))?;
    match &args.sheet {
        Some(path) => write_sheet(if args.split == Split::Train { &train } else { &test }, path),
        None => Ok(()),
    }
}

fn write_sheet(data: &Dataset, path: &Path) -> Result<()> {
    durable::write(path, &sheet::sheet(data)?)?;
    Ok(say::result(path.display())?)
}

fn counts(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let header = ["split", "sha256", "images", "unlabeled", "per class"].map(str::to_string).to_vec();
    table::plain(header, rows.into_iter(), 2)
}

fn row(data: &Dataset) -> Vec<String> {
    let counts = data.class_counts();
    let (least, most) = (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
    let per_class = if least == most { least.to_string() } else { format!("{least} to {most}") };
    let number = |n: usize| say::count(n as u64);
    let hash = data.sha256()[..12].to_string();
    vec![data.split().to_string(), hash, number(data.len()), number(data.n_unlabeled()), per_class]
}

fn statistics(splits: &[&Dataset]) -> String {
    let rows = splits.iter().flat_map(|data| {
        let of = |(channel, s): (usize, ChannelStatistics)| {
            vec![
                data.split().to_string(),
                channel.to_string(),
                format!("{:.4}", s.mean),
                format!("{:.4}", s.std),
            ]
        };
        channel_statistics(data).into_iter().enumerate().map(of).collect::<Vec<_>>()
    });
    table::plain(["split", "channel", "mean", "std"].map(str::to_string).to_vec(), rows, 1)
}

fn classes(train: &Dataset, test: &Dataset) -> String {
    let (of_train, of_test) = (train.class_counts(), test.class_counts());
    let rows = train.class_names().iter().enumerate().map(|(label, name)| {
        let count = |counts: &[usize]| counts.get(label).map_or(String::new(), |n| say::count(*n as u64));
        vec![name.clone(), label.to_string(), count(&of_train), count(&of_test)]
    });
    table::plain(["class", "label", "train", "test"].map(str::to_string).to_vec(), rows, 1)
}
