//! Statistics of a batch, one image at a time.
//!
//! An image's sums run along rows, then over rows, in f32; images are put together in f64 by whoever
//! calls. So the result does not depend on how images were shared out over threads, and rounds less
//! than one long sum.

use super::layout::Layout;
use super::simd::{Isa, Kernel, Platform, Simd, launch};

/// For each image, its mean and its sum of squared deviations from that mean, per stored channel:
/// `out` is `[images][2][stride]`.
///
/// # Panics
/// When a slice is too short.
pub(crate) fn moments(isa: Isa, layout: &Layout, images: usize, x: &[f32], out: &mut [f32]) {
    let zeros = vec![0.0; layout.stride()];
    sums(isa, layout, images, [x, x], [&zeros, &zeros], out, Sums::Moments);
}

/// For each image, the sums of `gradient` and of `gradient * (x - mean) * inverse`, per stored
/// channel: `out` is `[images][2][stride]`.
///
/// # Panics
/// When a slice is too short.
pub(crate) fn gradient_sums(
    isa: Isa,
    layout: &Layout,
    images: usize,
    [x, gradient]: [&[f32]; 2],
    [mean, inverse]: [&[f32]; 2],
    out: &mut [f32],
) {
    sums(isa, layout, images, [x, gradient], [mean, inverse], out, Sums::Gradient);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sums {
    Moments,
    Gradient,
}

fn sums(
    isa: Isa,
    layout: &Layout,
    images: usize,
    tensors: [&[f32]; 2],
    channels: [&[f32]; 2],
    out: &mut [f32],
    what: Sums,
) {
    assert!(tensors.iter().all(|t| t.len() >= images * layout.image()), "slices hold all images");
    assert!(channels.iter().all(|c| c.len() >= layout.stride()), "a number for every stored channel");
    assert!(out.len() >= images * 2 * layout.stride(), "room for two sums of every image and channel");
    let kernel = SumKernel {
        layout,
        images,
        tensors: tensors.map(<[f32]>::as_ptr),
        channels: channels.map(<[f32]>::as_ptr),
        out: out.as_mut_ptr(),
        what,
    };
    // SAFETY: the lengths were just checked.
    unsafe { launch(isa, kernel) }
}

struct SumKernel<'a> {
    layout: &'a Layout,
    images: usize,
    tensors: [*const f32; 2],
    channels: [*const f32; 2],
    out: *mut f32,
    what: Sums,
}

impl Kernel for SumKernel<'_> {
    #[inline(always)]
    unsafe fn run<P: Platform>(self) {
        // SAFETY: the promise of `sums`; the vector divides the pixel.
        unsafe {
            if self.layout.stride().is_multiple_of(P::Wide::LANES) {
                self.images::<P::Wide>();
            } else {
                self.images::<P::Narrow>();
            }
        }
    }
}

impl SumKernel<'_> {
    #[inline(always)]
    unsafe fn images<S: Simd>(&self) {
        let stride = self.layout.stride();
        for image in 0..self.images {
            for channel in (0..stride).step_by(S::LANES) {
                let base = image * self.layout.image() + channel;
                // SAFETY: the channel is inside a pixel, the image inside the tensors, and `out` has two
                // rows for each image.
                unsafe {
                    let (first, second) = match self.what {
                        Sums::Moments => self.moments::<S>(base),
                        Sums::Gradient => self.gradient::<S>(base, channel),
                    };
                    let out = self.out.add(image * 2 * stride + channel);
                    first.store(out);
                    second.store(out.add(stride));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn moments<S: Simd>(&self, base: usize) -> (S, S) {
        // SAFETY: the caller's promise.
        unsafe {
            let x = self.tensors[0].add(base);
            let total = self.over_pixels(|at| [S::load(x.add(at)), S::splat(0.0)])[0];
            let mean = total.div(S::splat(self.layout.pixels() as f32));
            let squares = self.over_pixels(|at| {
                let d = S::load(x.add(at)).sub(mean);
                [d.mul(d), S::splat(0.0)]
            });
            (mean, squares[0])
        }
    }

    #[inline(always)]
    unsafe fn gradient<S: Simd>(&self, base: usize, channel: usize) -> (S, S) {
        // SAFETY: the caller's promise.
        unsafe {
            let (x, g) = (self.tensors[0].add(base), self.tensors[1].add(base));
            let [mean, inverse] = self.channels.map(|c| S::load(c.add(channel)));
            let [plain, weighted] = self.over_pixels(|at| {
                let g = S::load(g.add(at));
                [g, S::load(x.add(at)).sub(mean).mul(g)]
            });
            (plain, weighted.mul(inverse))
        }
    }

    /// Two sums over the pixels of an image: along rows, then over rows.
    #[inline(always)]
    unsafe fn over_pixels<S: Simd>(&self, term: impl Fn(usize) -> [S; 2]) -> [S; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut total = [S::splat(0.0); 2];
            for row in self.layout.rows() {
                let mut line = [S::splat(0.0); 2];
                for pixel in 0..self.layout.width {
                    let [a, b] = term(row + pixel * self.layout.stride());
                    line = [line[0].add(a), line[1].add(b)];
                }
                total = [total[0].add(line[0]), total[1].add(line[1])];
            }
            total
        }
    }
}
