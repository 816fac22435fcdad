//! The gradient of the weights: for every tap and input channel, the products of the image there with
//! the gradient of the output, summed over all pixels.

use super::Sweep;
use super::weight_sums::{Block, Share, WeightSums, add_up};
use crate::kernels::simd::{Isa, Kernel, Platform, Simd, launch};
use std::cell::RefCell;

/// Sums run over this many pixels before they join the total: two short sums round less than a long one, and what is
/// read for so many pixels stays in the cache from one block to the next.
const RUN: usize = 64;

/// Floats that set the rows of blocks apart, so that they do not all fall into one set of the cache.
const APART: usize = 16;

thread_local! {
    /// Room for what is read for a run of pixels: rows, a panel of columns.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

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
    let height = share.height;
    let of_rows = rows.len().div_ceil(height) * (RUN * height + APART);
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(scratch.len().max(of_rows + RUN * 2 * isa.lanes()), 0.0);
        let (packed, columns) = scratch.split_at_mut(of_rows);
        let kernel = WeightGradient {
            sweep,
            pixels: images * sweep.pixels(),
            rows: &rows,
            source: source.as_ptr(),
            gradient: gradient.as_ptr(),
            packed: packed.as_mut_ptr(),
            columns: columns.as_mut_ptr(),
            blocks: share.blocks,
            totals: share.data.as_mut_ptr(),
            first: first.offset,
        };
        // SAFETY: `check` found every read inside; the blocks lie inside the share's data; the scratch holds a run of
        // all rows and of the widest panel.
        unsafe { launch(isa, kernel) }
    });
}

struct WeightGradient<'a> {
    sweep: &'a Sweep,
    pixels: usize, // counted over images
    rows: &'a [usize],
    source: *const f32,
    gradient: *const f32,
    packed: *mut f32,  // [block][pixel][row]
    columns: *mut f32, // [pixel][channel of the panel]
    blocks: &'a [Block],
    totals: *mut f32,
    first: usize,
}

impl Kernel for WeightGradient<'_> {
    #[inline(always)]
    unsafe fn run<P: Platform>(self) {
        // SAFETY: the promise of `weight_gradient`; the height is that of its blocks.
        unsafe {
            match P::REGISTERS {
                32 => self.runs::<P, 8>(),
                _ => self.runs::<P, 4>(),
            }
        }
    }
}

impl WeightGradient<'_> {
    #[inline(always)]
    unsafe fn runs<P: Platform, const R: usize>(&self) {
        for first in (0..self.pixels).step_by(RUN) {
            let mut walk = self.sweep.walk(first / self.sweep.pixels(), first % self.sweep.pixels());
            let mut run = Run { pixels: RUN.min(self.pixels - first), from: [0; RUN], to: [0; RUN] };
            for pixel in 0..run.pixels {
                (run.from[pixel], run.to[pixel]) = walk.step();
            }
            // SAFETY: the caller's promise; each arm is as wide as the panel.
            unsafe {
                if self.packs::<R>() {
                    self.pack_rows::<R>(&run);
                }
                for panel in self.blocks.chunk_by(|a, b| a.channel == b.channel) {
                    match panel[0].width / P::Wide::LANES {
                        2 => self.panel::<P::Wide, R, 2>(&run, panel),
                        1 => self.panel::<P::Wide, R, 1>(&run, panel),
                        _ => self.panel::<P::Narrow, R, 1>(&run, panel), // beside 512 bits only
                    }
                }
            }
        }
    }

    /// Whether the rows of every block are neighbors, so that what they read is packed.
    #[inline(always)]
    fn packs<const R: usize>(&self) -> bool {
        self.sweep.depth.is_multiple_of(R)
    }

    /// Writes what the rows of each block read side by side.
    #[inline(always)]
    unsafe fn pack_rows<const R: usize>(&self, run: &Run) {
        for (pixel, from) in run.from.iter().take(run.pixels).enumerate() {
            for (i, rows) in self.rows.chunks_exact(R).enumerate() {
                // SAFETY: `weight_gradient` checked the sweep's offsets; the scratch holds a run of all rows.
                unsafe {
                    let to = self.packed.add(i * (RUN * R + APART) + pixel * R);
                    std::ptr::copy_nonoverlapping(self.source.add(rows[0] + from), to, R);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn panel<S: Simd, const R: usize, const V: usize>(&self, run: &Run, blocks: &[Block]) {
        // SAFETY: `weight_gradient` checked the sweep's offsets and the blocks' room. Rows past the end repeat the last
        // one; nobody reads their sums.
        unsafe {
            for (pixel, to) in run.to.iter().take(run.pixels).enumerate() {
                for v in 0..V {
                    let from = self.gradient.add(to + blocks[0].channel + v * S::LANES);
                    S::load(from).store(self.columns.add((pixel * V + v) * S::LANES));
                }
            }
            for block in blocks {
                let mut sums = [[S::splat(0.0); V]; R];
                let column = |pixel: usize, v: usize| S::load(self.columns.add((pixel * V + v) * S::LANES));
                if self.packs::<R>() {
                    let rows = self.packed.add(block.row / R * (RUN * R + APART)).cast_const();
                    add_up(run.pixels, |pixel, r| *rows.add(pixel * R + r), column, &mut sums);
                } else {
                    let row = |r: usize| self.rows[(block.row + r).min(self.rows.len() - 1)];
                    let rows: [*const f32; R] = std::array::from_fn(|r| self.source.add(row(r)));
                    add_up(run.pixels, |pixel, r| *rows[r].add(run.from[pixel]), column, &mut sums);
                }
                let total = self.totals.add(block.offset - self.first);
                for (i, &sum) in sums.as_flattened().iter().enumerate() {
                    let at = total.add(i * S::LANES);
                    S::load(at).add(sum).store(at);
                }
            }
        }
    }
}

/// Neighboring pixels, counted over images: where each reads and where its gradient lies.
struct Run {
    pixels: usize,
    from: [usize; RUN],
    to: [usize; RUN],
}
