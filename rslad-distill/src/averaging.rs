//! Averages of the student over training: they move less than the weights do, overfit later, and are
//! evaluated and saved beside them.
//!
//! Source: EMA as in Gowal et al., "Uncovering the Limits of Adversarial Training" (2020): a decay a
//! step. SWA as in Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization"
//! (UAI 2018): the plain mean of the weights after each epoch from some epoch on, with the statistics of
//! batch normalization estimated again for it.

use crate::error::Result;
use candle_core::{DType, Tensor};
use rslad_models::Network;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// `[average]` of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AverageConfig {
    /// An exponential moving average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    /// A stochastic weight average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swa: Option<SwaConfig>,
}

/// `[average.ema]`: `average = decay average + (1 - decay) weights` after every step, from the weights
/// after the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    /// The share that stays in a step.
    pub decay: f64,
    /// Its running statistics.
    pub batch_norm: AverageNorm,
}

/// `[average.swa]`: the mean of the weights after each epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwaConfig {
    /// The first epoch whose weights count.
    pub from: u64,
    /// Its running statistics.
    pub batch_norm: AverageNorm,
}

/// Where an average takes its running statistics from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AverageNorm {
    /// They are averaged as the weights are.
    Averaged,
    /// From a pass of the average over the augmented training images, before each evaluation.
    Reestimated,
}

impl AverageConfig {
    /// What is wrong with it, if anything: key, value, expectation and fix.
    pub(crate) fn problem(&self, epochs: u64) -> Option<String> {
        if self.ema.is_none() && self.swa.is_none() {
            return Some("`[average]` is empty, expected `[average.ema]` or `[average.swa]`; add one".into());
        }
        if let Some(EmaConfig { decay, .. }) = self.ema
            && !(decay > 0.0 && decay < 1.0)
        {
            return Some(format!(
                "`average.ema.decay` is {decay}, expected above 0 and below 1; write 0.995"
            ));
        }
        let from = self.swa.as_ref()?.from;
        (!(1..=epochs).contains(&from))
            .then(|| format!("`average.swa.from` is {from}, expected 1 to {epochs}"))
    }
}

/// The averages that a recipe asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Averages(Vec<Average>);

/// One average.
#[derive(Clone, Debug)]
pub(crate) struct Average {
    rule: Rule,
    batch_norm: AverageNorm,
    /// The weights that went into it.
    seen: u64,
    tensors: HashMap<String, Tensor>,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    Ema { decay: f64 },
    Swa { from: u64 },
}

impl Averages {
    /// Those of a recipe, of nothing yet.
    pub(crate) fn new(config: Option<&AverageConfig>) -> Self {
        let average = |rule, batch_norm| Average { rule, batch_norm, seen: 0, tensors: HashMap::new() };
        let ema = config.and_then(|c| c.ema.as_ref());
        let swa = config.and_then(|c| c.swa.as_ref());
        let ema = ema.map(|ema| average(Rule::Ema { decay: ema.decay }, ema.batch_norm));
        let swa = swa.map(|swa| average(Rule::Swa { from: swa.from }, swa.batch_norm));
        Self(ema.into_iter().chain(swa).collect())
    }

    /// Those that have seen weights.
    pub(crate) fn begun(&self) -> impl Iterator<Item = &Average> {
        self.0.iter().filter(|average| average.seen > 0)
    }

    /// Takes the weights after a step in.
    pub(crate) fn after_step(&mut self, student: &Network) -> Result<()> {
        self.0.iter_mut().try_for_each(|average| match average.rule {
            Rule::Ema { decay } => average.mix(student, 1.0 - decay),
            Rule::Swa { .. } => Ok(()),
        })
    }

    /// Takes the weights after an epoch in.
    pub(crate) fn after_epoch(&mut self, student: &Network, epoch: u64) -> Result<()> {
        self.0.iter_mut().try_for_each(|average| match average.rule {
            Rule::Swa { from } if epoch >= from => average.mix(student, 1.0 / (average.seen + 1) as f64),
            _ => Ok(()),
        })
    }

    /// The tensors that resume needs, under `average.<name>.`, in a fixed order.
    pub(crate) fn tensors(&self) -> Vec<(String, Tensor)> {
        let of = |average: &Average| {
            let prefix = format!("average.{}", average.name());
            let named = average.tensors.iter().map(|(name, t)| (format!("{prefix}.{name}"), t.clone()));
            let mut named: Vec<_> = named.collect();
            named.sort_by(|(a, _), (b, _)| a.cmp(b));
            named
        };
        self.0.iter().flat_map(of).collect()
    }

    /// How many weights went into each, by name.
    pub(crate) fn seen(&self) -> BTreeMap<String, u64> {
        self.0.iter().map(|average| (average.name().to_string(), average.seen)).collect()
    }

    /// The same averages with the past that these gave, or the name of one that is not whole there.
    pub(crate) fn with_state(
        mut self,
        tensors: &HashMap<String, Tensor>,
        seen: &BTreeMap<String, u64>,
    ) -> std::result::Result<Self, &'static str> {
        for average in &mut self.0 {
            let prefix = format!("average.{}.", average.name());
            let part =
                tensors.iter().filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_string(), v.clone())));
            average.tensors = part.collect();
            average.seen = seen.get(average.name()).copied().unwrap_or(0);
            if (average.seen == 0) != average.tensors.is_empty() {
                return Err(average.name());
            }
        }
        Ok(self)
    }
}

impl Average {
    /// The name in events and files: `ema` or `swa`.
    pub(crate) fn name(&self) -> &'static str {
        match self.rule {
            Rule::Ema { .. } => "ema",
            Rule::Swa { .. } => "swa",
        }
    }

    /// `average = (1 - share) average + share weights`; counters are the student's.
    fn mix(&mut self, student: &Network, share: f64) -> Result<()> {
        for (name, now) in student.params().state_dict()? {
            let mixed = match self.tensors.get(&name) {
                Some(average) if now.dtype() != DType::I64 => ((average * (1.0 - share))? + (now * share)?)?,
                _ => now,
            };
            self.tensors.insert(name, mixed);
        }
        self.seen += 1;
        Ok(())
    }

    /// The average as a network. `images` are read where its statistics are estimated again.
    pub(crate) fn network<E>(
        &self,
        student: &Network,
        images: impl IntoIterator<Item = std::result::Result<Tensor, E>>,
    ) -> Result<Network>
    where
        E: From<rslad_models::Error>,
        crate::error::Error: From<E>,
    {
        let network = Network::with_state_dict(student.arch(), &self.tensors)?.moved_to(student.device())?;
        if self.batch_norm == AverageNorm::Reestimated {
            network.training().reestimate(images)?;
        }
        Ok(network)
    }
}
