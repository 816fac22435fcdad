//! The gradient of the weights: for every tap and input channel, the products of the image there with
//! the gradient of the output, summed over all pixels.

use super::{Sweep, panel_widths};
use crate::kernels::simd::{Isa, Kernel, Platform, Simd, launch};

/// Sums run over about this many pixels before they join the total: two short sums round less than a
/// long one.
const RUN: usize = 256;

/// The sums of a weight gradient, cut into blocks of rows (one row for each tap and input channel) by
/// panels of output channels. The blocks are independent, so threads may share them out.
#[derive(Debug)]
pub(crate) struct WeightSums {
    blocks: Vec<Block>,
    rows: usize,
    data: Vec<f32>,
}

/// Some rows of a panel.
#[derive(Clone, Copy, Debug)]
struct Block {
    row: usize,
    channel: usize,
    width: usize,
    offset: usize,
}

/// Rows of a block: what the registers hold.
fn block_rows(isa: Isa) -> usize {
    if isa == Isa::Avx512 { 8 } else { 4 }
}

impl WeightSums {
    /// Zeros for a sweep.
    pub(crate) fn new(isa: Isa, sweep: &Sweep) -> Self {
        let (rows, height) = (sweep.taps.len() * sweep.depth, block_rows(isa));
        let (mut blocks, mut channel, mut offset) = (Vec::new(), 0, 0);
        for width in panel_widths(isa, sweep.target_stride) {
            for row in (0..rows).step_by(height) {
                blocks.push(Block { row, channel, width, offset });
                offset += height * width;
            }
            channel += width;
        }
        Self { blocks, rows, data: vec![0.0; offset] }
    }

    /// Cuts the blocks into at most `parts` shares.
    pub(crate) fn shares(&mut self, parts: usize) -> Vec<Share<'_>> {
        let per_share = self.blocks.len().div_ceil(parts.max(1)).max(1);
        let rows = self.rows;
        let (mut rest, mut taken) = (self.data.as_mut_slice(), 0);
        let mut shares = Vec::new();
        for blocks in self.blocks.chunks(per_share) {
            let end = self
                .blocks
                .get(shares.len() * per_share + blocks.len())
                .map_or(taken + rest.len(), |b| b.offset);
            let (data, next) = rest.split_at_mut(end - taken);
            (rest, taken) = (next, end);
            shares.push(Share { blocks, rows, data });
        }
        shares
    }

    /// Calls `put(row, channel, sum)` for every row and stored channel.
    pub(crate) fn read(&self, isa: Isa, mut put: impl FnMut(usize, usize, f32)) {
        for b in &self.blocks {
            for r in 0..block_rows(isa).min(self.rows - b.row) {
                let sums = &self.data[b.offset + r * b.width..][..b.width];
                sums.iter().enumerate().for_each(|(c, &sum)| put(b.row + r, b.channel + c, sum));
            }
        }
    }
}

/// A part of the blocks, for one thread.
pub(crate) struct Share<'a> {
    blocks: &'a [Block],
    rows: usize,
    data: &'a mut [f32],
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
    share: Share<'_>,
) {
    sweep.check(images, source.len(), gradient.len());
    assert_eq!(share.rows, sweep.taps.len() * sweep.depth, "a share of this sweep's sums");
    let Some((first, last)) = share.blocks.first().zip(share.blocks.last()) else { return };
    assert!(last.offset + block_rows(isa) * last.width - first.offset <= share.data.len(), "a whole share");
    assert!(last.channel + last.width <= sweep.target_stride);
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
        let per_run = (RUN / self.sweep.sources.len().max(1)).max(1);
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
            for i in image..image + count {
                let (source, target) = (i * self.sweep.source_image, i * self.sweep.target_image);
                for (from, to) in self.sweep.sources.iter().zip(&self.sweep.targets) {
                    let (from, to) = (source + from, target + to);
                    let d: [S; V] = std::array::from_fn(|v| S::load(g.add(to + v * S::LANES)));
                    for r in 0..R {
                        let x = S::splat(*x[r].add(from));
                        for v in 0..V {
                            sums[r][v] = x.mul_add(d[v], sums[r][v]);
                        }
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
