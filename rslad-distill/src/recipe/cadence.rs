//! After which epochs a run is evaluated.

use serde::{Deserialize, Serialize};

/// `select.every` of a recipe. The last epoch is always evaluated beside these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of epochs, or { first = 20, from = 215, then = 1 }")]
pub enum Cadence {
    /// After every so many epochs.
    Every(u64),
    /// Rarely at first, often where the learning rate has dropped, as the released RSLAD scripts: after
    /// epochs 20, 40, ... 200, and after every one from 215 on.
    Changing(Changing),
}

/// A [`Cadence`] that changes once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changing {
    /// After every so many epochs before `from`.
    pub first: u64,
    /// The first epoch, counted from 1, of the second part; it is evaluated.
    pub from: u64,
    /// After every so many epochs from `from` on.
    pub then: u64,
}

impl Cadence {
    /// Whether the run is evaluated after this epoch, counted from 1.
    pub fn has(self, epoch: u64) -> bool {
        match self {
            Self::Every(epochs) => epoch.is_multiple_of(epochs),
            Self::Changing(Changing { first, from, .. }) if epoch < from => epoch.is_multiple_of(first),
            Self::Changing(Changing { from, then, .. }) => (epoch - from).is_multiple_of(then),
        }
    }

    pub(super) fn problem(self) -> Option<String> {
        let zero = |key: &str| Some(format!("`select.{key}` is 0, expected 1 or more epochs"));
        match self {
            Self::Every(0) => zero("every"),
            Self::Changing(Changing { first: 0, .. }) => zero("every.first"),
            Self::Changing(Changing { from: 0, .. }) => zero("every.from"),
            Self::Changing(Changing { then: 0, .. }) => zero("every.then"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_released_scripts_evaluate_96_times() {
        let released = Cadence::Changing(Changing { first: 20, from: 215, then: 1 });
        let epochs: Vec<u64> = (1..=300).filter(|&epoch| released.has(epoch)).collect();
        assert_eq!(epochs.len(), 96);
        assert_eq!(epochs[..11], [20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 215]);
    }

    #[test]
    fn one_number_is_every_so_many_epochs() {
        let epochs: Vec<u64> = (1..=10).filter(|&epoch| Cadence::Every(4).has(epoch)).collect();
        assert_eq!(epochs, [4, 8]);
    }
}
