//! Eval mode on the device: batch normalization is in the weights, a way back for each objective.

use super::Eval;
use super::launch::Launch;
use super::ops::Ops;
use super::shape::{End, Norm, NormBack, Rectify};
use super::weights::{Numbers, Shapes, numbers};
use crate::classifier::{Gradient, Objective};
use crate::error::Result;
use crate::exec::backward::{self, Close, Earlier, GradientId, Move};
use crate::exec::program::{Kind, Mode, Program};
use crate::graph::Graph;
use crate::kernels::pointwise::Curve;
use candle_core::Tensor;
use std::fmt;
use std::sync::Arc;

/// A network in eval mode.
pub(super) struct Frozen<L: Launch> {
    ops: Ops<L>,
    graph: Arc<Graph>,
    program: Program,
    moves: Vec<Move>,
    numbers: Vec<Numbers<L::Memory>>,
}

impl<L: Launch> Frozen<L> {
    /// `params` are on the device, in the order of the graph's entries; nothing when an op has no kernel.
    pub(super) fn lowered(launch: L, graph: Arc<Graph>, params: &[Tensor]) -> Result<Option<Arc<dyn Eval>>> {
        let Some(program) = Program::lower(&graph, Mode::Eval) else { return Ok(None) };
        let ops = Ops(launch);
        let numbers = numbers(&ops, &graph, &program, params)?;
        Ok(Some(Arc::new(Self { ops, moves: backward::moves(&program), graph, program, numbers })))
    }

    fn run<'a>(&'a self, shapes: &'a Shapes) -> Run<'a, L> {
        Run { ops: &self.ops, program: &self.program, numbers: &self.numbers, norms: &[], shapes }
    }
}

impl<L: Launch> fmt::Debug for Frozen<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("program", &self.program).finish_non_exhaustive()
    }
}

impl<L: Launch> Eval for Frozen<L> {
    fn with(&self, params: &[Tensor]) -> Result<Arc<dyn Eval>> {
        let Self { ops, graph, program, moves, .. } = self;
        let numbers = numbers(ops, graph, program, params)?;
        let (ops, graph) = (ops.clone(), Arc::clone(graph));
        Ok(Arc::new(Self { ops, graph, program: program.clone(), moves: moves.clone(), numbers }))
    }

    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let shapes = shapes(&self.graph, &self.program, x)?;
        let run = self.run(&shapes);
        let mut values = run.forward(x, Keep::WhatIsRead)?;
        run.logits(&mut values)
    }

    fn gradients(
        &self,
        x: &Tensor,
        objectives: &[&dyn Objective],
        bring: &dyn Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Vec<Gradient>> {
        let shapes = shapes(&self.graph, &self.program, x)?;
        let run = self.run(&shapes);
        let mut values = run.forward(x, Keep::All)?;
        let own = run.logits(&mut values)?;
        let logits = bring(&own)?;
        let rows: Vec<u32> = (0..x.dim(0)? as u32).collect();
        let answer = |objective: &&dyn Objective| {
            let (loss, dlogits) = objective.value_and_grad(&rows, &logits)?;
            let dlogits = dlogits.to_dtype(own.dtype())?.to_device(own.device())?;
            let mut back = run.back(&self.moves, &dlogits)?;
            for go in &self.moves {
                back.go(&run, &values, go, None)?;
            }
            Ok(Gradient { logits: logits.clone(), loss, dx: bring(&back.images(&run, x.dims())?)? })
        };
        objectives.iter().map(answer).collect()
    }
}

pub(super) fn shapes(graph: &Graph, program: &Program, x: &Tensor) -> Result<Shapes> {
    let (n, _, h, w) = x.dims4()?;
    Shapes::new(graph, program, [n, h, w])
}

/// Which values a forward keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// All of them, for a way back.
    All,
    /// Each until its last reader has run.
    WhatIsRead,
}

/// A program with everything that running it needs.
pub(super) struct Run<'a, L: Launch> {
    pub(super) ops: &'a Ops<L>,
    pub(super) program: &'a Program,
    pub(super) numbers: &'a [Numbers<L::Memory>],
    /// Of each step that normalizes by a batch, once it has run.
    pub(super) norms: &'a [Option<Norm<L::Memory>>],
    pub(super) shapes: &'a Shapes,
}

/// The values of a program, or none where one is not there yet or any more.
pub(super) type Values<M> = Vec<Option<M>>;

pub(super) fn there<M>(values: &[Option<M>], i: usize) -> &M {
    values[i].as_ref().expect("what is read was written and is kept until its last reader")
}

impl<L: Launch> Run<'_, L> {
    pub(super) fn begin(&self, x: &Tensor) -> Result<Values<L::Memory>> {
        let mut values: Values<L::Memory> = self.program.values.iter().map(|_| None).collect();
        values[0] = Some(self.ops.import(x, self.shapes.of(0))?);
        Ok(values)
    }

    fn forward(&self, x: &Tensor, keep: Keep) -> Result<Values<L::Memory>> {
        let mut values = self.begin(x)?;
        for i in 0..self.program.steps.len() {
            values[self.program.steps[i].target] = Some(self.step(i, &values)?);
            self.forget(i, &mut values, keep);
        }
        Ok(values)
    }

    /// Drops what step `i` was the last to read.
    pub(super) fn forget(&self, i: usize, values: &mut Values<L::Memory>, keep: Keep) {
        if keep == Keep::All {
            return;
        }
        let step = self.program.steps[i];
        for read in std::iter::once(step.source).chain(step.add) {
            let later = self.program.steps[i + 1..].iter();
            if !later.into_iter().any(|step| step.source == read || step.add == Some(read)) {
                values[read] = None;
            }
        }
    }

    pub(super) fn step(&self, i: usize, values: &[Option<L::Memory>]) -> Result<L::Memory> {
        let step = self.program.steps[i];
        let source = there(values, step.source);
        let rectified = self.program.values[step.target].rectified;
        let end = End {
            add: step.add.map(|add| there(values, add)),
            rectify: if rectified { Rectify::Forward } else { Rectify::No },
        };
        let (from, to) = (self.shapes.of(step.source), self.shapes.of(step.target));
        match (step.kind, &self.numbers[i]) {
            (Kind::Conv(conv), Numbers::Conv { weight, bias }) => {
                self.ops.conv(&self.shapes.geometry(&step, &conv), [source, weight], bias.as_ref(), end)
            }
            (Kind::Depthwise(conv), Numbers::Conv { weight, bias }) => {
                self.ops.depthwise(&self.shapes.geometry(&step, &conv), [source, weight], bias.as_ref(), end)
            }
            (Kind::Affine(_, curve), Numbers::Affine { scale, shift }) => {
                self.ops.affine(to, source, [scale.as_ref(), shift.as_ref()], curve, end)
            }
            (Kind::Norm(_), _) => {
                let norm = there(self.norms, i);
                self.ops.affine(to, source, [Some(&norm.scale), Some(&norm.shift)], Curve::Identity, end)
            }
            (Kind::Mean, _) => self.ops.mean(from, source),
            (kind, _) => unreachable!("the numbers of {kind:?} are its own"),
        }
    }

    /// The last value, as `[N, K]`.
    pub(super) fn logits(&self, values: &mut Values<L::Memory>) -> Result<Tensor> {
        let dims = self.shapes.of(self.program.values.len() - 1);
        let last = values.last_mut().and_then(Option::take).expect("the last step writes the logits");
        self.ops.export(last, dims, &[dims.images, dims.channels])
    }

    /// The way back from a gradient of the logits, before its first move.
    pub(super) fn back(&self, moves: &[Move], dlogits: &Tensor) -> Result<Back<L::Memory>> {
        let last = self.program.values.len() - 1;
        let mut gradients: Values<L::Memory> = self.program.values.iter().map(|_| None).collect();
        gradients[last] = Some(self.ops.import(&dlogits.contiguous()?, self.shapes.of(last))?);
        Ok(Back { gradients, done: 0, readers: last_readers(self.program, moves) })
    }
}

/// Gradients on their way to the images.
pub(super) struct Back<M> {
    pub(super) gradients: Values<M>,
    done: usize,
    /// Of each gradient, the last move that reads it.
    readers: Vec<Option<usize>>,
}

fn last_readers(program: &Program, moves: &[Move]) -> Vec<Option<usize>> {
    let mut readers = vec![None; program.values.len()];
    for (i, go) in moves.iter().enumerate() {
        go.reads().into_iter().for_each(|gradient| readers[gradient] = Some(i));
    }
    readers
}

impl<M> Back<M> {
    /// Makes the next move, and drops the gradients that nobody reads any more.
    /// One through a normalization by the batch needs `norm`.
    pub(super) fn go<L: Launch<Memory = M>>(
        &mut self,
        run: &Run<'_, L>,
        values: &[Option<M>],
        go: &Move,
        norm: Option<&NormBack<M>>,
    ) -> Result<()> {
        let target = go.target(run.program);
        self.gradients[target] = Some(self.moved(run, values, go, norm)?);
        self.skip(go);
        Ok(())
    }

    /// Passes over a move whose gradient nobody waits for.
    pub(super) fn skip(&mut self, go: &Move) {
        for read in go.reads() {
            if self.readers[read] == Some(self.done) && read != self.last_written(go) {
                self.gradients[read] = None;
            }
        }
        self.done += 1;
    }

    /// A merge may read the gradient that it writes.
    fn last_written(&self, go: &Move) -> GradientId {
        match *go {
            Move::Merge { into, .. } => into,
            Move::Through { .. } => usize::MAX,
        }
    }

    fn moved<L: Launch<Memory = M>>(
        &self,
        run: &Run<'_, L>,
        values: &[Option<M>],
        go: &Move,
        norm: Option<&NormBack<M>>,
    ) -> Result<M> {
        match *go {
            Move::Through { step, from, earlier, close } => {
                let source = run.program.steps[step].source;
                let add = match earlier {
                    Earlier::Nothing => None,
                    Earlier::Own => Some(there(&self.gradients, source)),
                    Earlier::Other(other) => Some(there(&self.gradients, other)),
                };
                let end = End { add, rectify: gate(close, values, source) };
                through(run, values, step, (there(&self.gradients, from), norm), end)
            }
            Move::Merge { parts: (a, b), into, close } => {
                let add = b.map(|b| there(&self.gradients, b));
                let end = End { add, rectify: gate(close, values, into) };
                run.ops.merge(run.shapes.of(into), there(&self.gradients, a), end)
            }
        }
    }

    /// The gradient of the images.
    pub(super) fn images<L: Launch<Memory = M>>(
        mut self,
        run: &Run<'_, L>,
        shape: &[usize],
    ) -> Result<Tensor> {
        let dx = self.gradients[0].take().expect("the last move reaches the images");
        run.ops.export(dx, run.shapes.of(0), shape)
    }
}

fn gate<M>(close: Close, values: &[Option<M>], value: usize) -> Rectify<'_, M> {
    match close {
        Close::No => Rectify::No,
        Close::Rectifier => Rectify::Backward(there(values, value)),
    }
}

fn through<L: Launch>(
    run: &Run<'_, L>,
    values: &[Option<L::Memory>],
    i: usize,
    (g, norm): (&L::Memory, Option<&NormBack<L::Memory>>),
    end: End<'_, L::Memory>,
) -> Result<L::Memory> {
    let step = run.program.steps[i];
    let from = run.shapes.of(step.source);
    match (step.kind, &run.numbers[i]) {
        (Kind::Conv(conv), Numbers::Conv { weight, .. }) => {
            run.ops.conv_back(&run.shapes.geometry(&step, &conv), [g, weight], end)
        }
        (Kind::Depthwise(conv), Numbers::Conv { weight, .. }) => {
            run.ops.depthwise_back(&run.shapes.geometry(&step, &conv), [g, weight], end)
        }
        (Kind::Affine(_, Curve::Silu), Numbers::Affine { scale, shift }) => {
            let x = there(values, step.source);
            run.ops.swish_back(from, [x, g], [scale.as_ref(), shift.as_ref()], end)
        }
        (Kind::Affine(_, Curve::Identity), Numbers::Affine { scale, .. }) => {
            run.ops.affine(from, g, [scale.as_ref(), None], Curve::Identity, end)
        }
        (Kind::Norm(_), _) => {
            let NormBack { slope, shift, .. } =
                norm.expect("the sums of a normalization come before its move");
            let scale = &there(run.norms, i).scale;
            run.ops.combine(from, [there(values, step.source), g], [slope, scale, shift], end)
        }
        (Kind::Mean, _) => run.ops.mean_back(from, g, end),
        (kind, _) => unreachable!("the numbers of {kind:?} are its own"),
    }
}
