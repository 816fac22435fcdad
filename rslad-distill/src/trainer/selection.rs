//! The evaluations within a run, and the weights that they choose.

use super::{Inputs, Run, evaluate_on};
use crate::averaging::Average;
use crate::error::{Error, Result};
use crate::method::Progress;
use crate::observer::EvalEvent;
use crate::ranks;
use crate::recipe::{SelectBy, SelectOn};
use crate::state::Best;
use crate::step::{Players, StepInput, judge};
use crate::stoppable::Stoppable;
use crate::together::part;
use rslad_attacks::Draws;
use rslad_data::{Dataset, in_order};
use rslad_models::Network;
use rslad_models::checkpoint::Provenance;
use std::sync::atomic::{AtomicBool, Ordering};

impl Run<'_> {
    /// Evaluates the student, and its averages beside it; nothing when told to stop meanwhile.
    pub(super) fn evaluate(&mut self, stop: &AtomicBool) -> Result<Option<Vec<EvalEvent>>> {
        let mut events = Vec::new();
        events.extend(self.evaluate_one(None, self.student, stop)?);
        let averages: Vec<Average> = self.averages.begun().cloned().collect();
        for average in averages {
            let Some(network) = self.network_of(&average, stop)? else { return Ok(None) };
            events.extend(self.evaluate_one(Some(average.name()), &network, stop)?);
        }
        let all = 1 + self.averages.begun().count();
        Ok((events.len() == all).then_some(events))
    }

    /// An average as a network, which can take a pass over the training images; nothing when any rank was
    /// told to stop meanwhile.
    fn network_of(&self, average: &Average, stop: &AtomicBool) -> Result<Option<Network>> {
        let told = || stop.load(Ordering::Relaxed);
        let images = self.loader.epoch(self.position.epoch).map(|batch| match told() {
            true => Err(Error::Model(rslad_models::Error::Other("told to stop".into()))),
            false => Ok(batch?.x().clone()),
        });
        let network = average.network(self.student, images);
        if ranks::any(self.ranks, network.is_err() && told())? {
            return Ok(None);
        }
        network.map(Some)
    }

    /// Evaluates weights and keeps them if they are the best of their kind so far, or the last; nothing
    /// when told to stop meanwhile.
    fn evaluate_one(
        &mut self,
        average: Option<&'static str>,
        network: &Network,
        stop: &AtomicBool,
    ) -> Result<Option<EvalEvent>> {
        let select = &self.recipe.select;
        let Some([clean, robust]) = self.count(network, stop)? else { return Ok(None) };
        let (epoch, n) = (self.position.epoch, self.inputs.selection.len());
        let loss = match select.by {
            SelectBy::Robust => None,
            SelectBy::Loss => {
                let Some(loss) = self.selection_loss(network, stop)? else { return Ok(None) };
                Some(loss)
            }
        };
        let now = Best { epoch, clean: clean as f64 / n as f64, robust: robust as f64 / n as f64, loss };
        let kept = match average {
            None => &mut self.position.best,
            Some(name) => self.position.best_averages.entry(name.into()).or_default(),
        };
        let best = kept.is_none_or(|kept| now.beats(&kept));
        if best {
            *kept = Some(now);
            let of = average.map_or(String::new(), |name| format!(", {name}"));
            let rule = format!("best {} on {}{of}", select.rule(), on_name(select.on));
            self.keep(network, "best", average, &rule)?;
        }
        if epoch == self.recipe.schedule.epochs {
            let rule = average.map_or("last".into(), |name| format!("last, {name}"));
            self.keep(network, "last", average, &rule)?;
        }
        let on = on_name(select.on);
        let Best { clean, robust, loss, .. } = now;
        let weights = average.unwrap_or("raw");
        Ok(Some(EvalEvent { epoch, weights, on, n, clean, robust, loss, best }))
    }

    /// The method's mean loss on the images to select on, in eval mode: the same attack starts each time.
    /// Nothing when any rank was told to stop meanwhile.
    fn selection_loss(&self, network: &Network, stop: &AtomicBool) -> Result<Option<f64>> {
        let Inputs { teacher, second_teacher, selection, .. } = self.inputs;
        let mut players = Players::new(network, teacher.as_ref(), second_teacher.as_ref())?;
        let mut own = vec![]; // every rank takes its turn of the batches
        let turns = (0..self.ranks.ranks()).cycle();
        for (batch, _) in in_order(selection, self.recipe.data.batch)?
            .zip(turns)
            .filter(|(_, turn)| *turn == self.ranks.rank())
        {
            if stop.load(Ordering::Relaxed) {
                own.push(STOPPED);
                break;
            }
            let batch = batch?.to_device(&self.inputs.device)?;
            let input = StepInput {
                x: batch.x(),
                y: batch.y(),
                ids: batch.ids(),
                soft_labels: None,
                draws: Draws::Keyed { seed: self.recipe.seed, epoch: 0 },
                progress: Progress { epoch: self.position.epoch, epochs: self.recipe.schedule.epochs },
            };
            let terms = judge(self.method.as_ref(), &self.recipe.step(), &mut players, &input)?;
            own.extend((terms.value()? * batch.len() as f64).to_le_bytes());
        }
        let all = self.ranks.gather(&own)?;
        if all.iter().any(|bytes| !bytes.as_chunks::<8>().1.is_empty()) {
            return Ok(None);
        }
        let losses: Vec<&[[u8; 8]]> = all.iter().map(|bytes| bytes.as_chunks().0).collect();
        let longest = losses.iter().map(|losses| losses.len()).max().unwrap_or(0);
        let in_turn = (0..longest).flat_map(|i| losses.iter().filter_map(move |losses| losses.get(i)));
        Ok(Some(in_turn.map(|bytes| f64::from_le_bytes(*bytes)).sum::<f64>() / selection.len() as f64))
    }

    /// How many of the images that select are classified correctly, clean and under the suite's last
    /// attack. Every rank attacks its part of them: what becomes of an image depends on no other.
    fn count(&self, network: &Network, stop: &AtomicBool) -> Result<Option<[u64; 2]>> {
        let (data, ranks) = (&self.inputs.selection, self.ranks);
        let own = part(data.len(), ranks.rank(), ranks.ranks());
        let counted = match own.is_empty() {
            true => Some([0, 0]),
            false => self.count_of(network, &data.subset(&own.collect::<Vec<_>>())?, stop)?,
        };
        let told = |counts: [u64; 2]| counts.map(u64::to_le_bytes).concat();
        let mut sums = [0, 0];
        for bytes in ranks.gather(&counted.map_or(vec![], told))? {
            let [clean, robust] = bytes.as_chunks().0 else { return Ok(None) }; // that rank was told to stop
            sums[0] += u64::from_le_bytes(*clean);
            sums[1] += u64::from_le_bytes(*robust);
        }
        Ok(Some(sums))
    }

    fn count_of(&self, network: &Network, data: &Dataset, stop: &AtomicBool) -> Result<Option<[u64; 2]>> {
        let frozen = network.freeze_exactly()?;
        let f = Stoppable::new(&frozen, stop);
        let result = evaluate_on(&f, data, &self.suite, self.recipe.select.eps, self.recipe.seed, &mut ());
        if result.is_err() && stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let result = result?;
        let column = result.columns.last().ok_or_else(|| Error::Mismatch("a suite has columns".into()))?;
        Ok(Some([result.clean().correct as u64, column.accuracy().correct as u64]))
    }

    /// Writes weights, on rank 0.
    fn keep(&self, network: &Network, which: &str, average: Option<&str>, rule: &str) -> Result<()> {
        let Some(dir) = self.dir else { return Ok(()) };
        let suffix = average.map_or(String::new(), |name| format!("-{name}"));
        let path = dir.file(&format!("{which}{suffix}.safetensors"));
        Ok(network.save(&path, &self.provenance(rule, self.position.epoch))?)
    }

    fn provenance(&self, selection: &str, epoch: u64) -> Provenance {
        let mut provenance = Provenance::new();
        let mut note = |key: &str, value: serde_json::Value| provenance.insert(key.to_string(), value);
        note("recipe_sha256", self.recipe.hash().into());
        note("method", self.recipe.method["name"].as_str().into());
        note("data", self.recipe.data.set.as_str().into());
        note("seed", self.recipe.seed.into());
        note("epoch", epoch.into());
        note("selection", selection.into());
        note("train_eps", self.recipe.inner.as_ref().map(|inner| inner.eps.to_string()).into());
        note("eval_eps", self.recipe.select.eps.to_string().into());
        note("rslad_version", env!("CARGO_PKG_VERSION").into());
        provenance
    }
}

/// Follows the losses of a rank that was told to stop: one byte more than any number of them.
const STOPPED: u8 = 1;

fn on_name(on: SelectOn) -> &'static str {
    match on {
        SelectOn::Validation => "validation",
        SelectOn::Test => "test",
    }
}
