//! Winograd's convolution F(4x4, 3x3): a tile of 4x4 pixels costs 36 multiplications per pair of
//! channels where the direct sum costs 144.
//!
//! Tiles of 6x6 source pixels are transformed (evaluated at six points, see [`transforms`](super::transforms)), multiplied with the
//! transformed weights, one matrix product for each of the 36 places, and transformed back on their way
//! through the epilogue. Every tile is computed by itself, so results do not depend on the batch.
//!
//! Weights are transformed while they are used, a panel and some input channels at a time, into a
//! scratch that stays in the second-level cache. Kept in memory, they would be four times the plain
//! ones and slower to read than to make.
//!
//! Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016).

use super::direct::{OnPanel, each_panel, sums};
use super::pack::Panels;
use super::transforms::{source_transform, target_transform, weight_transform};
use crate::graph::Pad;
use crate::kernels::Layout;
use crate::kernels::epilogue::{Epilogue, Raw};
use crate::kernels::simd::{Isa, Kernel, Platform, Simd, launch};
use std::cell::RefCell;
use std::ops::Range;

/// Places of a transformed tile.
pub(super) const PLACES: usize = 36;

/// Bytes that the transformed source tiles of a batch may take. They stream by once for each panel, so
/// they need not stay in the second-level cache; more of them make more of the transformed weights.
const BATCH_BYTES: usize = 2 << 20;

/// Most tiles of a batch.
const BATCH_TILES: usize = 128;

/// Input channels whose weights are transformed together.
const DEPTH: usize = 64;

/// Floats that set the places apart, so that they do not all fall into one set of the cache.
const APART: usize = 16;

/// How a kernel is read: as it lies, or turned around, which is the way back to the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    None,
    Half,
}

/// The tiles of an image: where each reads and writes, and how many of its pixels exist.
#[derive(Debug)]
pub(crate) struct Tiles {
    pub(super) places: Vec<Tile>,
    pub(super) source: Layout,
    pub(super) target: Layout,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub(super) source: usize,
    pub(super) target: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// The border that the source of a 3x3 convolution with this padding needs so that whole tiles can be
/// read; `None` when more than 4 of 10 computed pixels would be thrown away.
pub(crate) fn tile_border(pad: Pad, (height, width): (usize, usize)) -> Option<Pad> {
    let outputs = (height + pad.top + pad.bottom).checked_sub(2)?;
    let columns = (width + pad.left + pad.right).checked_sub(2)?;
    let [whole, whole_columns] = [outputs, columns].map(|n| n.next_multiple_of(4));
    if outputs == 0 || columns == 0 || 6 * whole * whole_columns > 10 * outputs * columns {
        return None;
    }
    let reach = |whole: usize, pad: usize, side: usize| (whole + 2).saturating_sub(pad + side);
    let bottom = reach(whole, pad.top, height);
    let right = reach(whole_columns, pad.left, width);
    Some(Pad { top: pad.top, left: pad.left, bottom, right })
}

impl Tiles {
    /// The tiles of a 3x3 convolution with stride 1.
    pub(crate) fn new(pad: Pad, source: &Layout, target: &Layout) -> Self {
        let starts = |side: usize| (0..side).step_by(4);
        let tile = |y: usize, x: usize| Tile {
            source: source.at(y as isize - pad.top as isize, x as isize - pad.left as isize),
            target: target.at(y as isize, x as isize),
            rows: (target.height - y).min(4),
            columns: (target.width - x).min(4),
        };
        let places = starts(target.height).flat_map(|y| starts(target.width).map(move |x| tile(y, x)));
        Self { places: places.collect(), source: *source, target: *target }
    }

    /// How many an image has.
    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Some runs of the tiles of an image.
    pub(crate) fn only(&self, runs: impl Iterator<Item = Range<usize>>) -> Self {
        let places = runs.flat_map(|tiles| self.places[tiles].iter().copied());
        Self { places: places.collect(), source: self.source, target: self.target }
    }

    /// Panics unless `images` images fit into slices of these lengths, every read and write included. Returns how
    /// far they write.
    pub(super) fn check(&self, images: usize, source: usize, target: usize) -> usize {
        let Some(before_last) = images.checked_sub(1) else { return 0 };
        let (from, to) = (&self.source, &self.target);
        let read = |t: &Tile| t.source + 5 * from.row() + 6 * from.stride();
        let written = |t: &Tile| t.target + (t.rows - 1) * to.row() + t.columns * to.stride();
        let end = |ends: &mut dyn Iterator<Item = usize>| ends.max().unwrap_or(0);
        let read = before_last * from.image() + end(&mut self.places.iter().map(read));
        assert!(read <= source, "tiles read inside their source");
        let written = before_last * to.image() + end(&mut self.places.iter().map(written));
        assert!(written <= target, "tiles write inside their target");
        written
    }

    /// Image and place of a tile, counted over images.
    #[inline(always)]
    pub(super) fn tile(&self, i: usize) -> (usize, Tile) {
        let n = self.places.len();
        (i / n, self.places[i % n])
    }
}

thread_local! {
    /// Room for what is transformed: sources, weights, targets.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `images` images of a 3x3 convolution with stride 1, its weights packed as for [`direct`](super::direct).
///
/// # Panics
/// When the slices are too short, or the weights are of another shape.
pub(crate) fn winograd(
    isa: Isa,
    tiles: &Tiles,
    (weights, turn): (&Panels, Turn),
    images: usize,
    source: &[f32],
    target: &mut [f32],
    epilogue: &Epilogue<'_>,
) {
    let written = tiles.check(images, source.len(), target.len());
    let stride = weights.widths.iter().sum::<usize>();
    assert_eq!((weights.taps, weights.depth, stride), (9, tiles.source.channels, tiles.target.stride()));
    let to = target.as_mut_ptr();
    let epilogue = epilogue.raw(to, written, stride);
    let total = images * tiles.places.len();
    if total == 0 {
        return;
    }
    let room = Room::new(isa, tiles, images);
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(scratch.len().max(room.floats()), 0.0);
        let (inputs, rest) = scratch.split_at_mut(PLACES * room.input);
        let (panel, outputs) = rest.split_at_mut(PLACES * room.panel);
        let kernel = Winograd {
            tiles,
            weights,
            turn,
            total,
            source: source.as_ptr(),
            target: to,
            epilogue,
            inputs: inputs.as_mut_ptr(),
            panel: panel.as_mut_ptr(),
            outputs: outputs.as_mut_ptr(),
            room,
        };
        // SAFETY: `check` found every read and write inside; the weights were just compared; the scratch
        // holds a batch of transformed sources and targets, and a panel of weights.
        unsafe { launch(isa, kernel) }
    });
}

/// The room that a batch takes: tiles, and the floats from one place to the next.
#[derive(Clone, Copy)]
struct Room {
    tiles: usize,
    input: usize,
    panel: usize,
    output: usize,
}

impl Room {
    fn new(isa: Isa, tiles: &Tiles, images: usize) -> Self {
        let (total, width) = (images * tiles.places.len(), 2 * isa.lanes());
        let most = (BATCH_BYTES / (4 * PLACES * tiles.source.stride())).clamp(16, BATCH_TILES);
        let batches = total.div_ceil(most).max(1);
        let n = total.div_ceil(batches).next_multiple_of(8);
        let (input, panel, output) = (n * tiles.source.stride(), DEPTH * width, n * width);
        Self { tiles: n, input: input + APART, panel: panel + APART, output: output + APART }
    }

    fn floats(&self) -> usize {
        PLACES * (self.input + self.panel + self.output)
    }
}

struct Winograd<'a> {
    tiles: &'a Tiles,
    weights: &'a Panels,
    turn: Turn,
    total: usize,
    source: *const f32,
    target: *mut f32,
    epilogue: Raw,
    inputs: *mut f32,  // [36][tile][source channel]
    panel: *mut f32,   // [36][depth][channel of the panel]
    outputs: *mut f32, // [36][tile][channel of the panel]
    room: Room,
}

impl Kernel for Winograd<'_> {
    #[inline(always)]
    unsafe fn run<P: Platform>(self) {
        let batch = self.room.tiles;
        for first in (0..self.total).step_by(batch) {
            let batch = Batch { winograd: &self, first, count: batch.min(self.total - first) };
            // SAFETY: the promise of `winograd`; the vector divides the pixel.
            unsafe {
                if self.tiles.source.stride().is_multiple_of(P::Wide::LANES) {
                    batch.transform_sources::<P::Wide>();
                } else {
                    batch.transform_sources::<P::Narrow>();
                }
                each_panel::<P>(self.weights, &batch);
            }
        }
    }
}

/// Some of the tiles.
struct Batch<'a, 'b> {
    winograd: &'b Winograd<'a>,
    first: usize,
    count: usize,
}

impl OnPanel for Batch<'_, '_> {
    #[inline(always)]
    unsafe fn panel<S: Simd, const M: usize, const V: usize>(&self, weights: *const f32, channel: usize) {
        let depth = self.winograd.weights.depth;
        for first in (0..depth).step_by(DEPTH) {
            let channels = first..depth.min(first + DEPTH);
            // SAFETY: the caller's promise.
            unsafe {
                self.transform_weights::<S, V>(weights, channels.clone());
                self.products::<S, M, V>(channels);
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.transform_targets::<S, V>(channel) }
    }
}

impl Batch<'_, '_> {
    #[expect(clippy::needless_range_loop, reason = "an iterator keeps `half` out of registers: 1.6x slower")]
    #[inline(always)]
    unsafe fn transform_sources<S: Simd>(&self) {
        let w = self.winograd;
        let (layout, stride) = (&w.tiles.source, w.tiles.source.stride());
        for t in 0..self.count {
            let (image, tile) = w.tiles.tile(self.first + t);
            for channel in (0..stride).step_by(S::LANES) {
                // SAFETY: `Tiles::check` found all 6x6 pixels inside, and the scratch holds the batch.
                unsafe {
                    let from = w.source.add(image * layout.image() + tile.source + channel);
                    let to = w.inputs.add(t * stride + channel);
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
                            value.store(to.add((y * 6 + x) * w.room.input));
                        }
                    }
                }
            }
        }
    }

    /// Some input channels of a panel.
    #[expect(clippy::needless_range_loop, reason = "an iterator keeps `half` out of registers: 1.6x slower")]
    #[inline(always)]
    unsafe fn transform_weights<S: Simd, const V: usize>(&self, weights: *const f32, channels: Range<usize>) {
        let w = self.winograd;
        let width = V * S::LANES;
        for (d, channel) in channels.enumerate() {
            for v in 0..V {
                // SAFETY: the panel holds a row for each tap and channel; the scratch holds `DEPTH` rows for
                // each place.
                unsafe {
                    let from = weights.add(channel * width + v * S::LANES);
                    let to = w.panel.add(d * width + v * S::LANES);
                    let tap = |y: usize, x: usize| {
                        let tap = if w.turn == Turn::Half { 8 - (y * 3 + x) } else { y * 3 + x };
                        S::load(from.add(tap * w.weights.depth * width))
                    };
                    let mut half = [[S::splat(0.0); 3]; 6];
                    for x in 0..3 {
                        let column = weight_transform([tap(0, x), tap(1, x), tap(2, x)]);
                        for y in 0..6 {
                            half[y][x] = column[y];
                        }
                    }
                    for (y, row) in half.into_iter().enumerate() {
                        for (x, value) in weight_transform(row).into_iter().enumerate() {
                            value.store(to.add((y * 6 + x) * w.room.panel));
                        }
                    }
                }
            }
        }
    }

    /// Adds the products over some input channels; the first ones replace what was there.
    #[inline(always)]
    unsafe fn products<S: Simd, const M: usize, const V: usize>(&self, channels: Range<usize>) {
        let w = self.winograd;
        let (stride, width) = (w.tiles.source.stride(), V * S::LANES);
        for place in 0..PLACES {
            for first in (0..self.count).step_by(M) {
                let n = M.min(self.count - first);
                // SAFETY: the scratch holds the batch at each place; a short block repeats its first tile
                // and drops the copies.
                unsafe {
                    let inputs = w.inputs.add(place * w.room.input + channels.start).cast_const();
                    let from: [*const f32; M] =
                        std::array::from_fn(|m| inputs.add((first + if m < n { m } else { 0 }) * stride));
                    let panel = w.panel.add(place * w.room.panel).cast_const();
                    let mut block = [[S::splat(0.0); V]; M];
                    sums(&from, &[0], channels.len(), panel, &mut block);
                    for (m, sums) in block.iter().enumerate().take(n) {
                        let to = w.outputs.add(place * w.room.output + (first + m) * width);
                        for (v, &sum) in sums.iter().enumerate() {
                            let to = to.add(v * S::LANES);
                            if channels.start > 0 { sum.add(S::load(to)).store(to) } else { sum.store(to) }
                        }
                    }
                }
            }
        }
    }

    #[expect(clippy::needless_range_loop, reason = "an iterator keeps `half` out of registers: 1.6x slower")]
    #[inline(always)]
    unsafe fn transform_targets<S: Simd, const V: usize>(&self, channel: usize) {
        let w = self.winograd;
        let (layout, stride) = (&w.tiles.target, w.tiles.target.stride());
        for t in 0..self.count {
            let (image, tile) = w.tiles.tile(self.first + t);
            for c in (0..V * S::LANES).step_by(S::LANES) {
                // SAFETY: the scratch holds the batch; rows and columns that exist lie in the target.
                unsafe {
                    let from = w.outputs.add(t * V * S::LANES + c).cast_const();
                    let mut half = [[S::splat(0.0); 6]; 4];
                    for x in 0..6 {
                        let column = std::array::from_fn(|y| S::load(from.add((y * 6 + x) * w.room.output)));
                        let column = target_transform(column);
                        for y in 0..4 {
                            half[y][x] = column[y];
                        }
                    }
                    let base = image * layout.image() + tile.target + channel + c;
                    for (y, row) in half.into_iter().enumerate().take(tile.rows) {
                        let at = base + y * layout.row();
                        let to: [usize; 4] = std::array::from_fn(|x| at + x * stride);
                        let mut line = target_transform(row).map(|value| [value]);
                        if tile.columns == 4 {
                            w.epilogue.apply_to_block(&mut line, channel + c, &to);
                            for ([value], to) in line.into_iter().zip(to) {
                                value.store(w.target.add(to));
                            }
                            continue;
                        }
                        for ([value], to) in line.into_iter().zip(to).take(tile.columns) {
                            w.epilogue.apply(value, channel + c, to).store(w.target.add(to));
                        }
                    }
                }
            }
        }
    }
}
