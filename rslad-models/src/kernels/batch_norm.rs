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
    sums(isa, [layout; 2], images, [x, x], [&zeros, &zeros], out, Sums::Moments);
}

/// For each image, the sums of `gradient` and of `gradient * (x - mean) * inverse`, per stored
/// channel: `out` is `[images][2][stride]`. `x` and the gradient have a layout each.
///
/// # Panics
/// When a slice is too short, or the layouts are of different sizes.
pub(crate) fn gradient_sums(
    isa: Isa,
    layouts: [&Layout; 2],
    images: usize,
    [x, gradient]: [&[f32]; 2],
    [mean, inverse]: [&[f32]; 2],
    out: &mut [f32],
) {
    sums(isa, layouts, images, [x, gradient], [mean, inverse], out, Sums::Gradient);
}

/// Vectors of channels that are summed together: a line of the cache on AVX2.
const TOGETHER: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sums {
    Moments,
    Gradient,
}

fn sums(
    isa: Isa,
    layouts: [&Layout; 2],
    images: usize,
    tensors: [&[f32]; 2],
    channels: [&[f32]; 2],
    out: &mut [f32],
    what: Sums,
) {
    let size = |l: &Layout| (l.height, l.width, l.stride());
    assert_eq!(size(layouts[0]), size(layouts[1]), "layouts of one size");
    let whole = tensors.iter().zip(layouts).all(|(t, layout)| t.len() >= images * layout.image());
    assert!(whole, "slices hold all images");
    let stride = layouts[0].stride();
    assert!(channels.iter().all(|c| c.len() >= stride), "a number for every stored channel");
    assert!(out.len() >= images * 2 * stride, "room for two sums of every image and channel");
    let kernel = SumKernel {
        layouts,
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
    layouts: [&'a Layout; 2], // of each tensor
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
            if self.layouts[0].stride().is_multiple_of(P::Wide::LANES) {
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
        let stride = self.layouts[0].stride();
        for image in 0..self.images {
            // SAFETY: the image is inside the tensors, and `out` has two rows for each.
            unsafe {
                let [x, g] = [0, 1].map(|i| self.tensors[i].add(image * self.layouts[i].image()));
                let [first, second] = [0, stride].map(|row| self.out.add(image * 2 * stride + row));
                match self.what {
                    Sums::Moments => self.moments::<S>(x, first, second),
                    Sums::Gradient => self.gradient::<S>(x, g, [first, second]),
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn moments<S: Simd>(&self, x: *const f32, mean: *mut f32, squares: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            self.over_rows([mean], |[at, _], _| [S::load(x.add(at))]);
            let pixels = S::splat(self.layouts[0].pixels() as f32);
            self.each_channel::<S>(|c| S::load(mean.add(c)).div(pixels).store(mean.add(c)));
            self.over_rows([squares], |[at, _], channel| {
                let d = S::load(x.add(at)).sub(S::load(mean.add(channel)));
                [d.mul(d)]
            });
        }
    }

    #[inline(always)]
    unsafe fn gradient<S: Simd>(&self, x: *const f32, g: *const f32, sums: [*mut f32; 2]) {
        let [mean, inverse] = self.channels;
        // SAFETY: the caller's promise.
        unsafe {
            self.over_rows(sums, |at, channel| {
                let g = S::load(g.add(at[1]));
                [g, S::load(x.add(at[0])).sub(S::load(mean.add(channel))).mul(g)]
            });
            let weighted = sums[1];
            self.each_channel::<S>(|c| {
                S::load(weighted.add(c)).mul(S::load(inverse.add(c))).store(weighted.add(c));
            });
        }
    }

    #[inline(always)]
    fn each_channel<S: Simd>(&self, f: impl Fn(usize)) {
        (0..self.layouts[0].stride()).step_by(S::LANES).for_each(f);
    }

    /// Sums over the pixels of an image: along rows, then over rows, all channels of a row while it is
    /// in the cache.
    #[inline(always)]
    unsafe fn over_rows<S: Simd, const N: usize>(
        &self,
        sums: [*mut f32; N],
        term: impl Fn([usize; 2], usize) -> [S; N],
    ) {
        let [one, other] = self.layouts;
        let stride = one.stride();
        // SAFETY: the caller's promise.
        unsafe {
            self.each_channel::<S>(|c| sums.iter().for_each(|sum| S::splat(0.0).store(sum.add(c))));
            let whole = stride / (TOGETHER * S::LANES) * TOGETHER * S::LANES;
            for rows in one.rows().zip(other.rows()) {
                let rows = [rows.0, rows.1];
                for channel in (0..whole).step_by(TOGETHER * S::LANES) {
                    self.over_row::<S, N, TOGETHER>(sums, rows, channel, &term);
                }
                for channel in (whole..stride).step_by(S::LANES) {
                    self.over_row::<S, N, 1>(sums, rows, channel, &term);
                }
            }
        }
    }

    /// Adds the sums over a row, of `V` vectors of channels.
    #[expect(clippy::needless_range_loop, reason = "an iterator may keep `line` out of registers")]
    #[inline(always)]
    unsafe fn over_row<S: Simd, const N: usize, const V: usize>(
        &self,
        sums: [*mut f32; N],
        rows: [usize; 2],
        channel: usize,
        term: &impl Fn([usize; 2], usize) -> [S; N],
    ) {
        let layout = self.layouts[0];
        // SAFETY: the caller's promise.
        unsafe {
            let mut line = [[S::splat(0.0); N]; V];
            for pixel in 0..layout.width {
                for v in 0..V {
                    let channel = channel + v * S::LANES;
                    let terms = term(rows.map(|row| row + pixel * layout.stride() + channel), channel);
                    for n in 0..N {
                        line[v][n] = line[v][n].add(terms[n]);
                    }
                }
            }
            for v in 0..V {
                for n in 0..N {
                    let sum = sums[n].add(channel + v * S::LANES);
                    S::load(sum).add(line[v][n]).store(sum);
                }
            }
        }
    }
}
