//! The learning rate of every step: linear warm-up, then a drop after each of some epochs.

use serde::{Deserialize, Serialize};

/// `[schedule]` of a recipe.
///
/// # Units
/// Epochs are counted from 1; `drops = [215]` means that epoch 215 is the last before the drop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The number of epochs.
    pub epochs: u64,
    /// Epochs of linear warm-up from 0, in fractions of an epoch if need be; 0 for none.
    pub warmup: f64,
    /// Epochs after which the rate is multiplied by `factor`.
    pub drops: Vec<u64>,
    /// The factor of a drop.
    pub factor: f64,
}

impl Schedule {
    /// The learning rate of a step, given the base rate; `step` counts from 1 within the epoch.
    pub fn lr(&self, base: f64, epoch: u64, step: u64, steps_per_epoch: u64) -> f64 {
        let drops = self.drops.iter().filter(|&&last| epoch > last).count() as i32;
        let done = (epoch - 1) as f64 * steps_per_epoch as f64 + step as f64;
        let warm = self.warmup * steps_per_epoch as f64;
        let ramp = if done < warm { done / warm } else { 1.0 };
        base * self.factor.powi(drops) * ramp
    }

    /// What is wrong with it, if anything: key, value, expectation.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.epochs == 0 {
            return Some("`schedule.epochs` is 0, expected at least 1".into());
        }
        if !(0.0..=self.epochs as f64).contains(&self.warmup) {
            let Self { warmup, epochs, .. } = self;
            return Some(format!("`schedule.warmup` is {warmup}, expected 0 to {epochs} epochs"));
        }
        if !self.drops.windows(2).all(|w| w[0] < w[1]) || self.drops.first() == Some(&0) {
            return Some(format!("`schedule.drops` is {:?}, expected ascending epochs from 1", self.drops));
        }
        if !(self.factor > 0.0 && self.factor <= 1.0) {
            return Some(format!("`schedule.factor` is {}, expected above 0 and at most 1", self.factor));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drops of the base rate 0.1 to a tenth, and rates by epoch.
    fn check(drops: &[u64], rates: &[(u64, f64)]) {
        let schedule = Schedule { epochs: 300, warmup: 0.0, drops: drops.to_vec(), factor: 0.1 };
        for &(epoch, expected) in rates {
            for step in [1, 391] {
                let lr = schedule.lr(0.1, epoch, step, 391);
                assert!((lr - expected).abs() < 1e-12, "{drops:?}, epoch {epoch}: {lr}, expected {expected}");
            }
        }
    }

    #[test]
    fn rates_are_those_of_the_released_rslad() {
        let table = include_str!("../tests/goldens/lr_schedule.json");
        let table: serde_json::Value = serde_json::from_str(table).unwrap();
        let row = |row: &serde_json::Value| (row[0].as_u64().unwrap(), row[1].as_f64().unwrap());
        let rates: Vec<(u64, f64)> = table["table"].as_array().unwrap().iter().map(row).collect();
        assert_eq!(rates.len(), 300);
        check(&[215, 260, 285], &rates);
    }

    #[test]
    fn rates_are_those_of_the_released_trades() {
        // Its script sets the rate before epochs 75, 90 and 100.
        let rates = [(1, 0.1), (74, 0.1), (75, 1e-2), (89, 1e-2), (90, 1e-3), (99, 1e-3), (100, 1e-4)];
        check(&[74, 89, 99], &rates);
    }

    #[test]
    fn rates_are_those_of_the_released_ard_with_and_without_its_second_drop() {
        // Its script counts epochs from 0 and drops at 100 and 150; the second drop starts from the base
        // rate again and so changes nothing.
        check(&[100, 150], &[(1, 0.1), (100, 0.1), (101, 1e-2), (150, 1e-2), (151, 1e-3), (200, 1e-3)]);
        check(&[100], &[(1, 0.1), (100, 0.1), (101, 1e-2), (150, 1e-2), (151, 1e-2), (200, 1e-2)]);
    }

    #[test]
    fn warm_up_is_linear_in_steps() {
        let schedule = Schedule { epochs: 4, warmup: 1.5, drops: vec![2], factor: 0.5 };
        let lr = |epoch, step| schedule.lr(1.0, epoch, step, 10);
        assert_eq!([lr(1, 1), lr(1, 10), lr(2, 5), lr(2, 10)], [1.0 / 15.0, 10.0 / 15.0, 1.0, 1.0]);
        assert_eq!([lr(3, 1), lr(4, 10)], [0.5, 0.5]);
    }
}
