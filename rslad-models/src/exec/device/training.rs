//! Train mode on the device: statistics of the batch on the way forward, gradients of parameters or of images on
//! the way back.

use super::frozen::{Back, Keep, Run, Values, shapes, there};
use super::launch::Launch;
use super::ops::Ops;
use super::shape::{Norm, NormBack};
use super::weights::{Numbers, Shapes, numbers, weight_dims};
use super::{Train, WayBack};
use crate::error::Result;
use crate::exec::backward::{self, GradientId, Move};
use crate::exec::batch::below_parameters;
use crate::exec::program::{Conv, Kind, Mode, Program, Step};
use crate::exec::reference::{self, Seen};
use crate::graph::Graph;
use candle_core::Tensor;
use std::sync::Arc;

/// A network in train mode.
struct Training<L: Launch>(Arc<Machine<L>>);

/// What does not change from batch to batch.
struct Machine<L: Launch> {
    ops: Ops<L>,
    graph: Arc<Graph>,
    program: Program,
    moves: Vec<Move>,
    /// The values whose gradient some parameter waits for.
    needed: Vec<bool>,
}

/// A batch on its way: its forward has run.
struct Pass<L: Launch> {
    machine: Arc<Machine<L>>,
    numbers: Vec<Numbers<L::Memory>>,
    norms: Vec<Option<Norm<L::Memory>>>,
    values: Values<L::Memory>,
    shapes: Shapes,
}

/// Gradients of entries of the state dict.
type EntryGradients = Vec<(usize, Tensor)>;

/// Nothing when an op has no kernel.
pub(super) fn new<L: Launch>(launch: L, graph: Arc<Graph>) -> Option<Box<dyn Train>> {
    let program = Program::lower(&graph, Mode::Train)?;
    let (moves, needed) = (backward::moves(&program), below_parameters(&program));
    Some(Box::new(Training(Arc::new(Machine { ops: Ops(launch), graph, program, moves, needed }))))
}

impl<L: Launch> Train for Training<L> {
    fn forward(&self, params: &[Tensor], x: &Tensor) -> Result<(Box<dyn WayBack>, Tensor, Vec<Seen>)> {
        let (pass, logits, seen) = Pass::forward(&self.0, params, x, Keep::All)?;
        Ok((Box::new(pass), logits, seen))
    }

    fn look(&self, params: &[Tensor], x: &Tensor) -> Result<(Tensor, Vec<Seen>)> {
        let (_, logits, seen) = Pass::forward(&self.0, params, x, Keep::WhatIsRead)?;
        Ok((logits, seen))
    }
}

impl<L: Launch> Pass<L> {
    fn forward(
        machine: &Arc<Machine<L>>,
        params: &[Tensor],
        x: &Tensor,
        keep: Keep,
    ) -> Result<(Self, Tensor, Vec<Seen>)> {
        let Machine { ops, graph, program, .. } = &**machine;
        let mut pass = Self {
            numbers: numbers(ops, graph, program, params)?,
            norms: program.steps.iter().map(|_| None).collect(),
            values: Vec::new(),
            shapes: shapes(graph, program, x)?,
            machine: Arc::clone(machine),
        };
        let mut values = pass.run().begin(x)?;
        let mut seen = Vec::new();
        for (i, step) in program.steps.iter().enumerate() {
            if let Kind::Norm(node) = step.kind {
                let (norm, own) = pass.norm(i, node, there(&values, step.source))?;
                pass.norms[i] = Some(norm);
                seen.push(own);
            }
            values[step.target] = Some(pass.run().step(i, &values)?);
            pass.run().forget(i, &mut values, keep);
        }
        let logits = pass.run().logits(&mut values)?;
        pass.values = values;
        Ok((pass, logits, seen))
    }

    /// The statistics of what a normalization reads.
    fn norm(&self, i: usize, node: usize, x: &L::Memory) -> Result<(Norm<L::Memory>, Seen)> {
        let Machine { ops, graph, program, .. } = &*self.machine;
        let Numbers::Norm { weight, bias, eps } = &self.numbers[i] else {
            unreachable!("the numbers of a normalization are its own")
        };
        let dims = self.shapes.of(program.steps[i].source);
        let sizes = [dims.images, dims.channels, dims.height, dims.width];
        reference::check_count(&graph.nodes()[node], sizes)?;
        let norm = ops.norm(dims, x, [weight, bias], *eps)?;
        let tensor = |vector| ops.tensor(ops.copy(vector, dims.channels)?, dims.channels);
        let seen = Seen { node, mean: tensor(&norm.mean)?, variance: tensor(&norm.variance)? };
        Ok((norm, seen))
    }

    fn run(&self) -> Run<'_, L> {
        let Machine { ops, program, .. } = &*self.machine;
        Run { ops, program, numbers: &self.numbers, norms: &self.norms, shapes: &self.shapes }
    }
}

impl<L: Launch> WayBack for Pass<L> {
    fn parameter_gradients(&self, dlogits: &Tensor) -> Result<EntryGradients> {
        let (run, machine) = (self.run(), &*self.machine);
        let mut back = run.back(&machine.moves, dlogits)?;
        let mut found = Vec::new();
        for go in &machine.moves {
            let norm = self.before(&run, &back, go, Some(&mut found))?;
            match machine.needed[go.target(&machine.program)] {
                true => back.go(&run, &self.values, go, norm.as_ref())?,
                false => back.skip(go),
            }
        }
        Ok(found)
    }

    fn image_gradient(&self, dlogits: &Tensor) -> Result<Tensor> {
        let (run, machine) = (self.run(), &*self.machine);
        let mut back = run.back(&machine.moves, dlogits)?;
        for go in &machine.moves {
            let norm = self.before(&run, &back, go, None)?;
            back.go(&run, &self.values, go, norm.as_ref())?;
        }
        let images = run.shapes.of(0);
        back.images(&run, &[images.images, images.channels, images.height, images.width])
    }
}

impl<L: Launch> Pass<L> {
    /// What comes before a move: the sums of a normalization, and the gradients of the parameters there.
    fn before(
        &self,
        run: &Run<'_, L>,
        back: &Back<L::Memory>,
        go: &Move,
        found: Option<&mut EntryGradients>,
    ) -> Result<Option<NormBack<L::Memory>>> {
        let Move::Through { step: i, from, .. } = *go else { return Ok(None) };
        let Machine { ops, graph, program, .. } = &*self.machine;
        let step = &program.steps[i];
        match (step.kind, found) {
            (Kind::Norm(node), found) => {
                let dims = run.shapes.of(step.source);
                let tensors = [there(&self.values, step.source), there(&back.gradients, from)];
                let norm = ops.norm_back(dims, tensors, there(run.norms, i))?;
                if let Some(found) = found {
                    let first = graph.first_entry(node);
                    for (entry, vector) in [(first, &norm.weight), (first + 1, &norm.bias)] {
                        let copy = ops.copy(vector, dims.channels)?;
                        found.push((entry, ops.tensor(copy, dims.channels)?));
                    }
                }
                Ok(Some(norm))
            }
            (Kind::Conv(conv) | Kind::Depthwise(conv), Some(found)) => {
                self.weights(run, step, &conv, (from, back), found)?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn weights(
        &self,
        run: &Run<'_, L>,
        step: &Step,
        conv: &Conv,
        (from, back): (GradientId, &Back<L::Memory>),
        found: &mut EntryGradients,
    ) -> Result<()> {
        let Machine { ops, graph, .. } = &*self.machine;
        let (x, g) = (there(&self.values, step.source), there(&back.gradients, from));
        let geometry = run.shapes.geometry(step, conv);
        let shape = graph.entries()[conv.weight].shape.as_slice();
        let dw = match step.kind {
            Kind::Depthwise(_) => ops.shaped(ops.depthwise_weights(&geometry, [x, g])?, shape)?,
            _ => ops.export(ops.conv_weights(&geometry, [x, g])?, weight_dims(conv, shape), shape)?,
        };
        found.push((conv.weight, dw));
        if let Some(entry) = conv.bias {
            let dims = run.shapes.of(step.target);
            found.push((entry, ops.tensor(ops.channel_sums(dims, g)?, dims.channels)?));
        }
        Ok(())
    }
}
