//! Transfer: points made on one model, judged on others.

use crate::attack::{Access, Attack, ascend, judge};
use crate::ball::Ball;
use crate::error::Result;
use crate::evaluate::{Examples, Source};
use crate::linf::Linf;
use crate::problem::{Draws, Problem};
use rslad_models::Classifier;

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
