//! A step that is taken in shards: parts of the batch, on one rank or on several, whose gradients add up.
//!
//! A shard is what one GPU of the official codes' `DataParallel` sees: its images are normalized by their
//! own statistics, and the running statistics that stay are the first shard's. Every shard of a step starts
//! from the same weights and statistics, augmentation and attack draw by example, so what a shard computes
//! does not depend on where. What is left is the order of the sum. With `[parallel]` the recipe says how
//! many shards there are, and their gradients are added in their order: the same bits on any number of
//! ranks. Without it every rank is a shard, and they are added in one collective sum. Where the recipe asks
//! for it, the shards are normalized by the statistics of the whole batch (`exchange.rs`).

use crate::error::{Error, Result};
use crate::exchange::exchanging;
use crate::method::{Method, Terms};
use crate::ranks::{Reduce, bytes_of, values_of};
use crate::step::{Players, Rows, StepConfig, StepInput, StepOutput, step};
use crate::times::timed;
use candle_core::{DType, Device, Tensor};
use rslad_models::Network;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// `[parallel]` of a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected { shards = 8, running = \"first\" } or { batch_norm = \"synchronized\" }"
)]
pub enum ParallelConfig {
    /// Every batch is taken in a fixed number of parts.
    Shards(Shards),
    /// Every batch is normalized as a whole, whoever has its images.
    Whole(Whole),
}

/// Parts of every batch, each with batch statistics of its own, whose gradients are added in their order:
/// the same bits on any number of ranks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shards {
    /// How many; as many ranks as this at most share them.
    pub shards: usize,
    /// What becomes of their running statistics.
    pub running: Running,
}

/// Batches normalized over all ranks, PyTorch's `SyncBatchNorm`: what one process computes, up to the
/// rounding of sums.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    /// The one way there is.
    pub batch_norm: Synchronized,
}

/// See [`Whole`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Synchronized {
    /// Over the images of all ranks.
    Synchronized,
}

/// Whose running statistics stay after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Running {
    /// The first shard's, as PyTorch's `DataParallel` keeps them.
    First,
    /// Their mean over the shards, by images.
    Mean,
}

impl ParallelConfig {
    /// What is wrong with it, if anything: key, value, expectation.
    pub(crate) fn problem(&self) -> Option<String> {
        let Self::Shards(Shards { shards, .. }) = self else { return None };
        (!(1..=4096).contains(shards)).then(|| format!("`parallel.shards` is {shards}, expected 1 to 4096"))
    }

    /// The key by which a batch is taken in parts, if it is.
    pub(crate) fn splits(&self) -> Option<&'static str> {
        match self {
            Self::Shards(Shards { shards: 1, .. }) => None,
            Self::Shards(_) => Some("parallel.shards"),
            Self::Whole(_) => Some("parallel.batch_norm"),
        }
    }

    /// Whether any number of ranks ends with the same bits.
    pub(crate) fn is_fixed(&self) -> bool {
        matches!(self, Self::Shards(_))
    }
}

/// How the shards of a step are shared and put together.
pub(crate) struct Together<'r> {
    ranks: &'r dyn Reduce,
    shards: usize,
    running: Running,
    order: Order,
    statistics: Statistics,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Shard by shard.
    Fixed,
    /// As the ranks' sum adds them.
    Free,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Statistics {
    OfShard,
    OfBatch,
}

impl<'r> Together<'r> {
    /// # Errors
    /// When there are more ranks than shards.
    pub(crate) fn new(config: Option<&ParallelConfig>, ranks: &'r dyn Reduce) -> Result<Self> {
        let n = ranks.ranks();
        let by_rank = Self {
            ranks,
            shards: n,
            running: Running::First,
            order: Order::Free,
            statistics: Statistics::OfShard,
        };
        match config {
            None => Ok(by_rank),
            Some(ParallelConfig::Whole(_)) => Ok(Self { statistics: Statistics::OfBatch, ..by_rank }),
            Some(ParallelConfig::Shards(Shards { shards, .. })) if n > *shards => Err(Error::Ranks(format!(
                "{n} ranks for {shards} shards (`parallel.shards`), expected at most as many ranks; start fewer"
            ))),
            Some(ParallelConfig::Shards(Shards { shards, running })) => {
                Ok(Self { shards: *shards, running: *running, order: Order::Fixed, ..by_rank })
            }
        }
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards
    }

    /// The shards of this rank.
    fn own(&self) -> Range<usize> {
        part(self.shards, self.ranks.rank(), self.ranks.ranks())
    }

    /// One step of a method up to the gradients, which are those of the whole batch on every rank. The
    /// points of the attack are those of this rank.
    pub(crate) fn step(
        &self,
        method: &dyn Method,
        config: &StepConfig<'_>,
        players: &mut Players<'_>,
        input: &StepInput<'_>,
    ) -> Result<StepOutput> {
        if self.shards == 1 {
            return step(method, config, players, input);
        }
        let n = input.ids.len();
        let before = buffers(players.student())?;
        let (mut own, mut points, mut terms) = (vec![], vec![], None);
        for shard in self.own() {
            restore(players.student(), &before)?;
            let rows = part(n, shard, self.shards);
            let rows = Rows::of(input, rows.start, rows.len())?;
            let out = match self.statistics {
                Statistics::OfShard => step(method, config, players, &rows.input(input)),
                Statistics::OfBatch => exchanging(self.ranks, players, |players| {
                    step(method, config, players, &rows.input(input))
                }),
            }?;
            own.push(self.flatten(&out, players.student(), shard, n)?);
            points.push(out.x_adv);
            terms = Some(out.terms);
        }
        let terms = terms.ok_or_else(|| Error::Ranks("a rank without a shard".into()))?;
        let device = players.student().device();
        let sum = timed(&players.spent().exchange, || match self.order {
            Order::Free => self.ranks.sum(own.swap_remove(0)), // one shard a rank
            Order::Fixed => {
                let own = own.iter().map(Tensor::to_vec1).collect::<candle_core::Result<_>>()?;
                Ok(Tensor::new(self.sum_in_order(own)?, device)?)
            }
        })?;
        self.unflatten(&sum, players.student(), &terms, Tensor::cat(&points, 0)?, n)
    }

    /// All points of the attack, of which each rank has its own.
    pub(crate) fn all_points(&self, own: &Tensor) -> Result<Tensor> {
        if self.ranks.ranks() == 1 {
            return Ok(own.clone());
        }
        let all = self.ranks.gather(&bytes_of(&own.flatten_all()?.to_vec1()?))?;
        let values: Vec<f32> = all.iter().flat_map(|bytes| values_of(bytes)).collect();
        let image: usize = own.dims()[1..].iter().product();
        let shape = [&[values.len() / image], &own.dims()[1..]].concat();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// What a shard adds to the sum: its share of the gradients, the running statistics that stay, and its
    /// terms in their places.
    fn flatten(&self, out: &StepOutput, student: &Network, shard: usize, n: usize) -> Result<Tensor> {
        let rows = part(n, shard, self.shards);
        let share = rows.len() as f32 / n as f32;
        let weighted = |tensor: &Tensor, weight: f32| {
            let flat = tensor.flatten_all()?;
            if weight == 0.0 { flat.zeros_like() } else { flat.affine(f64::from(weight), 0.0) }
        };
        let mut parts = vec![];
        for gradient in &out.gradients {
            parts.push(weighted(gradient, share)?);
        }
        let weight = match self.running {
            Running::First => f32::from(u8::from(shard == 0)),
            Running::Mean => share,
        };
        for (_, buffer) in student.params().buffers().filter(|(_, buffer)| buffer.dtype() == DType::F32) {
            parts.push(weighted(&buffer.as_detached_tensor(), weight)?);
        }
        for term in out.terms.iter() {
            let values = term.per_example.detach().to_device(student.device())?;
            parts.push(values.pad_with_zeros(0, rows.start, n - rows.end)?);
        }
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// Gives the student the statistics, and makes the output of the sum.
    fn unflatten(
        &self,
        sum: &Tensor,
        student: &Network,
        terms: &Terms,
        x_adv: Tensor,
        n: usize,
    ) -> Result<StepOutput> {
        let mut start = 0;
        let mut take = |shape: &[usize]| {
            let len = shape.iter().product();
            start += len;
            sum.narrow(0, start - len, len)?.force_contiguous()?.reshape(shape)
        };
        let mut gradients = vec![];
        for (_, parameter) in student.parameters() {
            gradients.push(take(parameter.dims())?);
        }
        for (_, buffer) in student.params().buffers().filter(|(_, buffer)| buffer.dtype() == DType::F32) {
            buffer.set(&take(buffer.dims())?)?;
        }
        let mut of_all = vec![];
        for _ in terms.iter() {
            of_all.push(take(&[n])?);
        }
        Ok(StepOutput { terms: terms.with_values(of_all), x_adv, gradients })
    }

    /// Shard by shard, a piece of the values at a time.
    fn sum_in_order(&self, own: Vec<Vec<f32>>) -> Result<Vec<f32>> {
        let len = own[0].len();
        let mut sum = Vec::with_capacity(len);
        for start in (0..len).step_by(PIECE) {
            let piece = start..len.min(start + PIECE);
            let mine: Vec<f32> = own.iter().flat_map(|shard| &shard[piece.clone()]).copied().collect();
            let shards = match self.ranks.ranks() {
                1 => mine,
                _ => self.ranks.gather(&bytes_of(&mine))?.iter().flat_map(|bytes| values_of(bytes)).collect(),
            };
            let mut shards = shards.chunks(piece.len());
            sum.extend(shards.next().into_iter().flatten());
            for shard in shards {
                sum[start..].iter_mut().zip(shard).for_each(|(sum, value)| *sum += value);
            }
        }
        Ok(sum)
    }
}

/// Values of every shard that are in memory at a time.
const PIECE: usize = 1 << 20;

/// The part of `n` things, of so many equal parts.
pub(crate) fn part(n: usize, index: usize, of: usize) -> Range<usize> {
    index * n / of..(index + 1) * n / of
}

/// Copies of the running statistics, which the forwards of a step change.
pub(crate) fn buffers(student: &Network) -> Result<Vec<Tensor>> {
    let copies = student.params().buffers().map(|(_, buffer)| buffer.as_detached_tensor().copy());
    Ok(copies.collect::<candle_core::Result<_>>()?)
}

/// Puts the running statistics back.
pub(crate) fn restore(student: &Network, buffers: &[Tensor]) -> Result<()> {
    for ((_, buffer), before) in student.params().buffers().zip(buffers) {
        buffer.set(before)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::Alone;

    #[test]
    fn parts_are_a_partition() {
        for n in [0, 1, 7, 128] {
            for of in [1, 2, 3, 8] {
                let all: Vec<usize> = (0..of).flat_map(|index| part(n, index, of)).collect();
                assert_eq!(all, (0..n).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_sum_in_order_is_that_of_its_shards_in_order() {
        let config = ParallelConfig::Shards(Shards { shards: 3, running: Running::First });
        let together = Together::new(Some(&config), &Alone).unwrap();
        let len = PIECE + 5;
        let shard = |seed: u32| -> Vec<f32> {
            (0..len as u32).map(|i| ((i * 7919 + seed * 104_729) % 1013) as f32 / 7.0).collect()
        };
        let shards = vec![shard(1), shard(2), shard(3)];
        let sum = together.sum_in_order(shards.clone()).unwrap();
        for i in [0, 1, PIECE - 1, PIECE, len - 1] {
            assert_eq!(sum[i].to_bits(), ((shards[0][i] + shards[1][i]) + shards[2][i]).to_bits(), "{i}");
        }
        assert_eq!(sum.len(), len);
    }
}
