//! Runs the steps and the moves of a plan on the buffers of some images, with the kernels.

use super::backward::{Close, Earlier, Move};
use super::plan::{Hold, Part, Plan};
use super::program::{Kind, Program, Step};
use super::weights::{Numbers, Weights};
use crate::kernels::conv::{Turn, direct, winograd};
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

    /// Runs some steps forward, as many images at a time as each can keep in the cache.
    pub(super) fn forward(&self, steps: Range<usize>, values: &mut Part<'_>) {
        for (steps, images) in turns(steps, |i| self.plan.strides[i]) {
            for part in &mut values.parts(self.plan, images) {
                for i in steps.clone() {
                    let slot = self.plan.slot(part.hold, self.program.steps[i].target);
                    let target = take(&mut part.slots[slot]);
                    self.step(i, part, target);
                    part.slots[slot] = target;
                }
            }
        }
    }

    /// The logits, `[n, K]`.
    pub(super) fn logits(&self, values: &Part<'_>, out: &mut [f32]) {
        let last = self.program.values.len() - 1;
        self.plan.layouts[last].export(values.tensor(self.plan, last), out);
    }

    /// Writes the gradient of the logits, `[n, K]`, where the first move reads it.
    pub(super) fn import_gradient(&self, dlogits: &[f32], gradients: &mut Part<'_>) {
        let last = self.program.values.len() - 1;
        let slot = self.plan.slot(Hold::Gradients, last);
        self.plan.layouts[last].import(dlogits, gradients.slots[slot]);
    }

    /// Runs some moves of the way back, as many images at a time as each can keep in the cache.
    pub(super) fn back(&self, moves: &[Move], values: &mut Part<'_>, gradients: &mut Part<'_>) {
        let images = |i: usize| match moves[i] {
            Move::Through { step, .. } => self.plan.strides[step],
            Move::Merge { .. } => usize::MAX,
        };
        for (moves_now, images) in turns(0..moves.len(), images) {
            let images = images.min(values.images);
            let parts = values.parts(self.plan, images).into_iter().zip(gradients.parts(self.plan, images));
            for (values, mut gradients) in parts {
                moves[moves_now.clone()].iter().for_each(|go| self.go(go, &values, &mut gradients));
            }
        }
    }

    fn go(&self, go: &Move, values: &Part<'_>, gradients: &mut Part<'_>) {
        let slot = self.plan.slot(Hold::Gradients, go.target(self.program));
        let target = take(&mut gradients.slots[slot]);
        match *go {
            Move::Through { step, from, earlier, close } => {
                self.through(step, from, [values, gradients], target, (earlier, close));
            }
            Move::Merge { parts, into, close } => {
                self.merge(parts, into, [values, gradients], target, close);
            }
        }
        gradients.slots[slot] = target;
    }
    /// The gradient of the images, `[n, C, H, W]`.
    pub(super) fn export_gradient(&self, gradients: &Part<'_>, out: &mut [f32]) {
        self.plan.layouts[0].export(gradients.tensor(self.plan, 0), out);
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
                affine(self.isa, from, n, source, by, target, &end(None));
            }
            (Kind::Norm(_), ..) => {
                let BatchFactors { scale, shift, .. } = self.factors(i);
                let by = Affine { scale, shift, curve: Curve::Identity };
                affine(self.isa, from, n, source, by, target, &end(None));
            }
            (Kind::Mean, ..) => pool::mean(n, from, source, to, target),
            (kind, ..) => unreachable!("the weights of {kind:?} are its own"),
        }
    }

    fn through(
        &self,
        i: usize,
        from: usize,
        [values, gradients]: [&Part<'_>; 2],
        target: &mut [f32],
        (earlier, close): (Earlier, Close),
    ) {
        let (step, n) = (&self.program.steps[i], values.images);
        let add = match earlier {
            Earlier::Nothing => Add::Nothing,
            Earlier::Own => Add::Destination,
            Earlier::Other(g) => Add::Tensor(gradients.tensor(self.plan, g)),
        };
        let (source, dy) = (values.tensor(self.plan, step.source), gradients.tensor(self.plan, from));
        let end = Epilogue { bias: None, add, rectify: rectify(close, source) };
        let [layout, output] = self.ends(step);
        let sweeps = &self.plan.sweeps[i].backward;
        match (step.kind, &self.weights.steps[i]) {
            (Kind::Conv(_), Numbers::Conv { backward, .. })
                if let Some(tiles) = &self.plan.sweeps[i].tiles[1] =>
            {
                winograd(self.isa, tiles, (&backward[0], Turn::Half), n, dy, target, &end);
            }
            (Kind::Conv(_), Numbers::Conv { backward, .. }) => {
                for (sweep, panels) in sweeps.iter().zip(backward) {
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
                affine(self.isa, layout, n, dy, by, target, &end);
            }
            (Kind::Norm(_), _) => {
                let BatchFactors { scale, backward: [slope, shift], .. } = self.factors(i);
                combine(self.isa, layout, n, [source, dy], [slope, scale, shift], target, &end);
            }
            (Kind::Mean, _) => pool::mean_backward(n, output, dy, layout, target, &end),
            (kind, _) => unreachable!("the weights of {kind:?} are its own"),
        }
    }

    fn merge(
        &self,
        (a, b): (usize, Option<usize>),
        into: usize,
        [values, gradients]: [&Part<'_>; 2],
        target: &mut [f32],
        close: Close,
    ) {
        let gradient = |g: usize| gradients.tensor(self.plan, g);
        let (source, add) = match (a, b) {
            (a, None) => (gradient(a), Add::Nothing),
            (a, Some(b)) if a == into => (gradient(b), Add::Destination),
            (a, Some(b)) if b == into => (gradient(a), Add::Destination),
            (a, Some(b)) => (gradient(a), Add::Tensor(gradient(b))),
        };
        let end = Epilogue { bias: None, add, rectify: rectify(close, values.tensor(self.plan, into)) };
        let layout = &self.plan.layouts[into];
        let (ones, zeros) = (vec![1.0; layout.stride()], vec![0.0; layout.stride()]);
        let by = Affine { scale: &ones, shift: &zeros, curve: Curve::Identity };
        affine(self.isa, layout, values.images, source, by, target, &end);
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
