//! `rslad replay`: a step that was not finite, once more.

use crate::args::ReplayArgs;
use crate::commands::train::slot;
use crate::exit::Ended;
use crate::{device, inputs, say};
use anyhow::Result;
use rslad_distill::dump::{Dump, Replay, Told};
use rslad_distill::recipe::TeacherConfig;
use rslad_models::Frozen;
use serde_json::json;

/// Ids and parameters that are listed; of more, only how many.
const LISTED: usize = 10;

pub(crate) fn run(args: &ReplayArgs) -> Result<()> {
    let mut dump = Dump::read(&args.dump)?;
    for teacher in &args.teacher {
        let (slot, file) = slot(teacher)?;
        let known = match slot {
            "teacher" => &mut dump.recipe.teacher,
            _ => &mut dump.recipe.second_teacher,
        };
        let norm = known.as_ref().and_then(|config| config.norm.clone());
        *known = Some(TeacherConfig { file: file.into(), norm });
    }
    let [first, second] =
        [("teacher", &dump.recipe.teacher), ("second_teacher", &dump.recipe.second_teacher)]
            .map(|(key, config)| config.as_ref().map(|config| frozen(config, key)).transpose());
    let replay = dump.replay(first?.as_ref(), second?.as_ref())?;
    match args.json {
        true => say::result(as_json(&dump.told, &replay))?,
        false => show(&dump.told, &replay)?,
    }
    let finite = |text: &String| text.parse::<f64>().is_ok_and(f64::is_finite);
    match finite(&replay.found.loss) && finite(&replay.found.grad_norm) {
        true => Ok(()),
        false => Err(Ended::NotFinite.into()),
    }
}

fn frozen(config: &TeacherConfig, key: &str) -> Result<Frozen> {
    device::frozen(&inputs::any_teacher(config, key)?.network)
}

fn show(told: &Told, replay: &Replay) -> Result<()> {
    say::result(format!(
        "epoch {}, step {}, {} images, lr {:.1e}",
        told.epoch,
        told.step,
        told.ids.len(),
        told.lr
    ))?;
    say::result(format!("{:<16} {:>14} {:>14}", "", "in the run", "now"))?;
    let now = &replay.found;
    let mut rows =
        vec![("loss", &told.found.loss, &now.loss), ("gradient norm", &told.found.grad_norm, &now.grad_norm)];
    rows.extend(
        told.found.terms.iter().filter_map(|(name, then)| Some((name.as_str(), then, now.terms.get(name)?))),
    );
    for (name, then, now) in rows {
        say::result(format!("{name:<16} {:>14} {:>14}", short(then), short(now)))?;
    }
    say::result(match told.found == *now {
        true => "the same, to the last bit",
        false => "not the same bits: another build, processor or teacher than the run's",
    })?;
    say::result(format!("largest weight before the step: {:.3e}", replay.largest_weight))?;
    for (term, ids) in replay.images.iter().filter(|(_, ids)| !ids.is_empty()) {
        say::result(format!("term `{term}` is not finite for {} images: {}", ids.len(), list(ids)))?;
    }
    let parameters: Vec<String> = replay.gradients.iter().map(|(name, n)| format!("{name} ({n})")).collect();
    if !parameters.is_empty() {
        say::result(format!(
            "gradients not finite in {} parameters: {}",
            parameters.len(),
            list(&parameters)
        ))?;
    }
    Ok(())
}

fn short(text: &str) -> String {
    text.parse::<f64>().map_or_else(|_| text.to_string(), |v| format!("{v:.6e}"))
}

fn list<T: ToString>(items: &[T]) -> String {
    let shown: Vec<String> = items.iter().take(LISTED).map(T::to_string).collect();
    let more = items.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

fn as_json(told: &Told, replay: &Replay) -> serde_json::Value {
    json!({
        "epoch": told.epoch, "step": told.step, "ids": told.ids, "in_the_run": told.found, "now": replay.found,
        "same": told.found == replay.found, "largest_weight": replay.largest_weight.to_string(),
        "images": replay.images.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "gradients": replay.gradients.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    })
}
