//! Convolutions that keep channels apart. Nothing is reduced over channels, so a vector of channels is
//! multiplied by a vector of weights, tap by tap. The walks are those of [`conv`](super::conv), in both
//! directions.

use super::conv::Sweep;
use super::epilogue::{Epilogue, Raw};
use super::simd::{Isa, Kernel, Platform, Simd, launch};

/// `images` images of a sweep; `weights` are `[tap][stored channel]`.
///
/// # Panics
/// When the slices are too short for the sweep, or it does not read whole pixels.
pub(crate) fn depthwise(
    isa: Isa,
    sweep: &Sweep,
    weights: &[f32],
    images: usize,
    source: &[f32],
    target: &mut [f32],
    epilogue: &Epilogue<'_>,
) {
    sweep.check(images, source.len(), target.len());
    assert_eq!(sweep.depth, sweep.target_stride, "a depthwise sweep reads and writes whole pixels");
    assert_eq!(weights.len(), sweep.taps.len() * sweep.depth);
    let to = target.as_mut_ptr();
    let raw = epilogue.raw(to, images * sweep.target_image, sweep.target_stride);
    let kernel = Depthwise {
        sweep,
        weights: weights.as_ptr(),
        images,
        source: source.as_ptr(),
        target: to,
        epilogue: raw,
    };
    // SAFETY: `check` found every read and write inside; there is a weight for every tap and channel;
    // the epilogue's tensors cover the target.
    unsafe { launch(isa, kernel) }
}

struct Depthwise<'a> {
    sweep: &'a Sweep,
    weights: *const f32,
    images: usize,
    source: *const f32,
    target: *mut f32,
    epilogue: Raw,
}

impl Kernel for Depthwise<'_> {
    #[inline(always)]
    unsafe fn run<P: Platform>(self) {
        // SAFETY: the promise of `depthwise`; the vector divides the pixel.
        unsafe {
            match (self.sweep.depth % P::Wide::LANES, P::REGISTERS) {
                (0, 8) => self.blocks::<P::Wide, 4>(),
                (0, _) => self.blocks::<P::Wide, 8>(),
                _ => self.blocks::<P::Narrow, 8>(),
            }
        }
    }
}

impl Depthwise<'_> {
    #[inline(always)]
    unsafe fn blocks<S: Simd, const M: usize>(&self) {
        let mut walk = self.sweep.walk(0, 0);
        let mut rest = self.images * self.sweep.pixels();
        while rest > 0 {
            let n = M.min(rest);
            let (mut from, mut to) = ([self.source; M], [0; M]);
            for m in 0..n {
                let (source, target) = walk.step();
                // SAFETY: `check` found the reads of this pixel inside the source.
                from[m] = unsafe { self.source.add(source) };
                to[m] = target;
            }
            let repeated = from[0];
            from[n..].fill(repeated);
            for channel in (0..self.sweep.depth).step_by(S::LANES) {
                // SAFETY: whole vectors of whole pixels; see `depthwise`.
                unsafe {
                    let mut block = [S::splat(0.0); M];
                    self.sums(&from, channel, &mut block);
                    for (&sum, to) in block.iter().zip(&to).take(n) {
                        let at = to + channel;
                        self.epilogue.apply(sum, channel, at).store(self.target.add(at));
                    }
                }
            }
            rest -= n;
        }
    }

    #[inline(always)]
    unsafe fn sums<S: Simd, const M: usize>(&self, from: &[*const f32; M], channel: usize, out: &mut [S; M]) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [S::splat(0.0); M];
            let mut weight = self.weights.add(channel);
            for &tap in &self.sweep.taps {
                let w = S::load(weight);
                weight = weight.wrapping_add(self.sweep.depth);
                for m in 0..M {
                    sums[m] = S::load(from[m].add(tap + channel)).mul_add(w, sums[m]);
                }
            }
            for m in 0..M {
                std::ptr::write(&raw mut out[m], sums[m]);
            }
        }
    }
}

/// Channels of a block of [`depthwise_weight_gradient`].
pub(crate) const BLOCK: usize = 8;

/// Sums run over this many pixels of an image before they join the total; all channels take their turn
/// while these pixels are in the cache.
const RUN: usize = 256;

/// Adds to `sums`, `[channel block][tap][8]`, what `images` images contribute to the gradient of the weights.
///
/// # Panics
/// When the slices are too short for the sweep, or `sums` is not a whole number of its blocks.
pub(crate) fn depthwise_weight_gradient(
    isa: Isa,
    sweep: &Sweep,
    images: usize,
    source: &[f32],
    gradient: &[f32],
    sums: &mut [f32],
) {
    sweep.check(images, source.len(), gradient.len());
    let block = sweep.taps.len() * BLOCK;
    assert!(sums.len().is_multiple_of(block), "whole blocks of sums");
    assert!(sums.len() / block * BLOCK <= sweep.depth.min(sweep.target_stride));
    let blocks = sums.len() / block;
    let (source, gradient) = (source.as_ptr(), gradient.as_ptr());
    let kernel = WeightGradient { sweep, images, source, gradient, blocks, sums: sums.as_mut_ptr() };
    // SAFETY: `check` found every read inside, the channels are inside a pixel, and `sums` holds 8
    // floats for every tap of every block.
    unsafe { launch(isa, kernel) }
}

/// The sum of some sums of [`depthwise_weight_gradient`], in order, `[channels][taps]`.
pub(crate) fn read(parts: &[&[f32]], channels: usize, taps: usize) -> Vec<f32> {
    let at = |c: usize, tap: usize| (c / BLOCK * taps + tap) * BLOCK + c % BLOCK;
    let total = |i: usize| parts.iter().map(|part| part[i]).sum();
    (0..channels).flat_map(|c| (0..taps).map(move |tap| at(c, tap))).map(total).collect()
}

struct WeightGradient<'a> {
    sweep: &'a Sweep,
    images: usize,
    source: *const f32,
    gradient: *const f32,
    blocks: usize,
    sums: *mut f32,
}

impl Kernel for WeightGradient<'_> {
    #[inline(always)]
    unsafe fn run<P: Platform>(self) {
        const TAPS: usize = 9;
        let taps = self.sweep.taps.len();
        for (image, pixel) in (0..self.images)
            .flat_map(|image| (0..self.sweep.pixels()).step_by(RUN).map(move |pixel| (image, pixel)))
        {
            for block in 0..self.blocks {
                for tap in (0..taps).step_by(TAPS) {
                    // SAFETY: the promise of `depthwise_weight_gradient`.
                    unsafe { self.taps::<P::Narrow, TAPS>(block, tap, image, pixel) }
                }
            }
        }
    }
}

impl WeightGradient<'_> {
    #[inline(always)]
    unsafe fn taps<S: Simd, const T: usize>(&self, block: usize, tap: usize, image: usize, pixel: usize) {
        let taps = &self.sweep.taps[tap..];
        let channel = block * BLOCK;
        let total = block * self.sweep.taps.len() + tap;
        // SAFETY: the caller's promise. Taps past the end repeat the last one and are dropped.
        unsafe {
            let x: [*const f32; T] =
                std::array::from_fn(|t| self.source.add(taps[t.min(taps.len() - 1)] + channel));
            let mut done = [S::splat(0.0); T];
            {
                let mut sums = [S::splat(0.0); T];
                let mut walk = self.sweep.walk(image, pixel);
                for _ in pixel..self.sweep.pixels().min(pixel + RUN) {
                    let (from, to) = walk.step();
                    let d = S::load(self.gradient.add(to + channel));
                    for t in 0..T {
                        sums[t] = S::load(x[t].add(from)).mul_add(d, sums[t]);
                    }
                }
                for t in 0..T {
                    std::ptr::write(&raw mut done[t], sums[t]);
                }
            }
            for (t, &sum) in done.iter().enumerate().take(taps.len()) {
                let at = self.sums.add((total + t) * S::LANES);
                S::load(at).add(sum).store(at);
            }
        }
    }
}
