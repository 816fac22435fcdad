//! What is looked at before the first step: whether data, teachers and student fit each other, and
//! whether what the recipe asks for makes sense.

use crate::error::{Error, Result};
use crate::inner::{InnerConfig, StartKind};
use crate::method::Labels;
use crate::recipe::{DataConfig, Recipe};
use crate::soft_labels::SoftLabels;
use crate::trainer::Inputs;
use rslad_data::{Dataset, channel_statistics};
use rslad_models::graph::Graph;

/// Whether data, teachers and student fit each other.
///
/// # Errors
/// When they differ in classes or channels, the images are too small, or the last batch of an epoch is.
pub fn fit(recipe: &Recipe, inputs: &Inputs) -> Result<()> {
    let student = recipe.student.graph()?;
    let teachers = teachers(inputs);
    same_classes(inputs.train.n_classes(), &student, &teachers)?;
    same_channels(recipe, inputs.train.shape()[0], &student, &teachers)?;
    labels_where_read(recipe, inputs.train.n_unlabeled())?;
    let [_, height, width] = inputs.train.shape();
    for graph in teachers.iter().map(|(_, graph)| *graph).chain([&student]) {
        graph.shapes(height, width)?;
    }
    batches_suffice(recipe, inputs.train.len())?;
    let method = recipe.method["name"].as_str().unwrap_or_default();
    match inputs.soft_labels.as_ref().and_then(|_| SoftLabels::refusal(method, &recipe.method().ok()?.plan()))
    {
        Some(refusal) => Err(Error::Mismatch(refusal)),
        None => Ok(()),
    }
}

fn labels_where_read(recipe: &Recipe, unlabeled: usize) -> Result<()> {
    if unlabeled == 0 || recipe.method()?.plan().labels == Labels::Unread {
        return Ok(());
    }
    Err(Error::Mismatch(format!(
        "method {} reads labels, but {unlabeled} images of `data.extra` have none; remove `[[data.extra]]`, or \
         take a method that reads none, such as rslad",
        recipe.method["name"].as_str().unwrap_or_default()
    )))
}

/// The graphs of the teachers that are there, by name.
fn teachers(inputs: &Inputs) -> Vec<(&'static str, &Graph)> {
    let all = [("teacher", &inputs.teacher), ("second teacher", &inputs.second_teacher)];
    all.into_iter().filter_map(|(name, teacher)| Some((name, teacher.as_ref()?.graph()))).collect()
}

fn same_classes(classes: usize, student: &Graph, teachers: &[(&str, &Graph)]) -> Result<()> {
    let mut counts = vec![("data", classes), ("student", student.n_classes())];
    counts.extend(teachers.iter().map(|(name, graph)| (*name, graph.n_classes())));
    if counts.iter().all(|(_, n)| *n == classes) {
        return Ok(());
    }
    let list: Vec<String> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
    Err(Error::Mismatch(format!("class counts differ: {}; set `student.classes`", list.join(", "))))
}

fn same_channels(
    recipe: &Recipe,
    channels: usize,
    student: &Graph,
    teachers: &[(&str, &Graph)],
) -> Result<()> {
    let set = &recipe.data.set;
    if student.in_channels() != channels {
        let got = student.in_channels();
        return Err(Error::Mismatch(format!(
            "`student.in_channels` is {got}, but the images of `{set}` have {channels}"
        )));
    }
    match teachers.iter().find(|(_, graph)| graph.in_channels() != channels) {
        None => Ok(()),
        Some((name, graph)) => Err(Error::Mismatch(format!(
            "the {name} takes {} channels, but the images of `{set}` have {channels}; choose a teacher of these data",
            graph.in_channels()
        ))),
    }
}

/// Every shard of every batch of an epoch has at least two images.
///
/// # Errors
/// When one has fewer.
pub(crate) fn shards_suffice(recipe: &Recipe, n: usize, shards: usize) -> Result<()> {
    let batch = recipe.data.batch;
    let smallest = if n.is_multiple_of(batch) { batch } else { batch.min(n % batch) };
    if shards == 1 || smallest / shards >= 2 {
        return match recipe.awp.is_some() && shards > 1 {
            false => Ok(()),
            true => Err(Error::Mismatch(
                "`[awp]` perturbs the weights once for a whole batch, expected one process; remove `[awp]`"
                    .into(),
            )),
        };
    }
    Err(Error::Mismatch(format!(
        "the smallest batch of an epoch has {smallest} of {n} images, too few for the batch statistics of {shards} \
         shards; change `data.batch`, or take fewer shards (`parallel.shards`, or fewer processes without it)"
    )))
}

/// No batch of an epoch, and no micro-batch of one, is a single image.
fn batches_suffice(recipe: &Recipe, n: usize) -> Result<()> {
    let DataConfig { batch, micro_batch, .. } = recipe.data;
    let mut cuts = vec![("batch", n, batch)];
    cuts.extend(micro_batch.map(|micro| ("micro_batch", batch, micro)));
    cuts.extend(micro_batch.map(|micro| ("micro_batch", n % batch, micro)));
    match cuts.into_iter().find(|(_, whole, part)| *part == 1 || whole % part == 1) {
        Some((what, whole, part)) => Err(Error::Mismatch(format!(
            "the last {what} of {whole} images in steps of {part} has one image, too few for batch statistics; change `data.{what}`"
        ))),
        None => Ok(()),
    }
}

/// What is allowed and hardly ever meant, one sentence each; empty for a sensible run.
///
/// # Errors
/// When the images cannot be read.
pub fn remarks(recipe: &Recipe, inputs: &Inputs) -> Result<Vec<String>> {
    let mut remarks = Vec::new();
    if let Some(inner) = &recipe.inner {
        remarks.extend(short_reach(inner));
        if inner.eps != recipe.select.eps {
            remarks.push(format!(
                "the attack within training has radius {}, the one that selects {}",
                inner.eps, recipe.select.eps
            ));
        }
    }
    let student = recipe.student.graph()?;
    let teachers = teachers(inputs);
    for (name, teacher) in &teachers {
        if let (Some(theirs), Some(ours)) = (teacher.normalization(), student.normalization())
            && theirs != ours
        {
            remarks.push(format!("the {name} normalizes by {theirs:?}, the student by {ours:?}"));
        }
    }
    let (means, deviations) = statistics(&inputs.train)?;
    for (name, graph) in teachers.iter().map(|(name, graph)| (*name, *graph)).chain([("student", &student)]) {
        let Some((mean, std)) = graph.normalization() else { continue };
        let far = |c: usize| {
            let (shift, scale) =
                ((means[c] - f64::from(mean[c])) / f64::from(std[c]), deviations[c] / f64::from(std[c]));
            shift.abs() > MOST_SHIFT || !(1.0 / MOST_SCALE..=MOST_SCALE).contains(&scale)
        };
        if (0..mean.len()).any(far) {
            remarks.push(format!(
                "the {name} normalizes by means {mean:?} and deviations {std:?}, but the images have {means:.3?} and {deviations:.3?}; is it meant for other data?"
            ));
        }
    }
    Ok(remarks)
}

/// Normalized images whose mean is further from 0 than this are not what the normalization is for.
const MOST_SHIFT: f64 = 1.0;
/// And so are those whose deviation is larger than this, or smaller than its inverse.
const MOST_SCALE: f64 = 3.0;
/// Images that tell a data set's statistics well enough.
const SAMPLE: usize = 1_000;

/// An attack whose steps together are shorter than the radius cannot use all of it.
fn short_reach(inner: &InnerConfig) -> Option<String> {
    let (reach, eps) = (inner.steps as f64 * inner.step_size.resolve(inner.eps), inner.eps.get());
    (inner.start != StartKind::Uniform && reach < 0.999 * eps).then(|| {
        format!(
            "{} steps of {} reach {reach:.4} of the radius {} ({eps:.4}); is `inner.step_size` or `inner.steps` too small?",
            inner.steps, inner.step_size, inner.eps
        )
    })
}

/// Mean and deviation of each channel over some images.
fn statistics(data: &Dataset) -> Result<(Vec<f64>, Vec<f64>)> {
    let some = data.limit(data.len().min(SAMPLE))?;
    Ok(channel_statistics(&some).into_iter().map(|channel| (channel.mean, channel.std)).unzip())
}
