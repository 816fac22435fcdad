//! A program in train mode on a whole batch: batch statistics on the way forward, gradients of
//! parameters and images on the way back.
//!
//! Chunks of images go through the steps between two batch normalizations by themselves; at each
//! normalization all chunks meet. Chunks depend on the size of the batch alone, and what they bring is
//! put together in their order, so the number of threads changes no bit.

use super::backward::Move;
use super::engine::Threads;
use super::plan::{Buffers, Hold, Plan};
use super::program::{Kind, Program, Step};
use super::runner::{BatchFactors, Runner};
use super::weights::Weights;
use crate::graph::Graph;
use crate::kernels::conv::{WeightSums, weight_gradient};
use crate::kernels::{Isa, Layout, batch_norm, depthwise};
use std::sync::Arc;

/// What does not change from batch to batch.
#[derive(Clone, Copy)]
pub(super) struct Machine<'a> {
    pub(super) isa: Isa,
    pub(super) graph: &'a Graph,
    pub(super) program: &'a Program,
}

/// A batch on its way: its forward has run.
pub(super) struct Batch {
    plan: Arc<Plan>,
    weights: Arc<Weights>,
    threads: Threads,
    factors: Vec<Option<BatchFactors>>, // of each step
    chunks: Vec<Chunk>,
    classes: usize,
}

/// Some of the images.
struct Chunk {
    images: usize,
    values: Buffers,
    gradients: Option<Buffers>,
    sums: Vec<f32>, // of each image: two rows of a normalization's channels
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

/// Images of a chunk, by the size of the batch alone: enough chunks for some threads, and chunks large
/// enough to use each weight more than once.
fn chunk_size(n: usize) -> usize {
    n.div_ceil(8).min(16)
}

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
    ) -> (Batch, Vec<Moments>) {
        let per_chunk = chunk_size(n);
        let chunk = |first: usize| Chunk {
            images: per_chunk.min(n - first),
            values: plan.buffers(hold, per_chunk),
            gradients: None,
            sums: Vec::new(),
        };
        let mut batch = Batch {
            threads: threads.for_work(n as u64 * plan.multiply_adds),
            factors: vec![None; self.program.steps.len()],
            chunks: (0..n).step_by(per_chunk).map(chunk).collect(),
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
            let moments = batch.moments(self, stop);
            batch.factors[stop] = Some(factors(&moments, trained));
            seen.push(moments);
            start = stop;
        }
        batch.advance(self, start..end, images, pixels);
        (batch, seen)
    }
}

impl Batch {
    /// Runs some steps on every chunk, and gathers the moments for the normalization that follows.
    fn advance(
        &mut self,
        machine: &Machine<'_>,
        steps: std::ops::Range<usize>,
        images: &[f32],
        pixels: usize,
    ) {
        let Self { plan, weights, threads, factors, chunks, .. } = self;
        let runner = Runner { isa: machine.isa, program: machine.program, plan, weights, batch: factors };
        let per_chunk = chunks[0].images;
        threads.each(chunks, |i, chunk| {
            if steps.start == 0 {
                let first = i * per_chunk * pixels;
                runner.import(&images[first..first + chunk.images * pixels], &mut chunk.values);
            }
            runner.forward(steps.clone(), chunk.images, &mut chunk.values);
            let Some(Step { kind: Kind::Norm(_), source, .. }) = machine.program.steps.get(steps.end) else {
                return;
            };
            let layout = &plan.layouts[*source];
            chunk.sums.resize(chunk.images * 2 * layout.stride(), 0.0);
            let x = runner.tensor(&chunk.values, *source);
            batch_norm::moments(machine.isa, layout, chunk.images, x, &mut chunk.sums);
        });
    }

    /// Puts the moments of all images together (Chan et al. 1979).
    fn moments(&self, machine: &Machine<'_>, step: usize) -> Moments {
        let Step { kind: Kind::Norm(node), source, .. } = machine.program.steps[step] else {
            unreachable!("moments belong to a normalization")
        };
        let layout = &self.plan.layouts[source];
        let n: usize = self.chunks.iter().map(|c| c.images).sum();
        let (images, pixels) = (n as f64, layout.pixels() as f64);
        let [means, squares] = self.totals(layout, |mean, square| [mean, square]);
        let mean: Vec<f64> = means.iter().map(|sum| sum / images).collect();
        let mut spread = vec![0.0; mean.len()];
        for rows in self.rows_of_sums(layout) {
            for (c, spread) in spread.iter_mut().enumerate() {
                *spread += (f64::from(rows[c]) - mean[c]).powi(2);
            }
        }
        let count = n * layout.pixels();
        let squared = squares.iter().zip(&spread).map(|(square, spread)| square + pixels * spread);
        Moments { node, variance: squared.map(|m2| m2 / count as f64).collect(), mean, count }
    }

    /// The two rows of sums of every image, in order.
    fn rows_of_sums(&self, layout: &Layout) -> impl Iterator<Item = &[f32]> {
        let width = 2 * layout.stride();
        self.chunks.iter().flat_map(move |c| c.sums[..c.images * width].chunks_exact(width))
    }

    /// Sums over the images of what `terms` makes of an image's two sums, per channel.
    fn totals(&self, layout: &Layout, terms: impl Fn(f64, f64) -> [f64; 2]) -> [Vec<f64>; 2] {
        let mut totals = [vec![0.0; layout.channels], vec![0.0; layout.channels]];
        for rows in self.rows_of_sums(layout) {
            for c in 0..layout.channels {
                let [a, b] = terms(rows[c].into(), rows[layout.stride() + c].into());
                totals[0][c] += a;
                totals[1][c] += b;
            }
        }
        totals
    }

    /// The logits, `[n, K]`.
    pub(super) fn logits(&self, machine: &Machine<'_>) -> Vec<f32> {
        let runner = self.runner(machine);
        let n: usize = self.chunks.iter().map(|c| c.images).sum();
        let mut logits = vec![0.0; n * self.classes];
        let rows = logits.chunks_mut(self.chunks[0].images * self.classes);
        self.chunks.iter().zip(rows).for_each(|(chunk, rows)| runner.logits(&chunk.values, rows));
        logits
    }

    /// The gradients of all parameters, given that of the logits.
    pub(super) fn parameter_gradients(
        mut self,
        machine: &Machine<'_>,
        dlogits: &[f32],
    ) -> Vec<EntryGradient> {
        let mut gradients = Vec::new();
        let needed = below_parameters(machine.program);
        self.back(machine, dlogits, &needed, Some(&mut gradients));
        self.recycle();
        gradients
    }

    /// The gradient of the images, `[n, C, H, W]`, given that of the logits.
    pub(super) fn image_gradient(mut self, machine: &Machine<'_>, dlogits: &[f32]) -> Vec<f32> {
        self.back(machine, dlogits, &vec![true; machine.program.values.len()], None);
        let runner = self.runner(machine);
        let image = self.plan.layouts[0].channels * self.plan.layouts[0].pixels();
        let n: usize = self.chunks.iter().map(|c| c.images).sum();
        let mut dx = vec![0.0; n * image];
        for (chunk, dx) in self.chunks.iter().zip(dx.chunks_mut(self.chunks[0].images * image)) {
            if let Some(gradients) = &chunk.gradients {
                runner.export_gradient(gradients, dx);
            }
        }
        self.recycle();
        dx
    }

    /// Gives the buffers back to the plan.
    pub(super) fn recycle(self) {
        let buffers = self.chunks.into_iter().flat_map(|c| std::iter::once(c.values).chain(c.gradients));
        self.plan.give_back(buffers);
    }

    fn back(
        &mut self,
        machine: &Machine<'_>,
        dlogits: &[f32],
        needed: &[bool],
        mut gradients: Option<&mut Vec<EntryGradient>>,
    ) {
        self.import_gradient(machine, dlogits);
        let plan = Arc::clone(&self.plan);
        let mut pending = Vec::new(); // moves that chunks can still make by themselves
        for go in &plan.moves {
            if let Move::Through { step, from, .. } = *go {
                match (machine.program.steps[step].kind, gradients.as_deref_mut()) {
                    (Kind::Norm(node), out) => {
                        self.retreat(machine, &std::mem::take(&mut pending), Some((step, from)));
                        let of_norm = self.norm_gradients(machine, step);
                        if let Some(out) = out {
                            let entries = machine.graph.first_entry(node)..; // weight, then bias
                            out.extend(
                                entries.zip(of_norm).map(|(entry, values)| EntryGradient { entry, values }),
                            );
                        }
                    }
                    (Kind::Conv(_) | Kind::Depthwise(_), Some(out)) => {
                        self.retreat(machine, &std::mem::take(&mut pending), None);
                        self.weight_gradients(machine, step, from, out);
                    }
                    _ => {}
                }
            }
            if needed[go.target(machine.program)] {
                pending.push(go);
            }
        }
        self.retreat(machine, &pending, None);
    }

    fn import_gradient(&mut self, machine: &Machine<'_>, dlogits: &[f32]) {
        let per_chunk = self.chunks[0].images;
        for (i, rows) in dlogits.chunks(per_chunk * self.classes).enumerate() {
            let mut gradients = self.plan.buffers(Hold::Gradients, per_chunk);
            self.runner(machine).import_gradient(rows, &mut gradients);
            self.chunks[i].gradients = Some(gradients);
        }
    }

    /// Runs some moves on every chunk, and the sums for the way back through a normalization.
    fn retreat(&mut self, machine: &Machine<'_>, moves: &[&Move], norm: Option<(usize, usize)>) {
        if moves.is_empty() && norm.is_none() {
            return;
        }
        let Self { plan, weights, threads, factors, chunks, .. } = self;
        let runner = Runner { isa: machine.isa, program: machine.program, plan, weights, batch: factors };
        threads.each(chunks, |_, chunk| {
            let Chunk { images, values, gradients: Some(gradients), sums } = chunk else { return };
            moves.iter().for_each(|go| runner.back(go, *images, values, gradients));
            let Some((step, from)) = norm else { return };
            let source = machine.program.steps[step].source;
            let (layout, factors) = (&plan.layouts[source], runner.factors(step));
            sums.resize(*images * 2 * layout.stride(), 0.0);
            let tensors = [runner.tensor(values, source), runner.tensor(gradients, from)];
            let channels = [factors.mean.as_slice(), &factors.inverse];
            batch_norm::gradient_sums(machine.isa, layout, *images, tensors, channels, sums);
        });
    }

    /// The gradients of a normalization's weight and bias; readies its way back.
    fn norm_gradients(&mut self, machine: &Machine<'_>, step: usize) -> [Vec<f32>; 2] {
        let layout = self.plan.layouts[machine.program.steps[step].source];
        let [plain, weighted] = self.totals(&layout, |a, b| [a, b]);
        let n: usize = self.chunks.iter().map(|c| c.images).sum();
        let count = (n * layout.pixels()) as f64;
        let Some(f) = &mut self.factors[step] else { unreachable!("the forward set the factors") };
        f.backward = [vec![0.0; layout.stride()], vec![0.0; layout.stride()]];
        for c in 0..layout.channels {
            // scale (g - mean(g) - x_hat mean(g x_hat)), as slope * x + scale * g + shift
            let slope = -f64::from(f.scale[c]) * f64::from(f.inverse[c]) * weighted[c] / count;
            f.backward[0][c] = slope as f32;
            f.backward[1][c] =
                (-f64::from(f.scale[c]) * plain[c] / count - slope * f64::from(f.mean[c])) as f32;
        }
        [weighted, plain].map(|sums| sums.into_iter().map(|v| v as f32).collect())
    }

    fn weight_gradients(
        &self,
        machine: &Machine<'_>,
        step: usize,
        from: usize,
        out: &mut Vec<EntryGradient>,
    ) {
        let Step { kind, source, target, .. } = machine.program.steps[step];
        let runner = self.runner(machine);
        let tensors: Vec<(usize, &[f32], &[f32])> = self
            .chunks
            .iter()
            .filter_map(|c| {
                let dy = runner.tensor(c.gradients.as_ref()?, from);
                Some((c.images, runner.tensor(&c.values, source), dy))
            })
            .collect();
        let Some(sweep) = &self.plan.sweeps[step].forward else { unreachable!("a convolution has a sweep") };
        let channels = machine.program.values[target].channels;
        let isa = machine.isa;
        match kind {
            Kind::Conv(conv) => {
                let mut sums = WeightSums::new(isa, sweep);
                self.threads.each(&mut sums.shares(2 * self.threads.count()), |_, share| {
                    for (images, x, dy) in &tensors {
                        weight_gradient(isa, sweep, *images, x, dy, share);
                    }
                });
                let area = conv.window.kernel * conv.window.kernel;
                let mut values = vec![0.0; channels * sweep.depth * area];
                sums.read(isa, |row, channel, sum| {
                    let (tap, input) = (row / sweep.depth, row % sweep.depth);
                    if channel < channels {
                        values[(channel * sweep.depth + input) * area + tap] = sum;
                    }
                });
                out.push(EntryGradient { entry: conv.weight, values });
                let bias = conv.bias.map(|entry| {
                    let values = self.bias_gradient(&self.plan.layouts[target], &tensors);
                    EntryGradient { entry, values }
                });
                out.extend(bias);
            }
            Kind::Depthwise(conv) => {
                let taps = sweep.taps.len();
                let block = taps * depthwise::BLOCK;
                let mut sums = vec![0.0; sweep.depth * taps];
                self.threads.each(&mut sums.chunks_mut(block).collect::<Vec<_>>(), |i, sums| {
                    for (images, x, dy) in &tensors {
                        depthwise::depthwise_weight_gradient(isa, sweep, *images, x, dy, i, sums);
                    }
                });
                let at = |c: usize, tap: usize| {
                    sums[c / depthwise::BLOCK * block + tap * depthwise::BLOCK + c % depthwise::BLOCK]
                };
                let values = (0..channels).flat_map(|c| (0..taps).map(move |tap| at(c, tap))).collect();
                out.push(EntryGradient { entry: conv.weight, values });
            }
            _ => unreachable!("only convolutions have weights here"),
        }
    }

    /// The sum of an output's gradient over pixels and images.
    fn bias_gradient(&self, layout: &Layout, tensors: &[(usize, &[f32], &[f32])]) -> Vec<f32> {
        let mut sums = vec![0.0_f64; layout.channels];
        for &(images, _, dy) in tensors {
            for row in (0..images).flat_map(|i| layout.rows().map(move |row| i * layout.image() + row)) {
                for pixel in dy[row..][..layout.width * layout.stride()].chunks_exact(layout.stride()) {
                    sums.iter_mut().zip(pixel).for_each(|(sum, &d)| *sum += f64::from(d));
                }
            }
        }
        sums.into_iter().map(|sum| sum as f32).collect()
    }

    fn runner<'a>(&'a self, machine: &Machine<'a>) -> Runner<'a> {
        let Self { plan, weights, factors, .. } = self;
        Runner { isa: machine.isa, program: machine.program, plan, weights, batch: factors }
    }
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
fn below_parameters(program: &Program) -> Vec<bool> {
    let mut needed = vec![false; program.values.len()];
    for step in &program.steps {
        let own = matches!(step.kind, Kind::Conv(_) | Kind::Depthwise(_) | Kind::Norm(_));
        needed[step.target] = own || needed[step.source] || step.add.is_some_and(|a| needed[a]);
    }
    needed
}
