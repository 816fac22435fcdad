//! Winograd's convolution F(4x4, 3x3): a tile of 4x4 pixels costs 36 multiplications per pair of
//! channels where the direct sum costs 144.
//!
//! Tiles of 6x6 source pixels are transformed (points 0, 1, -1, 2, -2, infinity), multiplied with the
//! transformed weights, one matrix product for each of the 36 places, and transformed back on their way
//! through the epilogue. Every tile is computed by itself, so results do not depend on the batch.
//!
//! Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016).

use super::direct::{OnPanel, each_panel, sums};
use super::pack::Panels;
use crate::graph::Pad;
use crate::kernels::Layout;
use crate::kernels::epilogue::{Epilogue, Raw};
use crate::kernels::simd::{Isa, Kernel, Platform, Simd, launch};
use std::cell::RefCell;

/// Places of a transformed tile.
const PLACES: usize = 36;

/// Bytes that the transformed tiles of a batch may take: a part of the second-level cache.
const BATCH_BYTES: usize = 1 << 20;

/// The tiles of an image: where each reads and writes, and how many of its pixels exist.
#[derive(Debug)]
pub(crate) struct Tiles {
    places: Vec<Tile>,
    source: Layout,
    target: Layout,
}

#[derive(Clone, Copy, Debug)]
struct Tile {
    source: usize,
    target: usize,
    rows: usize,
    columns: usize,
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

    /// Panics unless `images` images fit into slices of these lengths.
    fn check(&self, images: usize, source: usize, target: usize) {
        let (from, to) = (&self.source, &self.target);
        let last = self.places.iter().map(|t| t.source).max().unwrap_or(0);
        assert!(last + 5 * from.row() + 6 * from.stride() <= from.image(), "a tile reads inside its image");
        assert!(images * from.image() <= source, "tiles read inside their source");
        assert!(images * to.image() <= target, "tiles write inside their target");
    }
}

/// The transformed weights of every pair of channels, `[outputs][inputs][36]`, from
/// `weight(output, input, tap)`.
pub(crate) fn transformed(
    outputs: usize,
    inputs: usize,
    weight: impl Fn(usize, usize, usize) -> f64,
) -> Vec<f32> {
    const G: [[f64; 3]; 6] = [
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];
    let dot = |a: &[f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let mut out = Vec::with_capacity(outputs * inputs * PLACES);
    for (o, i) in (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))) {
        let w: [f64; 9] = std::array::from_fn(|tap| weight(o, i, tap));
        let rows = G.map(|g| [0, 1, 2].map(|x| dot(&g, [w[x], w[3 + x], w[6 + x]])));
        out.extend(rows.iter().flat_map(|&row| G.iter().map(move |g| dot(g, row) as f32)));
    }
    out
}

thread_local! {
    /// Room for the transformed tiles of a batch.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `images` images of a 3x3 convolution with stride 1; `weights` hold the transformed ones, a tap for
/// each of the 36 places.
///
/// # Panics
/// When the slices are too short, or the weights are of another shape.
pub(crate) fn winograd(
    isa: Isa,
    tiles: &Tiles,
    weights: &Panels,
    images: usize,
    source: &[f32],
    target: &mut [f32],
    epilogue: &Epilogue<'_>,
) {
    tiles.check(images, source.len(), target.len());
    let stride = weights.widths.iter().sum::<usize>();
    assert_eq!((weights.taps, weights.depth, stride), (PLACES, tiles.source.channels, tiles.target.stride()));
    let per_tile = PLACES * (tiles.source.stride() + stride);
    let batch = (BATCH_BYTES / (4 * per_tile)).clamp(16, 64).next_multiple_of(8);
    let to = target.as_mut_ptr();
    let epilogue = epilogue.raw(to, images * tiles.target.image(), stride);
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(scratch.len().max(batch * per_tile), 0.0);
        let (inputs, outputs) = scratch.split_at_mut(batch * PLACES * tiles.source.stride());
        let (inputs, outputs) = (inputs.as_mut_ptr(), outputs.as_mut_ptr());
        let source = source.as_ptr();
        let kernel =
            Winograd { tiles, weights, images, source, target: to, epilogue, inputs, outputs, batch };
        // SAFETY: `check` found every read and write inside; the weights were just compared; the scratch
        // holds a batch of transformed sources and targets.
        unsafe { launch(isa, kernel) }
    });
}

struct Winograd<'a> {
    tiles: &'a Tiles,
    weights: &'a Panels,
    images: usize,
    source: *const f32,
    target: *mut f32,
    epilogue: Raw,
    inputs: *mut f32,  // [36][batch][source channels]
    outputs: *mut f32, // [36][batch][target channels]
    batch: usize,
}

impl Kernel for Winograd<'_> {
    #[inline(always)]
    unsafe fn run<P: Platform>(self) {
        let total = self.images * self.tiles.places.len();
        let wide = |stride: usize| stride.is_multiple_of(P::Wide::LANES);
        for first in (0..total).step_by(self.batch) {
            let count = self.batch.min(total - first);
            // SAFETY: the promise of `winograd`; each vector divides the pixel.
            unsafe {
                if wide(self.tiles.source.stride()) {
                    self.transform_sources::<P::Wide>(first, count);
                } else {
                    self.transform_sources::<P::Narrow>(first, count);
                }
                each_panel::<P>(self.weights, &Products { winograd: &self, count });
                if wide(self.tiles.target.stride()) {
                    self.transform_targets::<P::Wide>(first, count);
                } else {
                    self.transform_targets::<P::Narrow>(first, count);
                }
            }
        }
    }
}

/// The matrix products of a batch of tiles.
struct Products<'a, 'b> {
    winograd: &'b Winograd<'a>,
    count: usize,
}

impl OnPanel for Products<'_, '_> {
    #[inline(always)]
    unsafe fn panel<S: Simd, const M: usize, const V: usize>(&self, mut weights: *const f32, channel: usize) {
        let w = self.winograd;
        let (stride, depth, target) = (w.tiles.source.stride(), w.weights.depth, w.tiles.target.stride());
        for place in 0..PLACES {
            for first in (0..self.count).step_by(M) {
                let n = M.min(self.count - first);
                // SAFETY: the scratch holds `batch` tiles at each place; a short block repeats its first
                // tile and drops the copies.
                unsafe {
                    let tile = |m: usize| place * w.batch + first + if m < n { m } else { 0 };
                    let from: [*const f32; M] =
                        std::array::from_fn(|m| w.inputs.add(tile(m) * stride).cast_const());
                    let mut block = [[S::splat(0.0); V]; M];
                    sums(&from, &[0], depth, weights, &mut block);
                    for (m, sums) in block.iter().enumerate().take(n) {
                        let to = w.outputs.add(tile(m) * target + channel);
                        for (v, &sum) in sums.iter().enumerate() {
                            sum.store(to.add(v * S::LANES));
                        }
                    }
                }
            }
            // SAFETY: the panel holds `depth` rows for each place.
            weights = unsafe { weights.add(depth * V * S::LANES) };
        }
    }
}

impl Winograd<'_> {
    fn tile(&self, i: usize) -> (usize, Tile) {
        let n = self.tiles.places.len();
        (i / n, self.tiles.places[i % n])
    }

    #[expect(clippy::needless_range_loop, reason = "an iterator keeps `half` out of registers: 1.6x slower")]
    #[inline(always)]
    unsafe fn transform_sources<S: Simd>(&self, first: usize, count: usize) {
        let (layout, stride) = (&self.tiles.source, self.tiles.source.stride());
        for t in 0..count {
            let (image, tile) = self.tile(first + t);
            for channel in (0..stride).step_by(S::LANES) {
                // SAFETY: `Tiles::check` found all 6x6 pixels inside, and the scratch holds the batch.
                unsafe {
                    let from = self.source.add(image * layout.image() + tile.source + channel);
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
                            value.store(self.inputs.add(((y * 6 + x) * self.batch + t) * stride + channel));
                        }
                    }
                }
            }
        }
    }

    #[expect(clippy::needless_range_loop, reason = "an iterator keeps `half` out of registers: 1.6x slower")]
    #[inline(always)]
    unsafe fn transform_targets<S: Simd>(&self, first: usize, count: usize) {
        let (layout, stride) = (&self.tiles.target, self.tiles.target.stride());
        for t in 0..count {
            let (image, tile) = self.tile(first + t);
            for channel in (0..stride).step_by(S::LANES) {
                // SAFETY: the scratch holds the batch; rows and columns that exist lie in the target.
                unsafe {
                    let mut half = [[S::splat(0.0); 6]; 4];
                    for x in 0..6 {
                        let place = |y: usize| ((y * 6 + x) * self.batch + t) * stride + channel;
                        let column =
                            std::array::from_fn(|y| S::load(self.outputs.add(place(y)).cast_const()));
                        let column = target_transform(column);
                        for y in 0..4 {
                            half[y][x] = column[y];
                        }
                    }
                    let base = image * layout.image() + tile.target + channel;
                    for (y, row) in half.into_iter().enumerate().take(tile.rows) {
                        for (x, value) in target_transform(row).into_iter().enumerate().take(tile.columns) {
                            let at = base + y * layout.row() + x * stride;
                            self.epilogue.apply(value, channel, at).store(self.target.add(at));
                        }
                    }
                }
            }
        }
    }
}

/// A line of six source pixels, evaluated at the points.
#[inline(always)]
unsafe fn source_transform<S: Simd>(d: [S; 6]) -> [S; 6] {
    // SAFETY: the caller's processor has the instructions.
    unsafe {
        let [minus_four, minus_five] = [S::splat(-4.0), S::splat(-5.0)];
        let even = d[2].mul_add(minus_four, d[4]);
        let odd = d[1].mul_add(minus_four, d[3]);
        let even_2 = d[4].sub(d[2]);
        let odd_2 = d[3].sub(d[1]).mul(S::splat(2.0));
        let outer = |a: S, b: S, c: S| a.mul_add(S::splat(4.0), b.mul_add(minus_five, c));
        [
            outer(d[0], d[2], d[4]),
            even.add(odd),
            even.sub(odd),
            even_2.add(odd_2),
            even_2.sub(odd_2),
            outer(d[1], d[3], d[5]),
        ]
    }
}

/// Four pixels from a line of products at the points.
#[inline(always)]
unsafe fn target_transform<S: Simd>(m: [S; 6]) -> [S; 4] {
    // SAFETY: the caller's processor has the instructions.
    unsafe {
        let (sum, difference) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (sum_2, difference_2) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(sum).add(sum_2),
            difference_2.mul_add(S::splat(2.0), difference),
            sum_2.mul_add(S::splat(4.0), sum),
            difference_2.mul_add(S::splat(8.0), difference).add(m[5]),
        ]
    }
}
