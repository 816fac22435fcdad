//! One training step up to the gradients: the forwards before the attack, the attack, the forwards
//! after it, the loss, and its way back through the student.
//!
//! A batch that does not fit is taken in micro-batches: each goes through all of that in turn, and their
//! gradients add up to that of the batch. Batch statistics are then those of a micro-batch.

use crate::awp::AwpConfig;
use crate::error::{Error, Result};
use crate::inner::{AttackMode, InnerConfig};
use crate::method::{
    ForwardSpec, Forwards, Inner, Labels, Method, Over, Plan, Point, Progress, Terms, TermsRead, Who,
};
use crate::pair::Pair;
use crate::times::timed;
use candle_core::{Tensor, Var};
use rslad_attacks::{Ball, Draws, Problem, ascend};
use rslad_models::randomness::Purpose;
use rslad_models::{Classifier, Exchange, Frozen, Network, Pass, Training};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// The networks of a run.
pub struct Players<'n> {
    student: &'n Network,
    training: Training<'n>,
    frozen: Frozen,
    teacher: Option<&'n Frozen>,
    second_teacher: Option<&'n Frozen>,
    spent: Spent,
}

/// The time of parts of a step, since it was last taken.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    pub(crate) inner_max: Cell<Duration>,
    pub(crate) teacher: Cell<Duration>,
    pub(crate) exchange: Cell<Duration>,
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
        let (training, frozen) = (student.training(), student.freeze()?);
        Ok(Self { student, training, frozen, teacher, second_teacher, spent: Spent::default() })
    }

    /// Shares the student's batches in train mode with other processes, or no longer.
    pub(crate) fn share(&mut self, exchange: Option<Arc<dyn Exchange>>) {
        self.training.share(exchange);
    }

    /// The student.
    pub(crate) fn student(&self) -> &'n Network {
        self.student
    }

    /// Where the time is written down.
    pub(crate) fn spent(&self) -> &Spent {
        &self.spent
    }

    /// The time spent since the last call.
    pub(crate) fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
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

/// How a step is taken, beside its method: what a recipe says of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepConfig<'r> {
    /// The attack, for methods that have one.
    pub inner: Option<&'r InnerConfig>,
    /// Whether the weights are perturbed first, and how.
    pub awp: Option<&'r AwpConfig>,
    /// Images of a micro-batch; none takes the batch whole.
    pub micro_batch: Option<usize>,
}

/// The images of a step and where its randomness comes from.
#[derive(Clone)]
pub struct StepInput<'b> {
    /// The augmented clean images, `[N, C, H, W]` in `[0, 1]`.
    pub x: &'b Tensor,
    /// Hard labels, `[N]` u32; kept from a method that does not read them.
    pub y: &'b Tensor,
    /// The examples' ids.
    pub ids: &'b [u64],
    /// The teacher's logits of `x`, `[N, K]`, where they are known already.
    pub soft_labels: Option<&'b Tensor>,
    /// The draws of the attack's start.
    pub draws: Draws,
    /// How far training has come.
    pub progress: Progress,
}

/// What a step found.
pub struct StepOutput {
    /// The loss terms at the weights of the descent: the present ones, or with `[awp]` the perturbed.
    pub terms: Terms,
    /// The points of the attack, `[N, C, H, W]`; x_nat where there is none.
    pub x_adv: Tensor,
    /// d loss / d parameter, in the order of `Network::parameters`.
    pub gradients: Vec<Tensor>,
}

/// Runs one step of a method: everything but the optimizer.
///
/// # Errors
/// When a teacher is missing, the images do not fit, or a tensor operation fails.
pub fn step(
    method: &dyn Method,
    config: &StepConfig<'_>,
    players: &mut Players<'_>,
    input: &StepInput<'_>,
) -> Result<StepOutput> {
    players.frozen.refresh(players.student)?;
    let n = input.ids.len();
    let size = config.micro_batch.unwrap_or(n).max(1);
    if size >= n {
        let (terms, x_adv) = Part { method, config, input, share: 1.0 }.run(players)?;
        return Ok(StepOutput { terms, x_adv, gradients: players.training.take_gradients()? });
    }
    let (mut terms, mut x_adv) = (Vec::new(), Vec::new());
    for start in (0..n).step_by(size) {
        let rows = Rows::of(input, start, size.min(n - start))?;
        let share = rows.ids.len() as f64 / n as f64;
        let found = Part { method, config, input: &rows.input(input), share }.run(players)?;
        terms.push(found.0);
        x_adv.push(found.1);
    }
    let (terms, x_adv) = (Terms::joined(&terms)?, Tensor::cat(&x_adv, 0)?);
    Ok(StepOutput { terms, x_adv, gradients: players.training.take_gradients()? })
}

/// The loss terms of a method with the student in eval mode and nothing learned: what a held-out batch
/// is judged by where no label may be.
///
/// # Errors
/// As [`step`].
pub fn judge(
    method: &dyn Method,
    config: &StepConfig<'_>,
    players: &mut Players<'_>,
    input: &StepInput<'_>,
) -> Result<Terms> {
    players.frozen.refresh(players.student)?;
    let inner = config.inner.map(|inner| InnerConfig { view: AttackMode::Frozen, ..inner.clone() });
    let config = StepConfig { inner: inner.as_ref(), ..*config };
    let part = Part { method, config: &config, input, share: 1.0 };
    let mut forwards = Forwards::new(input.y, method.plan().labels, input.progress);
    for spec in method.plan().before {
        forwards.push(spec.name, part.frozen_logits(&spec, players, None)?);
    }
    let x_adv = part.attack(&forwards, players)?;
    for spec in method.plan().after {
        forwards.push(spec.name, part.frozen_logits(&spec, players, Some(&x_adv))?);
    }
    method.outer(&forwards)
}

/// The rows of a micro-batch, or of a shard.
pub(crate) struct Rows {
    x: Tensor,
    y: Tensor,
    ids: Vec<u64>,
    soft_labels: Option<Tensor>,
    draws: Draws,
}

impl Rows {
    pub(crate) fn of(input: &StepInput<'_>, start: usize, len: usize) -> Result<Self> {
        let rows = |t: &Tensor| t.narrow(0, start, len)?.contiguous();
        Ok(Self {
            x: rows(input.x)?,
            y: rows(input.y)?,
            ids: input.ids[start..start + len].to_vec(),
            soft_labels: input.soft_labels.map(rows).transpose()?,
            draws: input.draws.rows(&(start as u32..(start + len) as u32).collect::<Vec<_>>())?,
        })
    }

    pub(crate) fn input<'r>(&'r self, whole: &StepInput<'_>) -> StepInput<'r> {
        StepInput {
            x: &self.x,
            y: &self.y,
            ids: &self.ids,
            soft_labels: self.soft_labels.as_ref(),
            draws: self.draws.clone(),
            progress: whole.progress,
        }
    }
}

/// A batch, or the micro-batch that is `share` of one.
struct Part<'p> {
    method: &'p dyn Method,
    config: &'p StepConfig<'p>,
    input: &'p StepInput<'p>,
    share: f64,
}

/// Train-mode forwards that a gradient will flow back through, by the leaf that their logits are.
type Passes = Vec<(Var, Pass)>;

impl Part<'_> {
    /// The terms and the points of the attack; the gradients are left with the student.
    fn run(&self, players: &mut Players<'_>) -> Result<(Terms, Tensor)> {
        let plan = self.method.plan();
        let mut forwards = Forwards::new(self.input.y, plan.labels, self.input.progress);
        let mut passes = Vec::new();
        for spec in &plan.before {
            self.forward(spec, players, None, &mut forwards, &mut passes)?;
        }
        let x_adv = self.attack(&forwards, players)?;
        let _span = tracing::debug_span!("outer_min").entered();
        let terms = match self.config.awp.filter(|awp| awp.is_on(self.input.progress)) {
            None => self.descend(&plan, players, &x_adv, forwards, passes)?,
            Some(awp) => self.descend_perturbed(awp, &plan, players, &x_adv, forwards, passes)?,
        };
        Ok((terms, x_adv))
    }

    fn attack(&self, forwards: &Forwards, players: &Players<'_>) -> Result<Tensor> {
        match (self.method.inner(forwards)?, self.config.inner) {
            (Inner::None, _) => Ok(self.input.x.clone()),
            (Inner::Ascend { over, objective }, Some(config)) => {
                let _span = tracing::debug_span!("inner_max").entered();
                let problem = self.problem(config)?;
                let mut search = config.ascent().search(&problem, Purpose::INNER_START, objective)?;
                timed(&players.spent.inner_max, || {
                    attacked(over, config.view, players, |f| {
                        Ok(ascend(f, search.as_mut(), problem.ball(), self.input.ids)?)
                    })
                })
            }
            (Inner::Ascend { .. }, None) => {
                Err(Error::Mismatch("the method attacks its student: give `[inner]`".into()))
            }
        }
    }

    /// The attack's problem. A method that reads no labels is given none here either.
    fn problem(&self, config: &InnerConfig) -> Result<Problem> {
        let StepInput { x, y, ids, draws, .. } = self.input;
        let y = match self.method.plan().labels {
            Labels::Read => (*y).clone(),
            Labels::Unread => y.zeros_like()?,
        };
        Ok(Problem::new(Ball::new(x, config.eps)?, &y, ids.to_vec(), draws.clone())?)
    }

    /// The forwards after the attack, the loss, and its way back.
    fn descend(
        &self,
        plan: &Plan,
        players: &mut Players<'_>,
        x_adv: &Tensor,
        mut forwards: Forwards,
        mut passes: Passes,
    ) -> Result<Terms> {
        for (i, spec) in plan.after.iter().enumerate() {
            self.forward(spec, players, Some(x_adv), &mut forwards, &mut passes)?;
            let missing = &plan.after[i + 1..];
            let apart = self.method.terms_read() == TermsRead::OneForward
                && missing.iter().all(|spec| spec.who == Who::Student);
            if let Some((leaf, _)) = passes.last().filter(|_| apart) {
                let (mut all, zeros) = (forwards.clone(), leaf.as_tensor().zeros_like()?);
                missing.iter().for_each(|spec| all.push(spec.name, zeros.clone()));
                self.back(players, &all, &mut passes)?;
            }
        }
        self.back(players, &forwards, &mut passes)
    }

    /// Takes passes back through the student, given the loss of these forwards.
    fn back(&self, players: &mut Players<'_>, forwards: &Forwards, passes: &mut Passes) -> Result<Terms> {
        let terms = self.method.outer(forwards)?;
        if passes.is_empty() {
            return Ok(terms);
        }
        let dlogits = terms.loss()?.backward()?;
        for (leaf, pass) in passes.drain(..) {
            let gradient = match dlogits.get(leaf.as_tensor()) {
                Some(gradient) => gradient.clone(),
                None => leaf.as_tensor().zeros_like()?, // declared, run, but not in the loss
            };
            let gradient = if self.share == 1.0 { gradient } else { (gradient * self.share)? };
            players.training.backward(pass, &gradient)?;
        }
        Ok(terms)
    }

    /// Once for the perturbation, once at the perturbed weights. What the first took from the running
    /// statistics is given back.
    fn descend_perturbed(
        &self,
        awp: &AwpConfig,
        plan: &Plan,
        players: &mut Players<'_>,
        x_adv: &Tensor,
        forwards: Forwards,
        passes: Passes,
    ) -> Result<Terms> {
        if !passes.is_empty() {
            let message = "`[awp]` needs a method whose train-mode forwards all come after the attack";
            return Err(Error::Method(message.into()));
        }
        let before = players.student.params().state_dict()?.into_iter().collect();
        self.descend(plan, players, x_adv, forwards.clone(), vec![])?;
        let gradients = players.training.take_gradients()?;
        players.student.params().load_state_dict(&before)?;
        awp.perturb(players.student, &gradients)?;
        let terms = self.descend(plan, players, x_adv, forwards, vec![])?;
        for (name, w) in players.student.parameters() {
            w.set(&before[name])?;
        }
        Ok(terms)
    }

    fn forward(
        &self,
        spec: &ForwardSpec,
        players: &mut Players<'_>,
        x_adv: Option<&Tensor>,
        forwards: &mut Forwards,
        passes: &mut Passes,
    ) -> Result<()> {
        if spec.who != Who::Student {
            forwards.push(spec.name, self.frozen_logits(spec, players, x_adv)?);
            return Ok(());
        }
        let pass = players.training.forward(&self.point(spec, x_adv)?)?;
        let leaf = Var::from_tensor(pass.logits())?;
        forwards.push(spec.name, leaf.as_tensor().clone());
        passes.push((leaf, pass));
        Ok(())
    }

    /// The logits of a network in eval mode, the student's too.
    fn frozen_logits(
        &self,
        spec: &ForwardSpec,
        players: &Players<'_>,
        x_adv: Option<&Tensor>,
    ) -> Result<Tensor> {
        match (spec.who, spec.point, self.input.soft_labels) {
            (Who::Teacher, Point::Nat, Some(known)) => Ok(known.clone()),
            _ => {
                let x = self.point(spec, x_adv)?;
                let logits = || Ok(players.frozen(spec.who)?.logits(&x)?.detach());
                match spec.who {
                    Who::Student | Who::FrozenStudent => logits(),
                    Who::Teacher | Who::SecondTeacher => timed(&players.spent.teacher, logits),
                }
            }
        }
    }

    fn point(&self, spec: &ForwardSpec, x_adv: Option<&Tensor>) -> Result<Tensor> {
        let x_nat = self.input.x;
        let too_early =
            || Error::Method(format!("forward `{}` needs x_adv, which comes after it", spec.name));
        Ok(match spec.point {
            Point::Nat => x_nat.clone(),
            Point::Adv => x_adv.ok_or_else(too_early)?.clone(),
            Point::Along(t) => (x_nat + ((x_adv.ok_or_else(too_early)? - x_nat)? * t)?)?,
        })
    }
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
