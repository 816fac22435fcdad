//! The order in which gradients flow back through a program.
//!
//! Every value's gradient is completed once, by the last of its readers to give its part: that one
//! adds what is there already and closes the rectifier, all on the way to memory. Where a value is only
//! added to another, both have one gradient and nothing is copied.
//!
//! In train mode a value that a pointwise step makes is not kept for the way back but made again where it is
//! needed: its convolution is kept anyway, for the normalization's sake, so that halves what is kept.

use super::program::{Kind, Mode, Program, Step};
use crate::kernels::pointwise::Curve;

/// A gradient, named after the value that it was first written for.
pub(super) type GradientId = usize;

/// What is added to a part of a gradient before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    Nothing,
    /// What the gradient holds itself.
    Own,
    Other(GradientId),
}

/// Whether a part completes its gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// More is to come, or there is no rectifier.
    No,
    /// The last part of the gradient of a rectified value.
    Rectifier,
}

/// One move of the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// The gradient of a step's target, complete in `from`, goes through the step into the gradient of
    /// its source.
    Through { step: usize, from: GradientId, earlier: Earlier, close: Close },
    /// `into = parts[0] + parts[1]`, or a copy of one.
    Merge { parts: (GradientId, Option<GradientId>), into: GradientId, close: Close },
}

impl Move {
    /// The gradient that is written.
    pub(super) fn target(&self, program: &Program) -> GradientId {
        match *self {
            Self::Through { step, .. } => program.steps[step].source,
            Self::Merge { into, .. } => into,
        }
    }

    /// The gradients that are read, apart from the one written.
    pub(super) fn reads(&self) -> Vec<GradientId> {
        match *self {
            Self::Through { from, earlier: Earlier::Other(other), .. } => vec![from, other],
            Self::Through { from, .. } => vec![from],
            Self::Merge { parts: (a, b), .. } => std::iter::once(a).chain(b).collect(),
        }
    }
}

/// What is done on the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// A step's target is made again.
    Again(usize),
    /// The gradient of a step's weights, given that of its target, from the images that are at hand.
    Weights {
        step: usize,
        from: GradientId,
    },
    Go(Move),
}

impl Act {
    /// The step through whose parameters a gradient goes.
    pub(super) fn through(&self, program: &Program) -> Option<usize> {
        match *self {
            Self::Go(Move::Through { step, .. }) => program.steps[step].kind.has_parameters().then_some(step),
            _ => None,
        }
    }

    /// The value that is read, apart from those that [`Again`](Self::Again) reads: what the step read, or what says
    /// where a rectifier was open.
    pub(super) fn value(&self, program: &Program) -> Option<usize> {
        match *self {
            Self::Again(_) => None,
            Self::Weights { step, .. } => Some(program.steps[step].source),
            Self::Go(Move::Merge { into, close, .. }) => (close == Close::Rectifier).then_some(into),
            Self::Go(Move::Through { step, close, .. }) => {
                let Step { kind, source, .. } = program.steps[step];
                let read = kind.has_parameters() || matches!(kind, Kind::Affine(_, Curve::Silu));
                (read || close == Close::Rectifier).then_some(source)
            }
        }
    }
}

/// The moves, and in train mode between them what is made again, and the gradients of the weights of those steps that
/// are `alongside`.
pub(super) fn acts(program: &Program, alongside: &[bool]) -> Vec<Act> {
    let moves = moves(program).into_iter().map(Act::Go);
    let from = fleeting(program);
    let mut last_use = vec![0; program.values.len()];
    for (i, go) in moves.clone().enumerate() {
        go.value(program).into_iter().for_each(|v| last_use[v] = i);
    }
    let (mut acts, mut there) = (Vec::new(), vec![false; program.values.len()]);
    for (i, go) in moves.enumerate() {
        if let Some(v) = go.value(program) {
            again(program, &from, &there, v, &mut acts);
            there[v] = true;
        }
        if let Act::Go(Move::Through { step, from, .. }) = go
            && alongside[step]
        {
            acts.push(Act::Weights { step, from });
        }
        acts.push(go);
        there.iter_mut().zip(&last_use).filter(|(_, last)| **last == i).for_each(|(there, _)| *there = false);
    }
    acts
}

/// Makes a value again that is not there, from others.
fn again(program: &Program, from: &[Option<usize>], there: &[bool], value: usize, acts: &mut Vec<Act>) {
    let Some(step) = from[value].filter(|_| !there[value]) else { return };
    let Step { source, add, .. } = program.steps[step];
    std::iter::once(source).chain(add).for_each(|v| again(program, from, there, v, acts));
    acts.push(Act::Again(step));
}

/// Most steps that making a value again takes.
const DEEPEST: usize = 2;

/// The step that makes each value again that is not kept for the way back.
pub(super) fn fleeting(program: &Program) -> Vec<Option<usize>> {
    let (mut from, mut depth) = (vec![None; program.values.len()], vec![0; program.values.len()]);
    for (i, step) in program.steps.iter().enumerate().filter(|_| program.mode == Mode::Train) {
        let taken = 1 + step.add.map_or(0, |add| depth[add]) + depth[step.source];
        if matches!(step.kind, Kind::Norm(_) | Kind::Affine(..)) && taken <= DEEPEST {
            (from[step.target], depth[step.target]) = (Some(i), taken);
        }
    }
    from
}

/// The moves that bring the gradient of the logits to the images.
pub(super) fn moves(program: &Program) -> Vec<Move> {
    let n = program.values.len();
    let mut way = Way { program, missing: vec![0; n], parts: vec![Vec::new(); n], moves: Vec::new() };
    for Step { source, add, .. } in &program.steps {
        way.missing[*source] += 1;
        add.iter().for_each(|&a| way.missing[a] += 1);
    }
    way.parts[n - 1] = vec![n - 1];
    for (i, step) in program.steps.iter().enumerate().rev() {
        let from = way.parts[step.target][0]; // complete: all its readers come later
        if let Some(add) = step.add {
            way.alias(add, from);
        }
        way.through(i, from);
    }
    way.moves
}

struct Way<'p> {
    program: &'p Program,
    missing: Vec<usize>,         // parts of each value's gradient still to come
    parts: Vec<Vec<GradientId>>, // that are there and not yet summed
    moves: Vec<Move>,
}

impl Way<'_> {
    /// The gradient `from` is, as it stands, a part of the gradient of `value`.
    fn alias(&mut self, value: usize, from: GradientId) {
        self.missing[value] -= 1;
        self.parts[value].push(from);
        self.merge_down_to(value, 2);
        let complete = self.missing[value] == 0;
        if complete && (self.parts[value].len() == 2 || self.program.values[value].rectified) {
            self.merge(value);
        }
    }

    fn through(&mut self, step: usize, from: GradientId) {
        let value = self.program.steps[step].source;
        self.missing[value] -= 1;
        self.merge_down_to(value, 1);
        let earlier = match self.parts[value].first() {
            None => Earlier::Nothing,
            Some(&own) if own == value => Earlier::Own,
            Some(&other) => Earlier::Other(other),
        };
        let close = self.close(value);
        self.parts[value] = vec![value];
        self.moves.push(Move::Through { step, from, earlier, close });
    }

    fn merge_down_to(&mut self, value: usize, parts: usize) {
        while self.parts[value].len() > parts {
            self.merge(value);
        }
    }

    /// Sums the first two parts of a value's gradient, or copies a single one.
    fn merge(&mut self, value: usize) {
        let parts = &mut self.parts[value];
        let first = (parts[0], parts.get(1).copied());
        parts.drain(..parts.len().min(2));
        parts.insert(0, value);
        let close = if parts.len() == 1 { self.close(value) } else { Close::No };
        self.moves.push(Move::Merge { parts: first, into: value, close });
    }

    fn close(&self, value: usize) -> Close {
        let last = self.missing[value] == 0 && self.program.values[value].rectified;
        if last { Close::Rectifier } else { Close::No }
    }
}
