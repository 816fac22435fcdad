//! Runs the steps and the moves of a plan on the buffers of some images, with the kernels.

use super::backward::{Act, Close, Earlier, GradientId, Move};
use super::plan::{Part, Plan, of_act, of_step};
use super::program::{Kind, Program, Step};
use super::weights::{Numbers, Weights};
use crate::kernels::conv::{Panels, Turn, direct, winograd};
use crate::kernels::depthwise::depthwise;
use crate::kernels::pointwise::{Affine, Curve, affine, combine, silu_backward};
use crate::kernels::{Add, Epilogue, Isa, Layout, Rectify, pool};
use std::mem::take;
use std::ops::Range;

/// A program with everything that running it needs.
#[derive(Clone, Copy)]
pub(super) struct Runner<'a> {
    pub(super) isa: Isa,
    pub(super) program: &'a Program,
    pub(super) plan: &'a Plan,
    pub(super) weights: &'a Weights,
    /// At hand for the moves that are made.
    pub(super) backward: &'a [Vec<Panels>],
    /// Of each step that normalizes by a batch, once the batch has been seen.
    pub(super) batch: &'a [Option<BatchFactors>],
}

/// A batch normalization as it acts on every pixel, one number per stored channel each.
#[derive(Clone, Debug)]
pub(super) struct BatchFactors {
    pub(super) mean: Vec<f32>,
    /// `1 / sqrt(variance + eps)`.
    pub(super) inverse: Vec<f32>,
    /// Forward: `scale * x + shift`.
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    /// Backward: `scale * gradient + backward[0] * x + backward[1]`.
    pub(super) backward: [Vec<f32>; 2],
}

impl BatchFactors {
    pub(super) fn zeros(stride: usize) -> Self {
        let zeros = || vec![0.0; stride];
        let backward = [zeros(), zeros()];
        Self { mean: zeros(), inverse: zeros(), scale: zeros(), shift: zeros(), backward }
    }
}

impl Runner<'_> {
    /// Writes `[n, C, H, W]` images where the first step reads them.
    pub(super) fn import(&self, images: &[f32], values: &mut Part<'_>) {
        self.plan.layouts[0].import(images, values.slots[self.plan.slot(values.hold, 0)]);
    }

    /// Runs some steps forward, as many images at a time as each can keep in the cache. `then` sees all images in order
    /// after that, while they still are in the cache.
    pub(super) fn forward(&self, steps: Range<usize>, part: &mut Part<'_>, then: impl FnMut(&Part<'_>)) {
        let turns = turns(steps, |i| self.plan.strides[i]);
        self.take_turns(&turns, of_step, part, |i, part| self.advance(i, part), then);
    }

    fn advance(&self, i: usize, part: &mut Part<'_>) {
        let slot = self.plan.slot(part.hold, self.program.steps[i].target);
        let target = take(&mut part.slots[slot]);
        self.step(i, part, target);
        part.slots[slot] = target;
    }

    /// The logits, `[n, K]`.
    pub(super) fn logits(&self, values: &Part<'_>, out: &mut [f32]) {
        let last = self.program.values.len() - 1;
        self.plan.layouts[last].export(values.tensor(self.plan, last), out);
    }

    /// Writes the gradient of the logits, `[n, K]`, where the first move reads it.
    pub(super) fn import_gradient(&self, dlogits: &[f32], part: &mut Part<'_>) {
        let last = self.program.values.len() - 1;
        let slot = self.plan.slot(part.hold, self.plan.gradient(last));
        self.plan.layouts[last].import(dlogits, part.slots[slot]);
    }

    /// Takes some of the acts of the way back, as many images at a time as each can keep in the cache; `weights` does those
    /// that are gradients of a step's weights, `then` is as in [`forward`](Self::forward).
    pub(super) fn back(
        &self,
        acts: &[usize],
        part: &mut Part<'_>,
        mut weights: impl FnMut(usize, GradientId, &Part<'_>),
        then: impl FnMut(&Part<'_>),
    ) {
        let (images, act) = (part.images, |i: usize| &self.plan.acts[acts[i]]);
        let turns = turns(0..acts.len(), |i| match *act(i) {
            Act::Go(Move::Through { step, .. }) | Act::Again(step) | Act::Weights { step, .. } => {
                self.plan.strides[step]
            }
            Act::Go(Move::Merge { .. }) => images,
        });
        let take = |i: usize, part: &mut Part<'_>| match act(i) {
            Act::Again(step) => self.advance(*step, part),
            Act::Weights { step, from } => weights(*step, *from, part),
            Act::Go(go) => self.go(go, part),
        };
        self.take_turns(&turns, |i| of_act(self.program, acts[i]), part, take, then);
    }

    /// Goes through turns, in the last one over all images in order, and `then` as soon as it is over for them.
    fn take_turns(
        &self,
        turns: &[(Range<usize>, usize)],
        moment: impl Fn(usize) -> usize,
        part: &mut Part<'_>,
        mut go: impl FnMut(usize, &mut Part<'_>),
        mut then: impl FnMut(&Part<'_>),
    ) {
        if turns.is_empty() {
            then(part);
        }
        for (i, (items, images)) in turns.iter().enumerate() {
            let moments = [moment(items.start), moment(items.end - 1)];
            for first in (0..part.images).step_by(*images) {
                let mut some = part.only(self.plan, first, *images, moments);
                items.clone().for_each(|i| go(i, &mut some));
                if i + 1 == turns.len() {
                    then(&some);
                }
            }
        }
    }

    fn go(&self, go: &Move, part: &mut Part<'_>) {
        let slot = self.plan.slot(part.hold, self.plan.gradient(go.target(self.program)));
        let target = take(&mut part.slots[slot]);
        match *go {
            Move::Through { step, from, earlier, close } => {
                self.through(step, from, part, target, (earlier, close));
            }
            Move::Merge { parts, into, close } => self.merge(parts, into, part, target, close),
        }
        part.slots[slot] = target;
    }

    /// The gradient of the images, `[n, C, H, W]`.
    pub(super) fn export_gradient(&self, part: &Part<'_>, out: &mut [f32]) {
        self.plan.layouts[0].export(self.gradient(part, 0), out);
    }

    fn gradient<'p>(&self, part: &'p Part<'_>, of: GradientId) -> &'p [f32] {
        part.tensor(self.plan, self.plan.gradient(of))
    }

    fn step(&self, i: usize, values: &Part<'_>, target: &mut [f32]) {
        let (step, n) = (&self.program.steps[i], values.images);
        let source = values.tensor(self.plan, step.source);
        let add = step.add.map_or(Add::Nothing, |v| Add::Tensor(values.tensor(self.plan, v)));
        let rectify = if self.program.values[step.target].rectified { Rectify::Forward } else { Rectify::No };
        let end = |bias| Epilogue { bias, add, rectify };
        let [from, to] = self.ends(step);
        let sweeps = &self.plan.sweeps[i];
        match (step.kind, &self.weights.steps[i], &sweeps.forward) {
            (Kind::Conv(_), Numbers::Conv { forward, bias, .. }, _) if let Some(tiles) = &sweeps.tiles[0] => {
                let weights = (forward, Turn::None);
                winograd(self.isa, tiles, weights, n, source, target, &end(bias.as_deref()));
            }
            (Kind::Conv(_), Numbers::Conv { forward, bias, .. }, Some(sweep)) => {
                direct(self.isa, sweep, forward, n, source, target, &end(bias.as_deref()));
            }
            (Kind::Depthwise(_), Numbers::Depthwise { forward, bias, .. }, Some(sweep)) => {
                depthwise(self.isa, sweep, forward, n, source, target, &end(bias.as_deref()));
            }
            (Kind::Affine(_, curve), Numbers::Affine { scale, shift }, _) => {
                let by = Affine { scale, shift, curve };
                affine(self.isa, [from, to], n, source, by, target, &end(None));
            }
            (Kind::Norm(_), ..) => {
                let BatchFactors { scale, shift, .. } = self.factors(i);
                let by = Affine { scale, shift, curve: Curve::Identity };
                affine(self.isa, [from, to], n, source, by, target, &end(None));
            }
            (Kind::Mean, ..) => pool::mean(n, from, source, to, target),
            (kind, ..) => unreachable!("the weights of {kind:?} are its own"),
        }
    }

    fn through(
        &self,
        i: usize,
        from: GradientId,
        part: &Part<'_>,
        target: &mut [f32],
        (earlier, close): (Earlier, Close),
    ) {
        let (step, n) = (&self.program.steps[i], part.images);
        let add = match earlier {
            Earlier::Nothing => Add::Nothing,
            Earlier::Own => Add::Destination,
            Earlier::Other(g) => Add::Tensor(self.gradient(part, g)),
        };
        let (source, dy) = (part.tensor(self.plan, step.source), self.gradient(part, from));
        let end = Epilogue { bias: None, add, rectify: rectify(close, source) };
        let [layout, output] = [&self.plan.gradients[step.source], &self.plan.gradients[step.target]];
        let sweeps = &self.plan.sweeps[i].backward;
        match (step.kind, &self.weights.steps[i]) {
            (Kind::Conv(_), _) if let Some(tiles) = &self.plan.sweeps[i].tiles[1] => {
                winograd(self.isa, tiles, (&self.backward[i][0], Turn::Half), n, dy, target, &end);
            }
            (Kind::Conv(_), _) => {
                for (sweep, panels) in sweeps.iter().zip(&self.backward[i]) {
                    direct(self.isa, sweep, panels, n, dy, target, &end);
                }
            }
            (Kind::Depthwise(_), Numbers::Depthwise { backward, .. }) => {
                for (sweep, weights) in sweeps.iter().zip(backward) {
                    depthwise(self.isa, sweep, weights, n, dy, target, &end);
                }
            }
            (Kind::Affine(_, Curve::Silu), Numbers::Affine { scale, shift }) => {
                let by = Affine { scale, shift, curve: Curve::Silu };
                silu_backward(self.isa, layout, n, [source, dy], by, target, &end);
            }
            (Kind::Affine(_, Curve::Identity), Numbers::Affine { scale, .. }) => {
                let by = Affine { scale, shift: &vec![0.0; scale.len()], curve: Curve::Identity };
                affine(self.isa, [layout; 2], n, dy, by, target, &end);
            }
            (Kind::Norm(_), _) => {
                let BatchFactors { scale, backward: [slope, shift], .. } = self.factors(i);
                let layouts = [&self.plan.layouts[step.source], layout];
                combine(self.isa, layouts, n, [source, dy], [slope, scale, shift], target, &end);
            }
            (Kind::Mean, _) => pool::mean_backward(n, output, dy, layout, target, &end),
            (kind, _) => unreachable!("the weights of {kind:?} are its own"),
        }
    }

    fn merge(
        &self,
        (a, b): (GradientId, Option<GradientId>),
        into: GradientId,
        part: &Part<'_>,
        target: &mut [f32],
        close: Close,
    ) {
        let gradient = |g: GradientId| self.gradient(part, g);
        let (source, add) = match (a, b) {
            (a, None) => (gradient(a), Add::Nothing),
            (a, Some(b)) if a == into => (gradient(b), Add::Destination),
            (a, Some(b)) if b == into => (gradient(a), Add::Destination),
            (a, Some(b)) => (gradient(a), Add::Tensor(gradient(b))),
        };
        let end = Epilogue { bias: None, add, rectify: rectify(close, part.tensor(self.plan, into)) };
        let layout = &self.plan.gradients[into];
        let (ones, zeros) = (vec![1.0; layout.stride()], vec![0.0; layout.stride()]);
        let by = Affine { scale: &ones, shift: &zeros, curve: Curve::Identity };
        affine(self.isa, [layout; 2], part.images, source, by, target, &end);
    }

    fn ends(&self, step: &Step) -> [&Layout; 2] {
        [&self.plan.layouts[step.source], &self.plan.layouts[step.target]]
    }

    pub(super) fn factors(&self, step: usize) -> &BatchFactors {
        self.batch[step].as_ref().expect("a normalization runs after its batch was seen")
    }
}

/// Runs of neighbors that take the same number of images at a time.
fn turns(items: Range<usize>, images: impl Fn(usize) -> usize) -> Vec<(Range<usize>, usize)> {
    let mut turns: Vec<(Range<usize>, usize)> = Vec::new();
    for i in items {
        match turns.last_mut() {
            Some((range, n)) if *n == images(i) => range.end = i + 1,
            _ => turns.push((i..i + 1, images(i))),
        }
    }
    turns
}

fn rectify(close: Close, gate: &[f32]) -> Rectify<'_> {
    match close {
        Close::No => Rectify::No,
        Close::Rectifier => Rectify::Backward(gate),
    }
}
