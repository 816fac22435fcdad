//! Runs the steps and the moves of a plan on the buffers of some images, with the kernels.

use super::backward::{Close, Earlier, Move};
use super::plan::{Buffers, Hold, Plan};
use super::program::{Kind, Program, Step};
use super::weights::{Numbers, Weights};
use crate::kernels::conv::{direct, winograd};
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
    pub(super) fn import(&self, images: &[f32], values: &mut Buffers) {
        self.plan.layouts[0].import(images, &mut values.slots[self.plan.slot(values.hold, 0)]);
    }

    /// Runs some steps forward.
    pub(super) fn forward(&self, steps: Range<usize>, images: usize, values: &mut Buffers) {
        for i in steps {
            let slot = self.plan.slot(values.hold, self.program.steps[i].target);
            let mut target = take(&mut values.slots[slot]);
            self.step(i, images, values, &mut target);
            values.slots[slot] = target;
        }
    }

    /// The logits, `[n, K]`.
    pub(super) fn logits(&self, values: &Buffers, out: &mut [f32]) {
        let last = self.program.values.len() - 1;
        self.plan.layouts[last].export(self.tensor(values, last), out);
    }

    /// Writes the gradient of the logits, `[n, K]`, where the first move reads it.
    pub(super) fn import_gradient(&self, dlogits: &[f32], gradients: &mut Buffers) {
        let last = self.program.values.len() - 1;
        let slot = self.plan.slot(Hold::Gradients, last);
        self.plan.layouts[last].import(dlogits, &mut gradients.slots[slot]);
    }

    /// Runs one move of the way back.
    pub(super) fn back(&self, go: &Move, images: usize, values: &Buffers, gradients: &mut Buffers) {
        let slot = self.plan.slot(Hold::Gradients, go.target(self.program));
        let mut target = take(&mut gradients.slots[slot]);
        match *go {
            Move::Through { step, from, earlier, close } => {
                self.through(step, from, [values, gradients], images, &mut target, (earlier, close));
            }
            Move::Merge { parts, into, close } => {
                self.merge(parts, into, [values, gradients], images, &mut target, close);
            }
        }
        gradients.slots[slot] = target;
    }

    /// The gradient of the images, `[n, C, H, W]`.
    pub(super) fn export_gradient(&self, gradients: &Buffers, out: &mut [f32]) {
        self.plan.layouts[0].export(self.tensor(gradients, 0), out);
    }

    /// A value or a gradient.
    pub(super) fn tensor<'b>(&self, buffers: &'b Buffers, i: usize) -> &'b [f32] {
        &buffers.slots[self.plan.slot(buffers.hold, i)]
    }

    fn step(&self, i: usize, n: usize, values: &Buffers, target: &mut [f32]) {
        let step = &self.program.steps[i];
        let source = self.tensor(values, step.source);
        let add = step.add.map_or(Add::Nothing, |v| Add::Tensor(self.tensor(values, v)));
        let rectify = if self.program.values[step.target].rectified { Rectify::Forward } else { Rectify::No };
        let end = |bias| Epilogue { bias, add, rectify };
        let [from, to] = self.ends(step);
        let sweeps = &self.plan.sweeps[i];
        match (step.kind, &self.weights.steps[i], &sweeps.forward) {
            (Kind::Conv(_), Numbers::Conv { winograd: Some([panels, _]), bias, .. }, _)
                if let Some(tiles) = &sweeps.tiles[0] =>
            {
                winograd(self.isa, tiles, panels, n, source, target, &end(bias.as_deref()));
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
        [values, gradients]: [&Buffers; 2],
        n: usize,
        target: &mut [f32],
        (earlier, close): (Earlier, Close),
    ) {
        let step = &self.program.steps[i];
        let add = match earlier {
            Earlier::Nothing => Add::Nothing,
            Earlier::Own => Add::Destination,
            Earlier::Other(g) => Add::Tensor(self.tensor(gradients, g)),
        };
        let (source, dy) = (self.tensor(values, step.source), self.tensor(gradients, from));
        let end = Epilogue { bias: None, add, rectify: rectify(close, source) };
        let [layout, output] = self.ends(step);
        let sweeps = &self.plan.sweeps[i].backward;
        match (step.kind, &self.weights.steps[i]) {
            (Kind::Conv(_), Numbers::Conv { winograd: Some([_, panels]), .. })
                if let Some(tiles) = &self.plan.sweeps[i].tiles[1] =>
            {
                winograd(self.isa, tiles, panels, n, dy, target, &end);
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
        [values, gradients]: [&Buffers; 2],
        n: usize,
        target: &mut [f32],
        close: Close,
    ) {
        let gradient = |g: usize| self.tensor(gradients, g);
        let (source, add) = match (a, b) {
            (a, None) => (gradient(a), Add::Nothing),
            (a, Some(b)) if a == into => (gradient(b), Add::Destination),
            (a, Some(b)) if b == into => (gradient(a), Add::Destination),
            (a, Some(b)) => (gradient(a), Add::Tensor(gradient(b))),
        };
        let end = Epilogue { bias: None, add, rectify: rectify(close, self.tensor(values, into)) };
        let layout = &self.plan.layouts[into];
        let (ones, zeros) = (vec![1.0; layout.stride()], vec![0.0; layout.stride()]);
        let by = Affine { scale: &ones, shift: &zeros, curve: Curve::Identity };
        affine(self.isa, layout, n, source, by, target, &end);
    }

    fn ends(&self, step: &Step) -> [&Layout; 2] {
        [&self.plan.layouts[step.source], &self.plan.layouts[step.target]]
    }

    pub(super) fn factors(&self, step: usize) -> &BatchFactors {
        self.batch[step].as_ref().expect("a normalization runs after its batch was seen")
    }
}

fn rectify(close: Close, gate: &[f32]) -> Rectify<'_> {
    match close {
        Close::No => Rectify::No,
        Close::Rectifier => Rectify::Backward(gate),
    }
}
