//! The gradients of a convolution's weights, over all images of a batch.
//!
//! Where there are few weights, groups of images have sums of their own, which they add to while they are in the cache,
//! and which are added up in order. Which images form a group depends on how many there are alone, so threads change no
//! bit. Where there are many, threads share out the weights, each for all images.

use super::{Batch, EntryGradient, Machine};
use crate::exec::backward::GradientId;
use crate::exec::plan::{Part, Plan};
use crate::exec::program::{Kind, Step};
use crate::kernels::conv::{Share, Sweep, Tiles, WeightSums, tile_gradient, tile_parts, weight_gradient};
use crate::kernels::{Isa, Layout, depthwise};

/// The images of a group: so many that there are 8 groups, in a large batch 16.
pub(super) fn group(images: usize) -> usize {
    images.div_ceil(16).max(images.div_ceil(8).min(8))
}

/// The sums of a step's weights over some images.
pub(super) enum WeightsOf {
    Convolution(WeightSums),
    Depthwise(Vec<f32>),
}

impl WeightsOf {
    /// Zeros.
    pub(super) fn step(machine: &Machine<'_>, plan: &Plan, step: usize) -> Self {
        let (sweep, room) = (plan.sweep_of_weights(step), |floats| plan.room(floats));
        match (machine.program.steps[step].kind, &plan.sweeps[step].tiles_of_weights) {
            (Kind::Depthwise(_), _) => Self::Depthwise(room(sweep.depth * sweep.taps.len())),
            (_, Some(tiles)) => Self::Convolution(WeightSums::of_tiles(machine.isa, tiles, room)),
            (_, None) => Self::Convolution(WeightSums::of_sweep(machine.isa, sweep, room)),
        }
    }

    /// Adds what the images of a part contribute.
    pub(super) fn add(
        &mut self,
        machine: &Machine<'_>,
        plan: &Plan,
        step: usize,
        from: GradientId,
        part: &Part<'_>,
    ) {
        let (sweep, isa, images) = (plan.sweep_of_weights(step), machine.isa, part.images);
        let [x, dy] =
            [machine.program.steps[step].source, plan.gradient(from)].map(|tensor| part.tensor(plan, tensor));
        match (self, &plan.sweeps[step].tiles_of_weights) {
            (Self::Depthwise(sums), _) => {
                depthwise::depthwise_weight_gradient(isa, sweep, images, x, dy, sums);
            }
            (Self::Convolution(sums), Some(tiles)) => {
                let all = 0..images * tiles.count();
                sums.shares(1)
                    .iter_mut()
                    .for_each(|share| tile_gradient(isa, tiles, &all, images, [x, dy], share));
            }
            (Self::Convolution(sums), None) => {
                sums.shares(1).iter_mut().for_each(|share| weight_gradient(isa, sweep, images, x, dy, share));
            }
        }
    }

    fn into_room(self) -> Vec<f32> {
        match self {
            Self::Convolution(sums) => sums.into_room(),
            Self::Depthwise(sums) => sums,
        }
    }
}

impl Batch {
    /// The gradients of a step's weights and bias, once those of all images are there.
    pub(super) fn weight_gradients(
        &self,
        machine: &Machine<'_>,
        step: usize,
        from: GradientId,
        out: &mut Vec<EntryGradient>,
    ) {
        let Step { kind, source, target, .. } = machine.program.steps[step];
        let plan = &*self.plan;
        let tensors = [source, plan.gradient(from)].map(|tensor| self.buffers.tensor(plan, tensor));
        let sweep = plan.sweep_of_weights(step);
        let channels = machine.program.values[target].channels;
        let Kind::Conv(conv) = kind else { unreachable!("the weights of {kind:?} are summed alongside") };
        let sums = match &plan.sweeps[step].tiles_of_weights {
            Some(tiles) => self.sums_of_tiles(machine.isa, tiles, tensors),
            None => self.sums_of_sweep(machine.isa, sweep, tensors),
        };
        let values = self.read(&sums.iter().collect::<Vec<_>>(), channels, sweep);
        plan.keep_rooms(sums.into_iter().map(WeightSums::into_room));
        out.push(EntryGradient { entry: conv.weight, values });
        let bias = conv.bias.map(|entry| {
            let values = self.bias_gradient(&plan.gradients[target], tensors[1]);
            EntryGradient { entry, values }
        });
        out.extend(bias);
    }

    /// Adds up what the groups found, in order.
    pub(super) fn weights_of_parts(
        &self,
        machine: &Machine<'_>,
        parts: Vec<Vec<(usize, WeightsOf)>>,
        out: &mut Vec<EntryGradient>,
    ) {
        for (i, (step, _)) in parts.first().into_iter().flatten().enumerate() {
            let Step { kind: Kind::Conv(conv) | Kind::Depthwise(conv), target, .. } =
                machine.program.steps[*step]
            else {
                unreachable!("only convolutions have weights here")
            };
            let channels = machine.program.values[target].channels;
            let sweep = self.plan.sweep_of_weights(*step);
            let (mut sums, mut depthwise) = (Vec::new(), Vec::new());
            for part in &parts {
                match &part[i].1 {
                    WeightsOf::Convolution(part) => sums.push(part),
                    WeightsOf::Depthwise(part) => depthwise.push(part.as_slice()),
                }
            }
            let values = match sums.is_empty() {
                true => depthwise::read(&depthwise, channels, sweep.taps.len()),
                false => self.read(&sums, channels, sweep),
            };
            out.push(EntryGradient { entry: conv.weight, values });
        }
        self.plan.keep_rooms(parts.into_iter().flatten().map(|(_, sums)| sums.into_room()));
    }

    /// The sum of some sums, `[outputs][inputs][taps]`.
    fn read(&self, parts: &[&WeightSums], channels: usize, sweep: &Sweep) -> Vec<f32> {
        let per_output = sweep.depth * sweep.taps.len();
        let mut values = vec![0.0; channels * per_output];
        let threads = self.threads.for_work((parts.len() * values.len()) as u64 * 4);
        let some = channels.div_ceil(threads.count());
        threads.each(&mut values.chunks_mut(some * per_output).collect::<Vec<_>>(), |i, out| {
            let outputs = i * some..i * some + out.len() / per_output;
            parts.iter().for_each(|part| part.read(outputs.clone(), out));
        });
        values
    }

    fn sums_of_sweep(&self, isa: Isa, sweep: &Sweep, [x, dy]: [&[f32]; 2]) -> Vec<WeightSums> {
        let mut sums = WeightSums::of_sweep(isa, sweep, |floats| self.plan.room(floats));
        self.threads.each(&mut sums.shares(2 * self.threads.count()), |_, share| {
            weight_gradient(isa, sweep, self.images, x, dy, share);
        });
        vec![sums]
    }

    /// One set of sums for each part of the tiles, to be added up in order.
    fn sums_of_tiles(&self, isa: Isa, tiles: &Tiles, tensors: [&[f32]; 2]) -> Vec<WeightSums> {
        let parts = tile_parts(tiles, self.images);
        let mut sums: Vec<_> =
            parts.iter().map(|_| WeightSums::of_tiles(isa, tiles, |floats| self.plan.room(floats))).collect();
        let shares = self.threads.count().div_ceil(parts.len()); // every share transforms all sources
        let with_part = |(sums, part)| WeightSums::shares(sums, shares).into_iter().map(move |s| (part, s));
        let mut work: Vec<(_, Share<'_>)> = sums.iter_mut().zip(&parts).flat_map(with_part).collect();
        self.threads.each(&mut work, |_, (part, share)| {
            tile_gradient(isa, tiles, part, self.images, tensors, share);
        });
        drop(work);
        sums
    }

    /// The sum of an output's gradient over pixels and images.
    fn bias_gradient(&self, layout: &Layout, dy: &[f32]) -> Vec<f32> {
        let mut sums = vec![0.0_f64; layout.channels];
        for row in (0..self.images).flat_map(|i| layout.rows().map(move |row| i * layout.image() + row)) {
            for pixel in dy[row..][..layout.width * layout.stride()].chunks_exact(layout.stride()) {
                sums.iter_mut().zip(pixel).for_each(|(sum, &d)| *sum += f64::from(d));
            }
        }
        sums.into_iter().map(|sum| sum as f32).collect()
    }
}
