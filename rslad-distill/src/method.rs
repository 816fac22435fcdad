//! What a training method is: the forwards it asks for, what its attack ascends, and its loss terms.
//!
//! Released codes differ most in what cannot be seen in their formulas: how often a network runs in
//! train mode within a step, in which order, and on what, since every such forward moves the running
//! statistics of batch normalization. Here a method declares its forwards; each is run exactly once, in
//! the declared order, used or not.

use crate::error::{Error, Result};
use candle_core::Tensor;
use rslad_models::Objective;

/// Where a forward is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Point {
    /// The augmented clean images.
    Nat,
    /// The points that the inner maximization found.
    Adv,
    /// `x_nat + t (x_adv - x_nat)`, not clamped to `[0, 1]`: -1 mirrors the perturbation.
    Along(f64),
}

/// Which network a forward runs, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The student in train mode: batch statistics, running statistics updated.
    Student,
    /// The student in eval mode, without a gradient.
    FrozenStudent,
    /// The teacher: always in eval mode, without a gradient.
    Teacher,
    /// A second teacher, such as a natural one.
    SecondTeacher,
}

/// One forward of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForwardSpec {
    /// The name its logits go by.
    pub name: &'static str,
    /// The network.
    pub who: Who,
    /// The point.
    pub point: Point,
}

/// The forward `name` of `who` at `point`.
pub const fn forward(name: &'static str, who: Who, point: Point) -> ForwardSpec {
    ForwardSpec { name, who, point }
}

/// Whether a method reads hard labels. One that does not cannot get at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// The method reads y.
    Read,
    /// The method never sees y.
    Unread,
}

/// How the terms of a loss read the student's train-mode forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermsRead {
    /// Each term reads one of them: it can go back before the next one runs, and only one is held in memory.
    OneForward,
    /// Some term reads several.
    SeveralForwards,
}

/// What a method needs from a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Whether it reads hard labels.
    pub labels: Labels,
    /// Forwards before the inner maximization, in order; none at `Point::Adv`.
    pub before: Vec<ForwardSpec>,
    /// Forwards after it, in order.
    pub after: Vec<ForwardSpec>,
}

impl Plan {
    /// All forwards in order.
    pub fn forwards(&self) -> impl Iterator<Item = &ForwardSpec> {
        self.before.iter().chain(&self.after)
    }

    /// Whether the method has an inner maximization: some forward looks at its result.
    pub fn is_adversarial(&self) -> bool {
        self.forwards().any(|f| f.point != Point::Nat)
    }

    /// Whether some forward runs this network.
    pub fn runs(&self, who: Who) -> bool {
        self.forwards().any(|f| f.who == who)
    }
}

/// How far training has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The present epoch, from 1.
    pub epoch: u64,
    /// The number of epochs of the run.
    pub epochs: u64,
}

/// The logits of the declared forwards that have run so far.
#[derive(Clone)]
pub struct Forwards {
    labels: Option<Tensor>,
    logits: Vec<(&'static str, Tensor)>,
    progress: Progress,
}

impl Forwards {
    /// No forwards yet. `labels` are kept only for a method that reads them.
    ///
    /// # Shapes
    /// `y`: `[N]` u32.
    pub fn new(y: &Tensor, labels: Labels, progress: Progress) -> Self {
        let labels = (labels == Labels::Read).then(|| y.clone());
        Self { labels, logits: Vec::new(), progress }
    }

    /// Adds the logits `[N, K]` of a forward.
    pub fn push(&mut self, name: &'static str, logits: Tensor) {
        self.logits.push((name, logits));
    }

    /// The logits of a declared forward, `[N, K]`.
    ///
    /// # Errors
    /// When no such forward has run.
    pub fn logits(&self, name: &str) -> Result<&Tensor> {
        let found = self.logits.iter().find(|(n, _)| *n == name).map(|(_, t)| t);
        found.ok_or_else(|| {
            Error::Method(format!("the method reads forward `{name}`, which it has not declared"))
        })
    }

    /// The hard labels, `[N]` u32.
    ///
    /// # Errors
    /// When the method has declared that it does not read them.
    pub fn labels(&self) -> Result<&Tensor> {
        let undeclared = || Error::Method("the method reads labels, but declares `Labels::Unread`".into());
        self.labels.as_ref().ok_or_else(undeclared)
    }

    /// How far training has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }
}

/// Whose logits an inner maximization sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The student's, `[N, K]`.
    Student,
    /// Student and teacher side by side, `[N, 2K]`: the gradient flows through both.
    StudentAndTeacher,
}

/// What a method's attack ascends.
pub enum Inner<'a> {
    /// No attack: x_adv is x_nat.
    None,
    /// Ascend `objective`.
    Ascend {
        /// Whose logits it sees.
        over: Over,
        /// The objective, whose rows are those of the batch.
        objective: Box<dyn Objective + 'a>,
    },
}

/// One term of a loss.
#[derive(Clone, Debug)]
pub struct Term {
    /// The name it is logged by.
    pub name: &'static str,
    /// Its weight.
    pub weight: f64,
    /// Its value for each example, `[N]`.
    pub per_example: Tensor,
}

/// A loss: the sum of `weight * mean(per_example)` over its terms.
#[derive(Clone, Debug)]
pub struct Terms(Vec<Term>);

impl Terms {
    /// A loss of one term of weight 1.
    pub fn one(name: &'static str, per_example: Tensor) -> Self {
        Self(vec![]).plus(name, 1.0, per_example)
    }

    /// A loss that begins with this term.
    pub fn of(name: &'static str, weight: f64, per_example: Tensor) -> Self {
        Self(vec![]).plus(name, weight, per_example)
    }

    /// The loss with one more term.
    pub fn plus(mut self, name: &'static str, weight: f64, per_example: Tensor) -> Self {
        self.0.push(Term { name, weight, per_example });
        self
    }

    /// The terms of a batch from those of its micro-batches, in order.
    ///
    /// # Errors
    /// When the parts do not have the same terms.
    pub fn joined(parts: &[Self]) -> Result<Self> {
        let Some((first, others)) = parts.split_first() else { return Ok(Self(vec![])) };
        let join = |(i, term): (usize, &Term)| {
            let same = |part: &Self| part.0.len() == first.0.len() && part.0[i].name == term.name;
            if !others.iter().all(same) {
                return Err(Error::Method("a method has the same terms for every part of a batch".into()));
            }
            let all: Vec<&Tensor> = parts.iter().map(|part| &part.0[i].per_example).collect();
            Ok(Term { per_example: Tensor::cat(&all, 0)?, ..*term })
        };
        Ok(Self(first.0.iter().enumerate().map(join).collect::<Result<_>>()?))
    }

    /// The same terms with values of other examples, one tensor `[N]` each.
    pub(crate) fn with_values(&self, values: Vec<Tensor>) -> Self {
        let terms = self.0.iter().zip(values);
        Self(terms.map(|(term, per_example)| Term { per_example, ..*term }).collect())
    }

    /// The terms in order.
    pub fn iter(&self) -> impl Iterator<Item = &Term> {
        self.0.iter()
    }

    /// The loss, a scalar in the graph of the logits.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn loss(&self) -> Result<Tensor> {
        let mut loss: Option<Tensor> = None;
        for term in &self.0 {
            let value = (term.per_example.mean_all()? * term.weight)?;
            loss = Some(match loss {
                Some(sum) => (sum + value)?,
                None => value,
            });
        }
        loss.ok_or_else(|| Error::Method("a method has at least one loss term".into()))
    }

    /// Each term's unweighted mean, by name.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn means(&self) -> Result<Vec<(&'static str, f64)>> {
        let mean = |t: &Term| Ok((t.name, mean_f64(&t.per_example)?));
        self.0.iter().map(mean).collect()
    }

    /// The value of the loss, added up in f64.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn value(&self) -> Result<f64> {
        self.0.iter().map(|t| Ok(t.weight * mean_f64(&t.per_example)?)).sum()
    }
}

fn mean_f64(t: &Tensor) -> Result<f64> {
    let values: Vec<f64> = t.detach().to_dtype(candle_core::DType::F64)?.to_vec1()?;
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

/// A training method: natural, SAT, TRADES, ARD, IAD, RSLAD and their kin.
pub trait Method: Send + Sync {
    /// The forwards and inputs it needs.
    fn plan(&self) -> Plan;

    /// What its inner maximization ascends, given the forwards before it.
    ///
    /// # Errors
    /// When a forward it reads was not declared, or a tensor operation fails.
    fn inner<'a>(&self, f: &'a Forwards) -> Result<Inner<'a>>;

    /// Its loss, given all forwards. Gradients flow to the student's train-mode forwards only.
    ///
    /// # Errors
    /// When a forward it reads was not declared, or a tensor operation fails.
    fn outer(&self, f: &Forwards) -> Result<Terms>;

    /// How its terms read the student's forwards. A method that says [`TermsRead::OneForward`] may be asked for its
    /// loss with zeros in place of forwards that have not run yet.
    fn terms_read(&self) -> TermsRead {
        TermsRead::SeveralForwards
    }
}
