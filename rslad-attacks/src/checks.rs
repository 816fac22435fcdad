//! Signs that a robust accuracy should not be trusted: a model that hides its gradients, answers at random
//! or gives probabilities for logits makes attacks fail without being robust.
//!
//! A check warns; it never changes a number.

use crate::aim::Loss;
use crate::apgd::{AdaptiveAscent, Rise};
use crate::attack::{Access, judge, perturb};
use crate::attacks;
use crate::ball::Ball;
use crate::error::Result;
use crate::evaluate::{Evaluation, Examples};
use crate::linf::Linf;
use crate::objectives::Dlr;
use crate::problem::{Draws, Problem};
use crate::result::Accuracy;
use crate::walk::{Ask, Leave, Site, Walk};
use candle_core::{DType, Tensor};
use rslad_models::Classifier;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What should be so.
    pub name: String,
    /// Whether it is.
    pub outcome: Outcome,
    /// What was seen.
    pub seen: String,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is as it should be.
    Passed,
    /// It is not.
    Warning,
}

impl Check {
    fn new(name: &str, passes: bool, seen: String) -> Self {
        let outcome = if passes { Outcome::Passed } else { Outcome::Warning };
        Self { name: name.to_owned(), outcome, seen }
    }
}

const FORWARDS: usize = 5;

/// The checks that look at a model, on a few examples.
///
/// # Errors
/// When the examples are not as they should be, or the classifier fails.
///
/// # Source
/// The first three with the thresholds of fra31/auto-attack a392200, `checks.py`.
pub fn of_model(f: &dyn Classifier, examples: &Examples, eps: Linf, seed: u64) -> Result<Vec<Check>> {
    let draws = Draws::Keyed { seed, epoch: 0 };
    let problem =
        |eps| Problem::new(Ball::new(&examples.x, eps)?, &examples.y, examples.ids.clone(), draws.clone());
    let mut all = vec![answers_repeat(f, examples)?, outputs_are_logits(f, examples)?];
    if f.n_classes() > 2 {
        all.push(gradients_are_alive(f, &problem(eps)?)?);
    }
    all.push(falls_at_a_large_radius(f, &problem(Linf::new(1.0)?)?)?);
    Ok(all)
}

/// The same images give the same answers.
fn answers_repeat(f: &dyn Classifier, examples: &Examples) -> Result<Check> {
    let (mut directions, mut correct) = (Vec::new(), Vec::new());
    for _ in 0..FORWARDS {
        let judged = judge(f, &examples.x, &examples.y)?;
        correct.push(judged.correct.iter().filter(|c| **c).count());
        let logits = judged.logits.to_dtype(DType::F64)?;
        let length = (logits.sqr()?.sum_keepdim(1)?.sqrt()? + 1e-10)?;
        directions.push(logits.broadcast_div(&length)?);
    }
    let mut farthest = 0.0f64;
    for (i, a) in directions.iter().enumerate() {
        for b in &directions[i + 1..] {
            let distance = (a - b)?.sqr()?.sum(1)?.sqrt()?.to_vec1::<f64>()?;
            farthest = distance.into_iter().fold(farthest, f64::max);
        }
    }
    let passes = farthest <= 1e-4 && correct.iter().all(|c| *c == correct[0]);
    let seen = format!("logits of {FORWARDS} passes differ by up to {farthest:.1e} in direction");
    let fix = "; a randomized model needs `auto_attack` with version = \"rand\"";
    Ok(Check::new("the model's answers repeat", passes, if passes { seen } else { seen + fix }))
}

/// The outputs are not a probability distribution, whose softmax would hide the gradients.
fn outputs_are_logits(f: &dyn Classifier, examples: &Examples) -> Result<Check> {
    let rows = f.logits(&examples.x)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let inside = |z: &f64| *z < 1.0 + 1e-5 && *z > -1e-5;
    let probabilities =
        rows.iter().all(|row| row.iter().all(inside) && (row.iter().sum::<f64>() - 1.0).abs() < 1e-5);
    let seen = match probabilities {
        true => "every row is in [0, 1] and sums to 1: give the model's logits, not its softmax",
        false => "not probabilities",
    };
    Ok(Check::new("the model's outputs are logits", !probabilities, seen.to_owned()))
}

const ONE: NonZeroUsize = NonZeroUsize::MIN;

/// Where APGD on the ratio of logits starts, the gradient is not zero.
fn gradients_are_alive(f: &dyn Classifier, problem: &Problem) -> Result<Check> {
    let once = AdaptiveAscent { iterations: ONE, restarts: ONE, rho: 0.0, eot: ONE };
    let apgd = once.walk(attacks::APGD_DLR_PURPOSE, Rise::Untargeted(Loss::Dlr), Leave::AtEnd);
    let mut points = Vec::new();
    for site in Site::all(problem)? {
        let here = apgd.start(&site)?;
        if let Ask::Gradients(x, _) = apgd.ask(&site, &here) {
            points.extend_from_slice(x);
        }
    }
    let x = Tensor::from_vec(points, problem.ball().x_nat().shape(), problem.y().device())?;
    let dx = f.gradient(&x, &Dlr::new(problem.y())?)?.dx.abs()?.flatten_from(1)?.sum(1)?;
    let zero = dx.to_dtype(DType::F64)?.to_vec1::<f64>()?.into_iter().filter(|size| *size == 0.0).count();
    let seen =
        format!("zero gradients at the start of APGD on the ratio of logits: {zero} of {}", x.dims()[0]);
    Ok(Check::new("gradients are alive", zero == 0, seen))
}

/// With all of [0, 1] to move in, nothing stands.
fn falls_at_a_large_radius(f: &dyn Classifier, problem: &Problem) -> Result<Check> {
    let pgd = attacks::find("pgd")?.build(&LARGE_PGD.parse().expect("the text is TOML"))?;
    let robust = Accuracy::of(&perturb(f, pgd.as_ref(), problem)?.robust);
    let seen = format!("PGD-20 at radius 1 leaves {} of {} standing", robust.correct, robust.n);
    Ok(Check::new("accuracy falls to 0 at a large radius", robust.correct == 0, seen))
}

const LARGE_PGD: &str = "steps = 20\nstep_size = \"eps/4\"\nstart = \"uniform\"\nclip_start = \"clip\"";

/// The checks that look at results: weaker attacks should not win.
pub fn of_results(evaluation: &Evaluation) -> Vec<Check> {
    let mut all = Vec::new();
    let robust = |name: &str| {
        let of = evaluation.columns.iter().filter(|c| c.attack == name);
        of.map(|c| (c.name.as_str(), c.accuracy().correct)).min_by_key(|(_, robust)| *robust)
    };
    if let (Some((fgsm, one_step)), Some((pgd, many))) = (robust("fgsm"), robust("pgd")) {
        let seen = format!("{fgsm} leaves {one_step} standing, {pgd} {many}");
        all.push(Check::new("one step is not stronger than many", many <= one_step, seen));
    }
    let best = |access: Access| {
        let of = evaluation.columns.iter().filter(|c| c.access == access);
        of.map(|c| (c.name.as_str(), c.accuracy().correct)).min_by_key(|(_, robust)| *robust)
    };
    if let (Some((white, with)), Some((black, without))) = (best(Access::Gradients), best(Access::Logits)) {
        let seen = format!("{black} without gradients leaves {without} standing, {white} with them {with}");
        all.push(Check::new("a black box is not stronger than a white box", with <= without, seen));
    }
    for column in &evaluation.columns {
        all.extend(square_adds_little(column, evaluation.clean().correct));
    }
    all
}

/// After the white-box attacks of an ensemble, Square fells no more than 0.2 points.
fn square_adds_little(column: &crate::evaluate::ColumnOutcome, clean: usize) -> Option<Check> {
    let last = column.stages.last().filter(|stage| *stage == "square")?;
    let funnel = column.funnel(clean);
    let [.., before, after] = &funnel[..] else { return None };
    if column.stages.len() < 2 {
        return None;
    }
    let fell = before.robust - after.robust;
    let seen = format!("{}: {last} fells {fell} that the attacks before it left standing", column.name);
    Some(Check::new(
        "Square adds little to white-box attacks",
        fell as f64 <= 0.002 * column.robust.len() as f64,
        seen,
    ))
}
