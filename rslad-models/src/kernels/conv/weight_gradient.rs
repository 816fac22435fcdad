//! The gradient of the weights: for every tap and input channel, the products of the image there with
//! the gradient of the output, summed over all pixels.

use super::Sweep;
use super::weight_sums::{Block, Share, WeightSums};
use crate::kernels::simd::{Isa, Kernel, Platform, Simd, launch};

/// Sums run over about this many pixels before they join the total: two short sums round less than a
/// long one.
const RUN: usize = 256;

impl WeightSums {
    /// Zeros for a sweep; a row of a block is one tap of an input channel.
    pub(crate) fn of_sweep(isa: Isa, sweep: &Sweep, room: impl FnOnce(usize) -> Vec<f32>) -> Self {
        Self::zeros(isa, sweep.depth, sweep.target_stride, [sweep.taps.len(), 1], room)
    }
}

/// Adds to the sums of a share what `images` images contribute.
///
/// # Panics
/// When the slices are too short for the sweep or the share was cut for another one.
pub(crate) fn weight_gradient(
    isa: Isa,
    sweep: &Sweep,
    images: usize,
    source: &[f32],
    gradient: &[f32],
    share: &mut Share<'_>,
) {
    sweep.check(images, source.len(), gradient.len());
    share.check(sweep.taps.len() * sweep.depth, 1, sweep.target_stride);
    let Some(first) = share.blocks.first() else { return };
    let rows: Vec<usize> = sweep.taps.iter().flat_map(|tap| (0..sweep.depth).map(move |d| tap + d)).collect();
    let kernel = WeightGradient {
        sweep,
        images,
        rows: &rows,
        source: source.as_ptr(),
        gradient: gradient.as_ptr(),
        blocks: share.blocks,
        sums: share.data.as_mut_ptr(),
        first: first.offset,
    };
    // SAFETY: `check` found every read inside; the blocks lie inside the share's data.
    unsafe { launch(isa, kernel) }
}

struct WeightGradient<'a> {
    sweep: &'a Sweep,
    images: usize,
    rows: &'a [usize],
    source: *const f32,
    gradient: *const f32,
    blocks: &'a [Block],
    sums: *mut f32,
    first: usize,
}

impl Kernel for WeightGradient<'_> {
    #[inline(always)]
    unsafe fn run<P: Platform>(self) {
        let per_run = (RUN / self.sweep.pixels().max(1)).max(1);
        let mut image = 0;
        while image < self.images {
            let count = per_run.min(self.images - image);
            for block in self.blocks {
                // SAFETY: the promise of `weight_gradient`; each arm is as wide as the block.
                unsafe {
                    match (block.width / P::Wide::LANES, P::REGISTERS) {
                        (2, 32) => self.block::<P::Wide, 8, 2>(image, count, block),
                        (2, _) => self.block::<P::Wide, 4, 2>(image, count, block),
                        (1, 32) => self.block::<P::Wide, 8, 1>(image, count, block),
                        (1, _) => self.block::<P::Wide, 4, 1>(image, count, block),
                        _ => self.block::<P::Narrow, 8, 1>(image, count, block), // beside 512 bits only
                    }
                }
            }
            image += count;
        }
    }
}

impl WeightGradient<'_> {
    #[inline(always)]
    unsafe fn block<S: Simd, const R: usize, const V: usize>(
        &self,
        image: usize,
        count: usize,
        block: &Block,
    ) {
        // SAFETY: `weight_gradient` checked the sweep's offsets and the block's room. Rows past the end
        // repeat the last one; nobody reads their sums.
        unsafe {
            let row = |r: usize| self.rows[(block.row + r).min(self.rows.len() - 1)];
            let x: [*const f32; R] = std::array::from_fn(|r| self.source.add(row(r)));
            let g = self.gradient.add(block.channel);
            let mut sums = [[S::splat(0.0); V]; R];
            let mut walk = self.sweep.walk(image, 0);
            for _ in 0..count * self.sweep.pixels() {
                let (from, to) = walk.step();
                let d: [S; V] = std::array::from_fn(|v| S::load(g.add(to + v * S::LANES)));
                for r in 0..R {
                    let x = S::splat(*x[r].add(from));
                    for v in 0..V {
                        sums[r][v] = x.mul_add(d[v], sums[r][v]);
                    }
                }
            }
            let total = self.sums.add(block.offset - self.first);
            for (i, &sum) in sums.as_flattened().iter().enumerate() {
                let at = total.add(i * S::LANES);
                S::load(at).add(sum).store(at);
            }
        }
    }
}
