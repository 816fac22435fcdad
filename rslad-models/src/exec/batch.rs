//! A program in train mode on a whole batch: batch statistics on the way forward, gradients of
//! parameters and images on the way back.
//!
//! Threads take some images each through the steps between two batch normalizations; at each
//! normalization they meet. What an image brings to the statistics is put together in the order of the
//! images, so neither the number of threads nor how images were shared out changes a bit.

mod parameters;

use parameters::{WeightsOf, group};

use super::backward::{Act, GradientId, Move};
use super::engine::Threads;
use super::exchange::{Exchange, Rows};
use super::plan::{Buffers, Hold, Part, Plan};
use super::program::{Kind, Program, Step};
use super::runner::{BatchFactors, Runner};
use super::weights::Weights;
use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::conv::Panels;
use crate::kernels::{Isa, Layout, batch_norm};
use std::mem::take;
use std::sync::Arc;

/// What does not change from batch to batch.
#[derive(Clone, Copy)]
pub(super) struct Machine<'a> {
    pub(super) isa: Isa,
    pub(super) graph: &'a Graph,
    pub(super) program: &'a Program,
    /// Where the batch is shared with other processes.
    pub(super) exchange: Option<&'a dyn Exchange>,
}

/// A batch on its way: its forward has run.
pub(super) struct Batch {
    plan: Arc<Plan>,
    weights: Arc<Weights>,
    threads: Threads,
    factors: Vec<Option<BatchFactors>>, // of each step
    images: usize,
    buffers: Buffers,
    phase: usize,   // how often the threads have met
    sums: Vec<f32>, // of each image: two rows of a normalization's channels
    classes: usize,
}

/// Scale and shift of a batch normalization, as trained.
pub(super) struct Trained {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) eps: f64,
}

/// What a normalization saw: mean and biased variance per channel, and over how many values.
pub(super) struct Moments {
    pub(super) node: usize,
    pub(super) mean: Vec<f64>,
    pub(super) variance: Vec<f64>,
    pub(super) count: usize,
}

/// The gradient of one entry of the state dict.
pub(super) struct EntryGradient {
    pub(super) entry: usize,
    pub(super) values: Vec<f32>,
}

/// Most images that a thread takes at a time: enough to use each weight more than once, few enough to
/// share out evenly.
const PART: usize = 16;

impl Machine<'_> {
    /// Runs images `[n, C, H, W]` forward; `trained` gives the numbers of a normalization's node.
    /// Returns the batch and what its normalizations saw, in order.
    pub(super) fn forward(
        &self,
        plan: Arc<Plan>,
        weights: Arc<Weights>,
        threads: &Threads,
        (images, n): (&[f32], usize),
        hold: Hold,
        trained: &[Option<Trained>],
    ) -> Result<(Batch, Vec<Moments>)> {
        let mut batch = Batch {
            threads: threads.for_work(n as u64 * plan.multiply_adds),
            factors: vec![None; self.program.steps.len()],
            images: n,
            buffers: plan.buffers(hold, n),
            phase: 0,
            sums: Vec::new(),
            classes: self.graph.n_classes(),
            plan,
            weights,
        };
        let mut seen = Vec::new();
        let pixels = images.len() / n;
        let (mut start, end) = (0, self.program.steps.len());
        for (stop, trained) in trained.iter().enumerate() {
            let Some(trained) = trained else { continue };
            batch.advance(self, start..stop, images, pixels);
            let moments = batch.moments(self, stop)?;
            batch.factors[stop] = Some(factors(&moments, trained));
            seen.push(moments);
            (start, batch.phase) = (stop, batch.phase + 1);
        }
        batch.advance(self, start..end, images, pixels);
        Ok((batch, seen))
    }

    fn runner<'r>(
        &'r self,
        plan: &'r Plan,
        weights: &'r Weights,
        backward: &'r [Vec<Panels>],
        batch: &'r [Option<BatchFactors>],
    ) -> Runner<'r> {
        Runner { isa: self.isa, program: self.program, plan, weights, backward, batch }
    }
}

impl Batch {
    /// Images of a part.
    fn per_part(&self) -> usize {
        self.images.div_ceil(self.threads.count()).min(PART)
    }

    /// Runs some steps on all images, and gathers the moments for the normalization that follows.
    fn advance(
        &mut self,
        machine: &Machine<'_>,
        steps: std::ops::Range<usize>,
        images: &[f32],
        pixels: usize,
    ) {
        let per_part = self.per_part();
        let Self { plan, weights, threads, factors, buffers, phase, sums, images: n, .. } = self;
        let runner = machine.runner(plan, weights, &[], factors);
        let norm = machine.program.steps.get(steps.end).map(|norm| (norm.source, &plan.layouts[norm.source]));
        let row = norm.map_or(0, |(_, layout)| 2 * layout.stride());
        let mut parts = with_sums(buffers.parts(plan, *phase, *n, per_part), sums, row);
        threads.each(&mut parts, |i, (values, sums)| {
            values.clean();
            if steps.start == 0 {
                let first = i * per_part * pixels;
                runner.import(&images[first..first + values.images * pixels], values);
            }
            let mut rest = &mut **sums;
            runner.forward(steps.clone(), values, |part| {
                let Some((source, layout)) = norm else { return };
                let (x, own) = (part.tensor(plan, source), first_of(&mut rest, part.images * row));
                batch_norm::moments(machine.isa, layout, part.images, x, own);
            });
        });
    }

    /// Puts the moments of all images together (Chan et al. 1979).
    fn moments(&self, machine: &Machine<'_>, step: usize) -> Result<Moments> {
        let Step { kind: Kind::Norm(node), source, .. } = machine.program.steps[step] else {
            unreachable!("moments belong to a normalization")
        };
        let layout = &self.plan.layouts[source];
        let rows = Rows::new(self.own_sums(layout), layout.stride(), machine.exchange)?;
        let (images, pixels) = (rows.images(), layout.pixels());
        let [means, squares] = rows.totals(layout.channels, |_| 1.0);
        let mean: Vec<f64> = means.iter().map(|sum| sum / images as f64).collect();
        let mut spread = vec![0.0; mean.len()];
        for (image, _) in rows.iter() {
            for (c, spread) in spread.iter_mut().enumerate() {
                *spread += (f64::from(image[c]) - mean[c]).powi(2);
            }
        }
        let count = images * pixels;
        let squared = squares.iter().zip(&spread).map(|(square, spread)| square + pixels as f64 * spread);
        Ok(Moments { node, variance: squared.map(|m2| m2 / count as f64).collect(), mean, count })
    }

    /// The two rows of sums of each image of this process, in order.
    fn own_sums(&self, layout: &Layout) -> &[f32] {
        &self.sums[..self.images * 2 * layout.stride()]
    }

    /// The logits, `[n, K]`.
    pub(super) fn logits(&mut self, machine: &Machine<'_>) -> Vec<f32> {
        let mut logits = vec![0.0; self.images * self.classes];
        let Self { plan, weights, factors, buffers, images, .. } = self;
        let runner = machine.runner(plan, weights, &[], factors);
        runner.logits(&buffers.whole(plan, *images), &mut logits);
        logits
    }

    /// The gradients of all parameters, given that of the logits.
    pub(super) fn parameter_gradients(
        mut self,
        machine: &Machine<'_>,
        dlogits: &[f32],
    ) -> Result<Vec<EntryGradient>> {
        let mut gradients = Vec::new();
        let needed = below_parameters(machine.program);
        self.back(machine, dlogits, &needed, Some(&mut gradients))?;
        self.recycle();
        Ok(gradients)
    }

    /// The gradient of the images, `[n, C, H, W]`, given that of the logits.
    pub(super) fn image_gradient(mut self, machine: &Machine<'_>, dlogits: &[f32]) -> Result<Vec<f32>> {
        self.back(machine, dlogits, &vec![true; machine.program.values.len()], None)?;
        let image = self.plan.layouts[0].channels * self.plan.layouts[0].pixels();
        let mut dx = vec![0.0; self.images * image];
        let Self { plan, weights, factors, buffers, images, .. } = &mut self;
        machine.runner(plan, weights, &[], factors).export_gradient(&buffers.whole(plan, *images), &mut dx);
        self.recycle();
        Ok(dx)
    }

    /// Gives the buffers back to the plan.
    pub(super) fn recycle(self) {
        self.plan.give_back([self.buffers]);
    }

    fn back(
        &mut self,
        machine: &Machine<'_>,
        dlogits: &[f32],
        needed: &[bool],
        mut gradients: Option<&mut Vec<EntryGradient>>,
    ) -> Result<()> {
        self.import_gradient(machine, dlogits);
        let plan = Arc::clone(&self.plan);
        let mut pending: Vec<usize> = Vec::new(); // acts that every image can still take by itself
        for (i, act) in plan.acts.iter().enumerate() {
            if let Act::Go(Move::Through { step, from, .. }) = *act
                && plan.meets(machine.program, act)
            {
                let kind = machine.program.steps[step].kind;
                let norm = matches!(kind, Kind::Norm(_)).then_some((step, from));
                self.retreat(machine, &take(&mut pending), norm, gradients.as_deref_mut());
                match (kind, gradients.as_deref_mut()) {
                    (Kind::Norm(node), out) => {
                        // A loss is the mean over a process's images, what an attack ascends their sum.
                        let (own, mean) = (self.images as f64, out.is_some());
                        let weight = |n: usize| if mean { n as f64 / own } else { 1.0 };
                        let of_norm = self.norm_gradients(machine, step, weight)?;
                        if let Some(out) = out {
                            let entries = machine.graph.first_entry(node)..; // weight, then bias
                            out.extend(
                                entries.zip(of_norm).map(|(entry, values)| EntryGradient { entry, values }),
                            );
                        }
                    }
                    (_, Some(out)) => self.weight_gradients(machine, step, from, out),
                    _ => {}
                }
            }
            let wanted = match act {
                Act::Go(go) => needed[go.target(machine.program)],
                Act::Weights { .. } => gradients.is_some(),
                Act::Again(_) => true,
            };
            if wanted {
                pending.push(i);
            }
        }
        self.retreat(machine, &pending, None, gradients);
        Ok(())
    }

    fn import_gradient(&mut self, machine: &Machine<'_>, dlogits: &[f32]) {
        self.phase += 1;
        let Self { plan, weights, factors, buffers, images, .. } = self;
        let runner = machine.runner(plan, weights, &[], factors);
        runner.import_gradient(dlogits, &mut buffers.whole(plan, *images));
    }

    /// Takes a part of the way back on all images, up to the next meeting: there are the sums for the way back through
    /// a normalization.
    fn retreat(
        &mut self,
        machine: &Machine<'_>,
        acts: &[usize],
        norm: Option<(usize, GradientId)>,
        out: Option<&mut Vec<EntryGradient>>,
    ) {
        let now = self.phase;
        self.phase += 1;
        if acts.is_empty() && norm.is_none() {
            return;
        }
        let plan = &*Arc::clone(&self.plan);
        let of_acts = acts.iter().map(|&i| plan.acts[i]);
        let weighed: Vec<usize> = of_acts
            .clone()
            .filter_map(|act| if let Act::Weights { step, .. } = act { Some(step) } else { None })
            .collect();
        let per_part = if weighed.is_empty() { self.per_part() } else { group(self.images) };
        let Self { weights, threads, factors, buffers, sums, images, .. } = self;
        let mut backward = vec![Vec::new(); machine.program.steps.len()];
        for act in of_acts {
            if let Act::Go(Move::Through { step, .. }) = act {
                let room = |floats| plan.room(floats);
                backward[step] = weights.way_back(machine.program, step, threads, room);
            }
        }
        let runner = machine.runner(plan, weights, &backward, factors);
        let source = norm.map(|(step, _)| machine.program.steps[step].source);
        let row = source.map_or(0, |source| 2 * plan.layouts[source].stride());
        let parts = with_sums(buffers.parts(plan, now, *images, per_part), sums, row);
        let with_weights = |part| {
            let weights: Vec<_> =
                weighed.iter().map(|&step| (step, WeightsOf::step(machine, plan, step))).collect();
            (part, weights)
        };
        let mut parts: Vec<_> = parts.into_iter().map(with_weights).collect();
        threads.each(&mut parts, |_, ((part, sums), weights)| {
            part.clean();
            let mut rest = &mut **sums;
            let weights = |step: usize, from: GradientId, part: &Part<'_>| {
                let own = weights.iter_mut().find(|(of, _)| *of == step);
                own.into_iter().for_each(|(_, sums)| sums.add(machine, plan, step, from, part));
            };
            runner.back(acts, part, weights, |part| {
                let Some(((step, from), source)) = norm.zip(source) else { return };
                let (layouts, factors) =
                    ([&plan.layouts[source], &plan.gradients[from]], runner.factors(step));
                let tensors = [part.tensor(plan, source), part.tensor(plan, plan.gradient(from))];
                let channels = [factors.mean.as_slice(), &factors.inverse];
                let own = first_of(&mut rest, part.images * row);
                batch_norm::gradient_sums(machine.isa, layouts, part.images, tensors, channels, own);
            });
        });
        let found: Vec<Vec<(usize, WeightsOf)>> = parts.into_iter().map(|(_, weights)| weights).collect();
        plan.keep_rooms(backward.into_iter().flatten().map(Panels::into_room));
        if let Some(out) = out {
            self.weights_of_parts(machine, found, out);
        }
    }

    /// The gradients of a normalization's weight and bias; readies its way back, where `weight` makes the
    /// gradients of a process of so many images comparable with this one's.
    fn norm_gradients(
        &mut self,
        machine: &Machine<'_>,
        step: usize,
        weight: impl Fn(usize) -> f64,
    ) -> Result<[Vec<f32>; 2]> {
        let layout = self.plan.layouts[machine.program.steps[step].source];
        let rows = Rows::new(self.own_sums(&layout), layout.stride(), machine.exchange)?;
        let [plain, weighted] = rows.totals(layout.channels, weight);
        let count = (rows.images() * layout.pixels()) as f64;
        let own = match machine.exchange {
            None => [weighted.clone(), plain.clone()],
            Some(_) => {
                let own = Rows::new(self.own_sums(&layout), layout.stride(), None)?;
                let [plain, weighted] = own.totals(layout.channels, |_| 1.0);
                [weighted, plain]
            }
        };
        drop(rows);
        let Some(f) = &mut self.factors[step] else { unreachable!("the forward set the factors") };
        f.backward = [vec![0.0; layout.stride()], vec![0.0; layout.stride()]];
        for c in 0..layout.channels {
            // scale (g - mean(g) - x_hat mean(g x_hat)), as slope * x + scale * g + shift
            let slope = -f64::from(f.scale[c]) * f64::from(f.inverse[c]) * weighted[c] / count;
            f.backward[0][c] = slope as f32;
            f.backward[1][c] =
                (-f64::from(f.scale[c]) * plain[c] / count - slope * f64::from(f.mean[c])) as f32;
        }
        Ok(own.map(|sums| sums.into_iter().map(|v| v as f32).collect()))
    }
}

/// Parts of a batch, each with its rows of sums.
fn with_sums<'b>(parts: Vec<Part<'b>>, sums: &'b mut Vec<f32>, row: usize) -> Vec<(Part<'b>, &'b mut [f32])> {
    let images: usize = parts.iter().map(|part| part.images).sum();
    sums.resize(images * row, 0.0);
    let mut rest = sums.as_mut_slice();
    let with = |part: Part<'b>| {
        let own = first_of(&mut rest, part.images * row);
        (part, own)
    };
    parts.into_iter().map(with).collect()
}

/// Cuts off the first `n` numbers.
fn first_of<'b>(rest: &mut &'b mut [f32], n: usize) -> &'b mut [f32] {
    let (first, after) = take(rest).split_at_mut(n);
    *rest = after;
    first
}

/// How a normalization acts on a batch with these moments.
fn factors(moments: &Moments, trained: &Trained) -> BatchFactors {
    let channels = moments.mean.len();
    let mut f = BatchFactors::zeros(channels.next_multiple_of(8));
    for c in 0..channels {
        let inverse = 1.0 / (moments.variance[c] + trained.eps).sqrt();
        let scale = f64::from(trained.weight[c]) * inverse;
        f.mean[c] = moments.mean[c] as f32;
        f.inverse[c] = inverse as f32;
        f.scale[c] = scale as f32;
        f.shift[c] = (f64::from(trained.bias[c]) - moments.mean[c] * scale) as f32;
    }
    f
}

/// The values whose gradient some parameter waits for.
pub(super) fn below_parameters(program: &Program) -> Vec<bool> {
    let mut needed = vec![false; program.values.len()];
    for step in &program.steps {
        needed[step.target] =
            step.kind.has_parameters() || needed[step.source] || step.add.is_some_and(|a| needed[a]);
    }
    needed
}
