//! One training step up to the gradients: the forwards before the attack, the attack, the forwards
//! after it, the loss, and its way back through the student.

use crate::error::{Error, Result};
use crate::inner::{AttackMode, InnerConfig};
use crate::method::{ForwardSpec, Forwards, Inner, Labels, Method, Over, Plan, Point, Progress, Terms, Who};
use crate::pair::Pair;
use candle_core::{Tensor, Var};
use rslad_attacks::{Ball, Draws, Problem, ascend};
use rslad_models::randomness::Purpose;
use rslad_models::{Classifier, Frozen, Network, Pass, Training};

/// The networks of a run.
pub struct Players<'n> {
    student: &'n Network,
    training: Training<'n>,
    frozen: Frozen,
    teacher: Option<&'n Frozen>,
    second_teacher: Option<&'n Frozen>,
}

impl<'n> Players<'n> {
    /// A student and the teachers that the method asks for.
    ///
    /// # Errors
    /// When freezing the student fails.
    pub fn new(
        student: &'n Network,
        teacher: Option<&'n Frozen>,
        second_teacher: Option<&'n Frozen>,
    ) -> Result<Self> {
        Ok(Self { student, training: student.training(), frozen: student.freeze()?, teacher, second_teacher })
    }

    fn frozen(&self, who: Who) -> Result<&dyn Classifier> {
        let missing =
            |key: &str| Error::Mismatch(format!("the method needs a teacher: give `[{key}]` or --teacher"));
        match who {
            Who::Student | Who::FrozenStudent => Ok(&self.frozen),
            Who::Teacher => Ok(self.teacher.ok_or_else(|| missing("teacher"))?),
            Who::SecondTeacher => Ok(self.second_teacher.ok_or_else(|| missing("second_teacher"))?),
        }
    }
}

/// The images of a step and where its randomness comes from.
pub struct StepInput<'b> {
    /// The augmented clean images, `[N, C, H, W]` in `[0, 1]`.
    pub x: &'b Tensor,
    /// Hard labels, `[N]` u32; kept from a method that does not read them.
    pub y: &'b Tensor,
    /// The examples' ids.
    pub ids: &'b [u64],
    /// The draws of the attack's start.
    pub draws: Draws,
    /// How far training has come.
    pub progress: Progress,
}

/// What a step found.
pub struct StepOutput {
    /// The loss terms at the present weights.
    pub terms: Terms,
    /// The points of the attack, `[N, C, H, W]`; x_nat where there is none.
    pub x_adv: Tensor,
    /// d loss / d parameter, in the order of `Network::parameters`.
    pub gradients: Vec<Tensor>,
}

/// One forward that ran: its logits as the loss sees them, and its pass if a gradient flows.
struct Ran {
    logits: Tensor,
    pass: Option<(Var, Pass)>,
}

/// Runs one step of a method: everything but the optimizer.
///
/// # Errors
/// When a teacher is missing, the images do not fit, or a tensor operation fails.
pub fn step(
    method: &dyn Method,
    inner: Option<&InnerConfig>,
    players: &mut Players<'_>,
    input: &StepInput<'_>,
) -> Result<StepOutput> {
    let plan = method.plan();
    players.frozen.refresh(players.student)?;
    let mut forwards = Forwards::new(input.y, plan.labels, input.progress);
    let mut passes = Vec::new();

    for spec in &plan.before {
        run(spec, players, input.x, None)?.keep(spec, &mut forwards, &mut passes);
    }
    let x_adv = match (method.inner(&forwards)?, inner) {
        (Inner::None, _) => input.x.clone(),
        (Inner::Ascend { over, objective }, Some(config)) => {
            let _span = tracing::debug_span!("inner_max").entered();
            let problem = problem(config, &plan, input)?;
            let mut search = config.ascent().search(&problem, Purpose::INNER_START, objective)?;
            attacked(over, config.view, players, |f| {
                Ok(ascend(f, search.as_mut(), problem.ball(), input.ids)?)
            })?
        }
        (Inner::Ascend { .. }, None) => {
            return Err(Error::Mismatch("the method attacks its student: give `[inner]`".into()));
        }
    };
    let _span = tracing::debug_span!("outer_min").entered();
    for spec in &plan.after {
        run(spec, players, input.x, Some(&x_adv))?.keep(spec, &mut forwards, &mut passes);
    }

    let terms = method.outer(&forwards)?;
    let dlogits = terms.loss()?.backward()?;
    for (leaf, pass) in passes {
        let gradient = match dlogits.get(leaf.as_tensor()) {
            Some(gradient) => gradient.clone(),
            None => leaf.as_tensor().zeros_like()?, // declared, run, but not in the loss
        };
        players.training.backward(pass, &gradient)?;
    }
    Ok(StepOutput { terms, x_adv, gradients: players.training.take_gradients()? })
}

impl Ran {
    fn keep(self, spec: &ForwardSpec, forwards: &mut Forwards, passes: &mut Vec<(Var, Pass)>) {
        forwards.push(spec.name, self.logits);
        passes.extend(self.pass);
    }
}

fn run(spec: &ForwardSpec, players: &mut Players<'_>, x_nat: &Tensor, x_adv: Option<&Tensor>) -> Result<Ran> {
    let too_early = || Error::Method(format!("forward `{}` needs x_adv, which comes after it", spec.name));
    let x = match spec.point {
        Point::Nat => x_nat.clone(),
        Point::Adv => x_adv.ok_or_else(too_early)?.clone(),
        Point::Along(t) => (x_nat + ((x_adv.ok_or_else(too_early)? - x_nat)? * t)?)?,
    };
    if spec.who != Who::Student {
        return Ok(Ran { logits: players.frozen(spec.who)?.logits(&x)?.detach(), pass: None });
    }
    let pass = players.training.forward(&x)?;
    let leaf = Var::from_tensor(pass.logits())?;
    Ok(Ran { logits: leaf.as_tensor().clone(), pass: Some((leaf, pass)) })
}

/// The attack's problem. A method that reads no labels is given none here either.
fn problem(config: &InnerConfig, plan: &Plan, input: &StepInput<'_>) -> Result<Problem> {
    let y = match plan.labels {
        Labels::Read => input.y.clone(),
        Labels::Unread => input.y.zeros_like()?,
    };
    Ok(Problem::new(Ball::new(input.x, config.eps)?, &y, input.ids.to_vec(), input.draws.clone())?)
}

/// Calls `attack` with the classifier that the method attacks.
fn attacked(
    over: Over,
    mode: AttackMode,
    players: &Players<'_>,
    attack: impl FnOnce(&dyn Classifier) -> Result<Tensor>,
) -> Result<Tensor> {
    let view;
    let student: &dyn Classifier = match mode {
        AttackMode::Frozen => &players.frozen,
        AttackMode::BatchStatistics => {
            view = players.training.attack_view();
            &view
        }
    };
    match over {
        Over::Student => attack(student),
        Over::StudentAndTeacher => attack(&Pair::new(student, players.frozen(Who::Teacher)?)),
    }
}
