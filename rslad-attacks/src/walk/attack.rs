//! Attacks that are a walk: what their files say, and how that makes them attacks.

use super::{Leave, Walk, Walkers};
use crate::attack::{Access, Attack, Search, State};
use crate::error::Result;
use crate::lockstep::{Lockstep, Program};
use crate::problem::Problem;

/// What the file of such an attack says beside its configuration.
pub(crate) trait WalkAttack: Send + Sync {
    /// How one example is searched, and a batch where the network is on another device.
    type Walk: Walk + Program + 'static;

    /// The name in the registry.
    const NAME: &'static str;

    /// What it asks of the model.
    const ACCESS: Access = Access::Gradients;

    /// The walk, whose fallen examples leave when this says.
    fn walk(&self, leave: Leave) -> Self::Walk;

    /// How it differs from what its name stands for on a model of so many classes.
    fn adapted(&self, _n_classes: usize) -> Option<String> {
        None
    }
}

impl<A: WalkAttack> Attack for A {
    fn name(&self) -> &str {
        A::NAME
    }

    fn begin(&self, problem: &Problem) -> Result<Box<dyn Search + '_>> {
        self.search(problem, Leave::AtOnce)
    }

    fn search(&self, problem: &Problem, leave: Leave) -> Result<Box<dyn Search + '_>> {
        Ok(match (leave, problem.ball().x_nat().device().is_cpu()) {
            (Leave::AtOnce, false) => Box::new(Lockstep::begin(self.walk(leave), problem)?),
            _ => Box::new(Walkers::begin(self.walk(leave), problem)?),
        })
    }

    fn restore(&self, state: &State) -> Result<Box<dyn Search + '_>> {
        let walk = self.walk(Leave::AtOnce);
        Ok(match Lockstep::<A::Walk>::saved(state) {
            true => Box::new(Lockstep::restore(walk, state)?),
            false => Box::new(Walkers::restore(walk, state)?),
        })
    }

    fn adapted(&self, n_classes: usize) -> Option<String> {
        WalkAttack::adapted(self, n_classes)
    }

    fn access(&self) -> Access {
        A::ACCESS
    }
}
