//! Options that architectures share, checked as they are read.

use crate::graph::{GraphBuilder, NodeId};
use serde::{Deserialize, Deserializer, de};

/// The normalization inside a model: `none`, `cifar10`, `cifar100` or `<means>/<deviations>`, one of
/// each for every channel or one for all.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm(Option<(Vec<f32>, Vec<f32>)>);

impl Norm {
    /// The images of a graph under this normalization.
    ///
    /// # Errors
    /// When the number of channels differs.
    pub(crate) fn apply(&self, g: &mut GraphBuilder, x: NodeId) -> Result<NodeId, String> {
        let Some((mean, std)) = &self.0 else { return Ok(x) };
        let channels = g.channels(x);
        let spread = |values: &Vec<f32>| match values.len() {
            1 => Ok(vec![values[0]; channels]),
            n if n == channels => Ok(values.clone()),
            n => Err(format!("`norm` has {n} channels, expected {channels} as `in_channels` says, or 1")),
        };
        Ok(g.normalize(x, &spread(mean)?, &spread(std)?))
    }
}

impl Norm {
    /// Whether both do the same to images, up to the digits that constants are printed with.
    pub fn is_close_to(&self, other: &Self) -> bool {
        let close = |a: &[f32], b: &[f32]| {
            let n = a.len().max(b.len());
            let at = |values: &[f32], i: usize| values.get(if values.len() == 1 { 0 } else { i }).copied();
            (0..n).all(|i| at(a, i).zip(at(b, i)).is_some_and(|(a, b)| (a - b).abs() < 5e-4))
        };
        match (&self.0, &other.0) {
            (Some((mean, std)), Some((other_mean, other_std))) => {
                close(mean, other_mean) && close(std, other_std)
            }
            (None, None) => true,
            _ => false,
        }
    }
}

impl std::str::FromStr for Norm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The constants of the DeepMind and RobustBench model definitions.
        let known = match text {
            "none" => return Ok(Self(None)),
            "cifar10" => Some(([0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616])),
            "cifar100" => Some(([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762])),
            _ => None,
        };
        if let Some((mean, std)) = known {
            return Ok(Self(Some((mean.to_vec(), std.to_vec()))));
        }
        let numbers =
            |part: &str| part.split(',').map(|v| v.trim().parse().ok()).collect::<Option<Vec<f32>>>();
        let parts = text.split_once('/').and_then(|(mean, std)| numbers(mean).zip(numbers(std)));
        let Some((mean, std)) = parts.filter(|(mean, std)| mean.len() == std.len()) else {
            return Err(format!(
                "`norm` is {text:?}, expected none, cifar10, cifar100 or means/deviations such as \"0.5/0.25\""
            ));
        };
        if !std.iter().all(|&s| s > 0.0 && s.is_finite()) || !mean.iter().all(|m| m.is_finite()) {
            return Err(format!(
                "`norm` is {text:?}: means must be finite, standard deviations must be above 0"
            ));
        }
        Ok(Self(Some((mean, std))))
    }
}

impl<'de> Deserialize<'de> for Norm {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// Block counts of the stages, written `2,2,2,2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocks(pub(crate) Vec<usize>);

impl Blocks {
    /// (stage, block, stride) of every block: all stages but the first begin by halving the image.
    pub(crate) fn strides(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let stages = self.0.iter().enumerate();
        stages.flat_map(|(stage, &blocks)| {
            (0..blocks).map(move |block| (stage, block, if stage > 0 && block == 0 { 2 } else { 1 }))
        })
    }
}

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let counts: Option<Vec<usize>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
        match counts.filter(|c| c.len() <= 8 && c.iter().all(|n| (1..=1000).contains(n))) {
            Some(counts) => Ok(Self(counts)),
            None => Err(de::Error::custom(format!(
                "`blocks` is {text:?}, expected block counts such as \"2,2,2,2\" (at most 8 stages of 1..=1000)"
            ))),
        }
    }
}

/// An error unless `value` is in `low..=high`.
pub(crate) fn within(key: &str, value: usize, low: usize, high: usize) -> Result<usize, String> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(format!("`{key}` is {value}, expected {low}..={high}"))
}

/// The blocks in each of the three groups of a wide ResNet, whose depth is 6 n + 4.
pub(crate) fn blocks_per_group(depth: usize) -> Result<usize, String> {
    if depth % 6 == 4 && (10..=1000).contains(&depth) {
        return Ok((depth - 4) / 6);
    }
    Err(format!("`depth` is {depth}, expected 6 n + 4 in 10..=1000, such as 16, 28 or 34"))
}

/// Options of an architecture from a TOML table.
pub(crate) fn read<'de, T: Deserialize<'de>>(table: &toml::Table) -> Result<T, String> {
    toml::Value::Table(table.clone())
        .try_into()
        .map_err(|e: toml::de::Error| e.to_string().trim_end().replace('\n', " "))
}
