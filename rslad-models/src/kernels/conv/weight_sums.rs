//! The sums of a weight gradient, cut into blocks that registers hold. The blocks are independent, so
//! threads may share them out.

use super::pack::panel_widths;
use crate::kernels::simd::{Isa, Simd};
use std::ops::Range;

/// Sums as `[block][tap][row][channel]`: a block is some rows by a panel of output channels. A row is an
/// input channel (all taps come out of a block together), or one tap of an input channel.
#[derive(Debug)]
pub(crate) struct WeightSums {
    pub(super) blocks: Vec<Block>,
    height: usize,
    depth: usize, // input channels
    rows: usize,
    taps: usize, // of a block
    data: Vec<f32>,
}

/// Some rows of a panel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) row: usize,
    pub(super) channel: usize,
    pub(super) width: usize,
    pub(super) offset: usize,
}

/// Rows of a block: what the registers hold.
fn block_rows(isa: Isa) -> usize {
    if isa == Isa::Avx512 { 8 } else { 4 }
}

impl WeightSums {
    /// Zeros for `depth` input channels and `stride` stored output channels. A block brings out
    /// `inside` taps of a channel, and there are `outside` times as many. `room` gives that many zeros.
    pub(super) fn zeros(
        isa: Isa,
        depth: usize,
        stride: usize,
        [outside, inside]: [usize; 2],
        room: impl FnOnce(usize) -> Vec<f32>,
    ) -> Self {
        let (rows, height) = (outside * depth, block_rows(isa));
        let (mut blocks, mut channel, mut offset) = (Vec::new(), 0, 0);
        for width in panel_widths(isa, stride) {
            for row in (0..rows).step_by(height) {
                blocks.push(Block { row, channel, width, offset });
                offset += inside * height * width;
            }
            channel += width;
        }
        Self { blocks, height, depth, rows, taps: inside, data: room(offset) }
    }

    /// Cuts the blocks into at most `parts` shares.
    pub(crate) fn shares(&mut self, parts: usize) -> Vec<Share<'_>> {
        let per_share = self.blocks.len().div_ceil(parts.max(1)).max(1);
        let (rows, height, taps) = (self.rows, self.height, self.taps);
        let (mut rest, mut taken) = (self.data.as_mut_slice(), 0);
        let mut shares = Vec::new();
        for blocks in self.blocks.chunks(per_share) {
            let next = self.blocks.get((shares.len() + 1) * per_share);
            let end = next.map_or(taken + rest.len(), |b| b.offset);
            let (data, after) = rest.split_at_mut(end - taken);
            (rest, taken) = (after, end);
            shares.push(Share { blocks, rows, height, taps, data });
        }
        shares
    }

    /// Adds the gradient of some output channels to `out`, `[outputs][inputs][taps]`.
    ///
    /// # Panics
    /// When `out` is too short.
    pub(crate) fn read(&self, outputs: Range<usize>, out: &mut [f32]) {
        let area = self.rows / self.depth * self.taps;
        for b in self.blocks.iter().filter(|b| b.channel < outputs.end && outputs.start < b.channel + b.width)
        {
            for c in b.channel.max(outputs.start)..outputs.end.min(b.channel + b.width) {
                let out = &mut out[(c - outputs.start) * self.depth * area..][..self.depth * area];
                for (r, row) in (b.row..self.rows.min(b.row + self.height)).enumerate() {
                    let (input, first_tap) = (row % self.depth, row / self.depth * self.taps);
                    for (tap, out) in out[input * area + first_tap..][..self.taps].iter_mut().enumerate() {
                        *out += self.data[b.offset + (tap * self.height + r) * b.width + c - b.channel];
                    }
                }
            }
        }
    }

    /// Its room, to be used again.
    pub(crate) fn into_room(self) -> Vec<f32> {
        self.data
    }
}

/// A part of the blocks, for one thread.
pub(crate) struct Share<'a> {
    pub(super) blocks: &'a [Block],
    rows: usize,
    pub(super) height: usize,
    taps: usize,
    pub(super) data: &'a mut [f32],
}

impl Share<'_> {
    /// The output channels that its blocks cover.
    pub(super) fn channels(&self) -> Range<usize> {
        let ends = self.blocks.first().zip(self.blocks.last());
        ends.map_or(0..0, |(first, last)| first.channel..last.channel + last.width)
    }

    /// Panics unless its blocks lie inside its data, belong to this many rows and taps, and end before
    /// `stride`.
    pub(super) fn check(&self, rows: usize, taps: usize, stride: usize) {
        assert_eq!((self.rows, self.taps), (rows, taps), "a share of this convolution's sums");
        let first = self.blocks.first().map_or(0, |b| b.offset);
        let inside = |b: &Block| b.offset - first + taps * self.height * b.width <= self.data.len();
        assert!(self.blocks.iter().all(|b| inside(b) && b.row < rows && b.channel + b.width <= stride));
    }
}

/// The sums of a block of `R` rows by `V` vectors of columns over some items, as `x` and `d` tell them. They stay in
/// registers, as in [`direct`](super::direct).
///
/// # Safety
/// The processor has the vectors; and what `x` and `d` promise.
#[expect(clippy::needless_range_loop, reason = "an iterator keeps `sums` out of registers")]
#[inline(always)]
pub(super) unsafe fn add_up<S: Simd, const R: usize, const V: usize>(
    items: usize,
    x: impl Fn(usize, usize) -> f32,
    d: impl Fn(usize, usize) -> S,
    out: &mut [[S; V]; R],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; R];
        for i in 0..items {
            let d: [S; V] = std::array::from_fn(|v| d(i, v));
            for r in 0..R {
                let x = S::splat(x(i, r));
                for v in 0..V {
                    sums[r][v] = x.mul_add(d[v], sums[r][v]);
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                std::ptr::write(&raw mut out[r][v], sums[r][v]);
            }
        }
    }
}
