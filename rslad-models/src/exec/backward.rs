//! The order in which gradients flow back through a program.
//!
//! Every value's gradient is completed once, by the last of its readers to give its part: that one
//! adds what is there already and closes the rectifier, all on the way to memory. Where a value is only
//! added to another, both have one gradient and nothing is copied.

use super::program::{Program, Step};

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
