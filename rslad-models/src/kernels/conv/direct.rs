//! The register-blocked direct convolution: a block of pixels times a panel of channels stays in
//! registers while taps and input channels stream by.

use super::rows::Rows;
use super::{Panels, Sweep};
use crate::kernels::epilogue::{Epilogue, Raw};
use crate::kernels::simd::{Isa, Kernel, Platform, Simd, launch};

/// As many weights stay in the second-level cache while images pass.
const CACHED_WEIGHTS: usize = (768 << 10) / size_of::<f32>();
/// Images are taken in batches of about this many source bytes when the weights stay cached.
const SOURCE_BATCH: usize = 128 << 10;

/// `images` images of a sweep: every target pixel becomes the epilogue of its sum over taps and depth.
///
/// Each sum runs tap by tap, channel by channel, so it does not depend on its neighbors.
///
/// # Panics
/// When the slices are too short for the sweep, or the weights are of another shape.
pub(crate) fn direct(
    isa: Isa,
    sweep: &Sweep,
    weights: &Panels,
    images: usize,
    source: &[f32],
    target: &mut [f32],
    epilogue: &Epilogue<'_>,
) {
    sweep.check(images, source.len(), target.len());
    let panels: usize = weights.widths.iter().sum();
    assert_eq!((weights.taps, weights.depth, panels), (sweep.taps.len(), sweep.depth, sweep.target_stride));
    let to = target.as_mut_ptr();
    let raw = epilogue.raw(to, images * sweep.target_image, sweep.target_stride);
    let kernel = Direct { sweep, weights, images, source: source.as_ptr(), target: to, epilogue: raw };
    // SAFETY: `check` found every read and write inside; the weights were just compared; the epilogue's
    // tensors cover the target.
    unsafe { launch(isa, kernel) }
}

struct Direct<'a> {
    sweep: &'a Sweep,
    weights: &'a Panels,
    images: usize,
    source: *const f32,
    target: *mut f32,
    epilogue: Raw,
}

impl Kernel for Direct<'_> {
    #[inline(always)]
    unsafe fn run<P: Platform>(self) {
        let cached = self.weights.floats() <= CACHED_WEIGHTS;
        let batch = if cached { SOURCE_BATCH / (4 * self.sweep.source_image) } else { self.images };
        let mut first = 0;
        while first < self.images {
            let count = batch.clamp(1, self.images - first);
            let images = Images { direct: &self, first, count };
            // SAFETY: the promise of `direct`, for fewer images.
            unsafe { each_panel::<P>(self.weights, &images) };
            first += count;
        }
    }
}

/// A computation on one panel of weights at a time.
pub(super) trait OnPanel {
    /// Works on the panel that begins at `weights` and is written from `channel` on; it is `V` vectors
    /// wide, and the registers hold `M` pixels.
    ///
    /// # Safety
    /// The computation's own promises.
    unsafe fn panel<S: Simd, const M: usize, const V: usize>(&self, weights: *const f32, channel: usize);
}

/// Takes a computation over all panels, each with the block that fills this platform's registers.
#[inline(always)]
pub(super) unsafe fn each_panel<P: Platform>(panels: &Panels, work: &impl OnPanel) {
    let (mut weights, mut channel) = (panels.data.as_ptr(), 0);
    for &width in &panels.widths {
        // SAFETY: the panels lie one after the other; each arm's block is as wide as the panel.
        unsafe {
            match (width / P::Wide::LANES, P::REGISTERS) {
                (2, 32) => work.panel::<P::Wide, 8, 2>(weights, channel),
                (2, 16) => work.panel::<P::Wide, 6, 2>(weights, channel),
                (2, _) => work.panel::<P::Wide, 2, 2>(weights, channel),
                (1, 8) => work.panel::<P::Wide, 4, 1>(weights, channel),
                (1, _) => work.panel::<P::Wide, 8, 1>(weights, channel),
                _ => work.panel::<P::Narrow, 8, 1>(weights, channel),
            }
            weights = weights.add(panels.taps * panels.depth * width);
        }
        channel += width;
    }
}

/// Some of the images.
struct Images<'a, 'b> {
    direct: &'b Direct<'a>,
    first: usize,
    count: usize,
}

impl OnPanel for Images<'_, '_> {
    #[inline(always)]
    unsafe fn panel<S: Simd, const M: usize, const V: usize>(&self, weights: *const f32, channel: usize) {
        let Self { direct, first, count } = *self;
        // SAFETY: the caller's promise.
        unsafe { direct.panel::<S, M, V>(first, count, weights, channel) }
    }
}

impl Direct<'_> {
    /// Panel `V` vectors wide, `M` pixels at a time.
    #[inline(always)]
    unsafe fn panel<S: Simd, const M: usize, const V: usize>(
        &self,
        first: usize,
        count: usize,
        weights: *const f32,
        channel: usize,
    ) {
        let rows = if V == 1 { Rows::of(self.sweep) } else { None };
        let mut walk = self.sweep.walk(first, 0);
        let mut rest = count * self.sweep.pixels();
        while rest > 0 {
            let n = M.min(rest);
            let in_row = walk.rest_of_row() >= M;
            let (mut from, mut to) = ([self.source; M], [0; M]);
            for m in 0..n {
                let (source, target) = walk.step();
                // SAFETY: `check` found the reads of this pixel inside the source.
                from[m] = unsafe { self.source.add(source) };
                to[m] = target + channel;
            }
            let repeated = (from[0], to[0]);
            from[n..].fill(repeated.0); // a last short block repeats a pixel and drops the copies
            to[n..].fill(repeated.1);
            // SAFETY: the offsets were checked, and the panel holds taps * depth rows of V vectors.
            unsafe {
                let mut block = [[S::splat(0.0); V]; M];
                match rows {
                    Some(rows) if rows.shared && in_row => rows.shared_sums(from[0], weights, &mut block),
                    Some(rows) => rows.sums(&from, weights, &mut block),
                    None => sums(&from, &self.sweep.taps, self.sweep.depth, weights, &mut block),
                }
                self.epilogue.apply_to_block(&mut block, channel, &to);
                for (sums, &to) in block.iter().zip(&to).take(n) {
                    for (v, &sum) in sums.iter().enumerate() {
                        sum.store(self.target.add(to + v * S::LANES));
                    }
                }
            }
            rest -= n;
        }
    }
}

/// So many channels are added without a branch between them: over few, the processor mispredicts where a loop ends.
const UNROLLED: usize = 8;

/// The sums of `M` pixels over all taps and channels. They stay in registers as long as no index into
/// the accumulators depends on data; so the result goes through memory at the very end.
#[inline(always)]
pub(super) unsafe fn sums<S: Simd, const M: usize, const V: usize>(
    from: &[*const f32; M],
    taps: &[usize],
    depth: usize,
    mut weights: *const f32,
    out: &mut [[S; V]; M],
) {
    // SAFETY: the caller's promise: `depth` floats behind every tap of every pixel, and as many rows of
    // weights as there are taps and channels.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; M];
        for &tap in taps {
            let pixel: [*const f32; M] = std::array::from_fn(|m| from[m].add(tap));
            let mut d = 0;
            while d + UNROLLED <= depth {
                for d in d..d + UNROLLED {
                    add_products(&pixel, d, &mut weights, &mut sums);
                }
                d += UNROLLED;
            }
            for d in d..depth {
                add_products(&pixel, d, &mut weights, &mut sums);
            }
        }
        for m in 0..M {
            for v in 0..V {
                std::ptr::write(&raw mut out[m][v], sums[m][v]);
            }
        }
    }
}

/// Adds the products of one channel of `M` pixels and the next row of weights.
#[inline(always)]
pub(super) unsafe fn add_products<S: Simd, const M: usize, const V: usize>(
    pixel: &[*const f32; M],
    channel: usize,
    weights: &mut *const f32,
    sums: &mut [[S; V]; M],
) {
    // SAFETY: the promise of `sums`.
    unsafe {
        let row: [S; V] = std::array::from_fn(|v| S::load(weights.add(v * S::LANES)));
        *weights = weights.add(V * S::LANES);
        for m in 0..M {
            let x = S::splat(*pixel[m].add(channel));
            for v in 0..V {
                sums[m][v] = x.mul_add(row[v], sums[m][v]);
            }
        }
    }
}
