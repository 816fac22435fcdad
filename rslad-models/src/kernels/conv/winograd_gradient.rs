//! The gradient of the weights of a 3x3 convolution in Winograd's way: a tile of source pixels and a tile
//! of gradients cost 36 multiplications per pair of channels where the direct sums cost 144.
//!
//! Some tiles are transformed; sums run over them, in blocks that stay in registers, and come back as
//! nine weights. Which tiles are summed together does not depend on threads, so the order of every sum
//! is fixed.

use super::transforms::{gradient_transform, source_transform, weight_back};
use super::weight_sums::{Block, Share, WeightSums, add_up};
use super::winograd::{PLACES, Tiles};
use crate::kernels::simd::{Isa, Kernel, Platform, Simd, launch};
use std::cell::RefCell;
use std::ops::Range;

/// Bytes that a batch of transformed tiles may take, and the fewest and most tiles of one.
const BATCH_BYTES: usize = 1200 << 10;
const BATCH_TILES: [usize; 2] = [64, 256];

/// Floats that set the places apart, so that they do not all fall into one set of the cache.
const APART: usize = 16;

/// Tiles that are summed by themselves: parts of this many, and at most [`PARTS`] parts.
const PART: usize = 256;
const PARTS: usize = 8;

impl WeightSums {
    /// Zeros for tiles; a row of a block is an input channel with its nine taps.
    pub(crate) fn of_tiles(isa: Isa, tiles: &Tiles, room: impl FnOnce(usize) -> Vec<f32>) -> Self {
        Self::zeros(isa, tiles.source.channels, tiles.target.stride(), [1, 9], room)
    }
}

/// The tiles of `images` images in the parts that are summed by themselves.
pub(crate) fn tile_parts(tiles: &Tiles, images: usize) -> Vec<Range<usize>> {
    let total = images * tiles.places.len();
    let part = total.div_ceil(total.div_ceil(PART).clamp(1, PARTS)).max(1);
    (0..total).step_by(part).map(|first| first..total.min(first + part)).collect()
}

thread_local! {
    /// Room for a batch of transformed tiles.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Adds to the sums of a share what some tiles (counted over images) of `images` images contribute.
///
/// # Panics
/// When a slice is too short, or the share belongs to another convolution.
pub(crate) fn tile_gradient(
    isa: Isa,
    tiles: &Tiles,
    range: &Range<usize>,
    images: usize,
    [source, gradient]: [&[f32]; 2],
    share: &mut Share<'_>,
) {
    tiles.check(images, source.len(), gradient.len());
    assert!(range.end <= images * tiles.places.len(), "tiles of these images");
    share.check(tiles.source.channels, 9, tiles.target.stride());
    let Some(first) = share.blocks.first() else { return };
    let stride = tiles.source.stride();
    let columns = share.channels();
    let per_tile = 4 * PLACES * (stride + tiles.target.stride()); // of all shares, so that none matters
    let batch = (BATCH_BYTES / per_tile).clamp(BATCH_TILES[0], BATCH_TILES[1]).min(range.len());
    let room = |channels: usize| PLACES * (batch * channels + APART * (channels / 8)); // as `vector`
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(scratch.len().max(room(stride) + room(columns.len())), 0.0);
        let (sources, gradients) = scratch.split_at_mut(room(stride));
        let kernel = Gradient {
            tiles,
            range: range.clone(),
            batch,
            source: source.as_ptr(),
            gradient: gradient.as_ptr(),
            columns,
            sources: sources.as_mut_ptr(),
            gradients: gradients.as_mut_ptr(),
            blocks: share.blocks,
            first: first.offset,
            sums: share.data.as_mut_ptr(),
        };
        // SAFETY: `check` found every tile inside and the blocks inside the share; the scratch holds a batch
        // of transformed sources, and of gradients of the share's channels.
        unsafe { launch(isa, kernel) }
    });
}

struct Gradient<'a> {
    tiles: &'a Tiles,
    range: Range<usize>,
    batch: usize,
    source: *const f32,
    gradient: *const f32,
    columns: Range<usize>, // output channels of the share
    sources: *mut f32,     // [vector of channels][36][tile][lane]
    gradients: *mut f32,   // the same
    blocks: &'a [Block],
    first: usize,
    sums: *mut f32,
}

impl Kernel for Gradient<'_> {
    #[inline(always)]
    unsafe fn run<P: Platform>(self) {
        let wide = self.tiles.source.stride().is_multiple_of(P::Wide::LANES);
        let lanes = if wide { P::Wide::LANES } else { P::Narrow::LANES };
        for first in self.range.clone().step_by(self.batch) {
            let batch = Batch { of: &self, first, count: self.batch.min(self.range.end - first), lanes };
            // SAFETY: the promise of `tile_gradient`; each vector divides the channels.
            unsafe {
                if wide {
                    batch.sources::<P::Wide>()
                } else {
                    batch.sources::<P::Narrow>()
                }
                for panel in self.blocks.chunk_by(|a, b| a.channel == b.channel) {
                    if panel[0].width.is_multiple_of(P::Wide::LANES) {
                        batch.gradients::<P::Wide>(&panel[0]);
                    } else {
                        batch.gradients::<P::Narrow>(&panel[0]);
                    }
                }
                for block in self.blocks {
                    match (block.width / P::Wide::LANES, P::REGISTERS) {
                        (2, 32) => batch.block::<P::Wide, 8, 2>(block),
                        (2, _) => batch.block::<P::Wide, 4, 2>(block),
                        (1, 32) => batch.block::<P::Wide, 8, 1>(block),
                        (1, _) => batch.block::<P::Wide, 4, 1>(block),
                        _ => batch.block::<P::Narrow, 8, 1>(block), // beside 512 bits only
                    }
                }
            }
        }
    }
}

/// Some of the tiles.
struct Batch<'a, 'b> {
    of: &'b Gradient<'a>,
    first: usize,
    count: usize,
    /// Of the vectors of sources; those of gradients are their panel's.
    lanes: usize,
}

impl Batch<'_, '_> {
    /// Floats from one place to the next.
    #[inline(always)]
    fn place(&self, lanes: usize) -> usize {
        self.of.batch * lanes + APART
    }

    /// Where the vector that begins with a channel lies, whatever the vectors before it.
    #[inline(always)]
    fn vector(&self, channel: usize) -> usize {
        PLACES * (self.of.batch * channel + APART * (channel / 8))
    }

    #[expect(clippy::needless_range_loop, reason = "an iterator keeps `half` out of registers")]
    #[inline(always)]
    unsafe fn sources<S: Simd>(&self) {
        let (tiles, place) = (self.of.tiles, self.place(S::LANES));
        let (layout, stride) = (&tiles.source, tiles.source.stride());
        for t in 0..self.count {
            let (image, tile) = tiles.tile(self.first + t);
            for channel in (0..stride).step_by(S::LANES) {
                // SAFETY: `Tiles::check` found all 6x6 pixels inside.
                unsafe {
                    let from = self.of.source.add(image * layout.image() + tile.source + channel);
                    let to = self.of.sources.add(self.vector(channel) + t * S::LANES);
                    let mut half = [[S::splat(0.0); 6]; 6];
                    for x in 0..6 {
                        let column: [S; 6] =
                            std::array::from_fn(|y| S::load(from.add(y * layout.row() + x * stride)));
                        let column = source_transform(column);
                        for y in 0..6 {
                            half[y][x] = column[y];
                        }
                    }
                    for (y, row) in half.into_iter().enumerate() {
                        for (x, value) in source_transform(row).into_iter().enumerate() {
                            value.store(to.add((y * 6 + x) * place));
                        }
                    }
                }
            }
        }
    }

    #[expect(clippy::needless_range_loop, reason = "an iterator keeps `half` out of registers")]
    #[inline(always)]
    unsafe fn gradients<S: Simd>(&self, panel: &Block) {
        let (tiles, place) = (self.of.tiles, self.place(S::LANES));
        let (layout, stride) = (&tiles.target, tiles.target.stride());
        for t in 0..self.count {
            let (image, tile) = tiles.tile(self.first + t);
            for channel in (panel.channel..panel.channel + panel.width).step_by(S::LANES) {
                // SAFETY: rows and columns that exist lie in the target.
                unsafe {
                    let from = self.of.gradient.add(image * layout.image() + tile.target + channel);
                    let column = channel - self.of.columns.start;
                    let to = self.of.gradients.add(self.vector(column) + t * S::LANES);
                    let mut half = [[S::splat(0.0); 4]; 6];
                    for x in 0..4 {
                        let column: [S; 4] = std::array::from_fn(|y| {
                            let exists = y < tile.rows && x < tile.columns;
                            let at = y * layout.row() + x * stride;
                            if exists { S::load(from.add(at)) } else { S::splat(0.0) }
                        });
                        let column = gradient_transform(column);
                        for y in 0..6 {
                            half[y][x] = column[y];
                        }
                    }
                    for (y, row) in half.into_iter().enumerate() {
                        for (x, value) in gradient_transform(row).into_iter().enumerate() {
                            value.store(to.add((y * 6 + x) * place));
                        }
                    }
                }
            }
        }
    }

    /// `R` input channels by `V` vectors of output channels.
    #[inline(always)]
    unsafe fn block<S: Simd, const R: usize, const V: usize>(&self, block: &Block) {
        let (lanes, place_of_row, place_of_column) =
            (self.lanes, self.place(self.lanes), self.place(S::LANES));
        // SAFETY: the caller's promise. Input channels past the last are there, up to the stride, and
        // nobody reads their sums.
        unsafe {
            let row = block.row / lanes * lanes;
            let rows = self.of.sources.add(self.vector(row) + block.row - row);
            let column = |v: usize| {
                let channel = block.channel - self.of.columns.start + v * S::LANES;
                self.of.gradients.add(self.vector(channel)).cast_const()
            };
            let columns: [*const f32; V] = std::array::from_fn(column);
            let mut places = [[[S::splat(0.0); V]; R]; PLACES];
            for (place, out) in places.iter_mut().enumerate() {
                let columns = columns.map(|c| c.add(place * place_of_column));
                let rows = rows.add(place * place_of_row).cast_const();
                let column = |t: usize, v: usize| S::load(columns[v].add(t * S::LANES));
                add_up(self.count, |t, r| *rows.add(t * self.lanes + r), column, out);
            }
            self.add(&places, block);
        }
    }

    /// Brings the sums at the places back to nine weights and adds them to the total.
    #[expect(clippy::needless_range_loop, reason = "an iterator keeps `half` out of registers")]
    #[inline(always)]
    unsafe fn add<S: Simd, const R: usize, const V: usize>(
        &self,
        places: &[[[S; V]; R]; PLACES],
        block: &Block,
    ) {
        // SAFETY: the share holds nine rows of V vectors for each of R input channels.
        unsafe {
            let total = self.of.sums.add(block.offset - self.of.first);
            for r in 0..R {
                for v in 0..V {
                    let mut half = [[S::splat(0.0); 6]; 3];
                    for x in 0..6 {
                        let column = weight_back(std::array::from_fn(|y| places[y * 6 + x][r][v]));
                        for y in 0..3 {
                            half[y][x] = column[y];
                        }
                    }
                    for (y, row) in half.into_iter().enumerate() {
                        for (x, value) in weight_back(row).into_iter().enumerate() {
                            let at = total.add((((y * 3 + x) * R + r) * V + v) * S::LANES);
                            S::load(at).add(value).store(at);
                        }
                    }
                }
            }
        }
    }
}
