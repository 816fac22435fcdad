//! Transfer: points made on one model, judged on others.

use crate::attack::{Access, Attack, Finished, Search, State, ascend, judge};
use crate::ball::Ball;
use crate::error::Result;
use crate::evaluate::{Examples, Source};
use crate::linf::Linf;
use crate::problem::{Draws, Problem};
use rslad_models::Classifier;
use std::sync::Arc;

/// What the points are, whoever makes and whoever meets them.
#[derive(Clone, Copy, Debug)]
pub struct Threat {
    /// The radius.
    pub eps: Linf,
    /// The seed of the attack's random numbers.
    pub seed: u64,
    /// How many examples are attacked at a time.
    pub lanes: usize,
}

/// Makes points on `source`, and asks each target about all of them: whether the labels hold, target by
/// target, rows in the order of the examples.
///
/// All examples are attacked, also those that the source misclassifies clean: there the attack pushes
/// further. `done` hears of each batch.
///
/// # Errors
/// When examples are not as they should be, or a classifier fails.
pub fn transfer(
    source: &dyn Classifier,
    targets: &[&dyn Classifier],
    attack: &dyn Attack,
    examples: &dyn Source,
    threat: Threat,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<bool>>> {
    let mut held = vec![Vec::new(); targets.len()];
    let rows: Vec<usize> = (0..examples.ids().len()).collect();
    for rows in rows.chunks(threat.lanes.max(1)) {
        let Examples { ids, x, y } = examples.examples(rows)?;
        let draws = Draws::Keyed { seed: threat.seed, epoch: 0 };
        let problem = Problem::new(Ball::new(&x, threat.eps)?, &y, ids, draws)?;
        let mut search = attack.begin(&problem)?;
        let x_adv = ascend(source, search.as_mut(), problem.ball(), problem.ids())?;
        for (target, held) in targets.iter().zip(&mut held) {
            held.extend(judge(*target, &x_adv, problem.y())?.correct);
        }
        done(rows.len());
    }
    Ok(held)
}

/// Whether an attack's points are made on surrogates; one that asks for logits only needs none.
pub fn needs_surrogate(attack: &dyn Attack) -> bool {
    attack.access() == Access::Gradients
}

/// The attack with its points made on a surrogate, whoever is attacked; one that needs no surrogate as it is.
///
/// An evaluation with it is one of a black box: it attacks the examples that the attacked model classifies
/// correctly, and asks that model about the points only.
pub fn on_surrogate(attack: Box<dyn Attack>, surrogate: Arc<dyn Classifier>) -> Box<dyn Attack> {
    match needs_surrogate(attack.as_ref()) {
        true => Box::new(Transferred { name: format!("{}_transfer", attack.name()), attack, surrogate }),
        false => attack,
    }
}

struct Transferred {
    name: String,
    attack: Box<dyn Attack>,
    surrogate: Arc<dyn Classifier>,
}

impl Attack for Transferred {
    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&self, problem: &Problem) -> Result<Box<dyn Search + '_>> {
        Ok(Box::new(Elsewhere { search: self.attack.begin(problem)?, surrogate: self.surrogate.as_ref() }))
    }

    fn restore(&self, state: &State) -> Result<Box<dyn Search + '_>> {
        Ok(Box::new(Elsewhere { search: self.attack.restore(state)?, surrogate: self.surrogate.as_ref() }))
    }

    fn adapted(&self, n_classes: usize) -> Option<String> {
        self.attack.adapted(n_classes)
    }

    fn access(&self) -> Access {
        Access::Logits // of the attacked model
    }
}

/// A search on another model than the one it is asked to search.
struct Elsewhere<'a> {
    search: Box<dyn Search + 'a>,
    surrogate: &'a dyn Classifier,
}

impl Search for Elsewhere<'_> {
    fn lanes(&self) -> usize {
        self.search.lanes()
    }

    fn advance(&mut self, _: &dyn Classifier) -> Result<Vec<Finished>> {
        self.search.advance(self.surrogate)
    }

    fn admit(&mut self, problem: &Problem) -> Result<()> {
        self.search.admit(problem)
    }

    fn save(&self) -> Result<State> {
        self.search.save()
    }
}
