//! Where the time of a run goes.

use crate::step::Spent;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Wall-clock times of a sitting, by stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The steps that were timed.
    pub steps: u64,
    /// Their images.
    pub images: u64,
    /// Reading and augmenting images.
    pub data: Duration,
    /// The attack within training; of a method that attacks student and teacher together, both.
    pub inner_max: Duration,
    /// The teachers' answers.
    pub teacher: Duration,
    /// The student's forwards and backwards, and the loss.
    pub outer: Duration,
    /// Adding gradients up with the other ranks; waiting for them is part of it. Batch statistics of all ranks
    /// are part of the stage that asks for them.
    pub exchange: Duration,
    /// The optimizer's step.
    pub optimizer: Duration,
    /// Evaluations that choose the best checkpoint.
    pub evaluation: Duration,
    /// Writing states and weights.
    pub saving: Duration,
}

impl Times {
    /// The stages of a step with their names, in order.
    pub fn stages(&self) -> Vec<(&'static str, Duration)> {
        let mut stages = vec![
            ("data", self.data),
            ("inner_max", self.inner_max),
            ("teacher", self.teacher),
            ("outer", self.outer),
        ];
        stages.extend((self.exchange > Duration::ZERO).then_some(("exchange", self.exchange)));
        stages.push(("optimizer", self.optimizer));
        stages
    }

    /// Adds a step that took `whole`, of which `spent` was on the attack and the teachers.
    pub(crate) fn add_step(&mut self, whole: Duration, spent: &Spent, images: usize) {
        let (inner_max, teacher, exchange) =
            (spent.inner_max.get(), spent.teacher.get(), spent.exchange.get());
        self.steps += 1;
        self.images += images as u64;
        self.inner_max += inner_max;
        self.teacher += teacher;
        self.exchange += exchange;
        self.outer += whole.saturating_sub(inner_max + teacher + exchange);
    }

    /// All steps together.
    pub fn in_steps(&self) -> Duration {
        self.stages().iter().map(|(_, time)| *time).sum()
    }

    /// The speed of training, without evaluations and saves.
    ///
    /// # Units
    /// Images a second; 0 before the first step.
    pub fn images_per_second(&self) -> f64 {
        match self.in_steps().as_secs_f64() {
            0.0 => 0.0,
            seconds => self.images as f64 / seconds,
        }
    }
}

/// Runs something and adds its time to `total`.
pub(crate) fn timed<T>(total: &Cell<Duration>, work: impl FnOnce() -> T) -> T {
    let clock = Instant::now();
    let result = work();
    total.set(total.get() + clock.elapsed());
    result
}
