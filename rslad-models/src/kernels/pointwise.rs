//! What happens to each pixel by itself: scale and shift, Swish, sums, and their derivatives.

use super::epilogue::{Epilogue, Raw};
use super::layout::Layout;
use super::simd::{Isa, Kernel, Platform, Simd, launch};

/// The smooth part of a pointwise step; the rectifier belongs to the [`Epilogue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curve {
    Identity,
    Silu,
}

/// `curve(scale * x + shift)`, with one scale and one shift per stored channel.
#[derive(Clone, Copy)]
pub(crate) struct Affine<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
    pub(crate) curve: Curve,
}

/// A scale, a shift and a curve for every pixel; source and target have a layout each.
///
/// # Panics
/// When a slice is too short for `images` images of its layout, or the layouts are of different sizes.
pub(crate) fn affine(
    isa: Isa,
    layouts: [&Layout; 2],
    images: usize,
    source: &[f32],
    by: Affine<'_>,
    target: &mut [f32],
    epilogue: &Epilogue<'_>,
) {
    let pointers =
        Pointers::new(layouts, images, [source, &[]], [by.scale, by.shift, by.shift], target, epilogue);
    // SAFETY: `Pointers::new` checked the lengths.
    unsafe {
        match by.curve {
            Curve::Identity => launch(isa, Step::<0>(pointers)),
            Curve::Silu => launch(isa, Step::<1>(pointers)),
        }
    }
}

/// The way back through `silu(scale * x + shift)`, whatever the curve says: its derivative by `x`, times
/// `gradient`.
///
/// # Panics
/// As [`affine`].
pub(crate) fn silu_backward(
    isa: Isa,
    layout: &Layout,
    images: usize,
    [source, gradient]: [&[f32]; 2],
    by: Affine<'_>,
    target: &mut [f32],
    epilogue: &Epilogue<'_>,
) {
    assert!(!gradient.is_empty(), "a gradient to bring back");
    let pointers = Pointers::new(
        [layout; 2],
        images,
        [source, gradient],
        [by.scale, by.shift, by.shift],
        target,
        epilogue,
    );
    // SAFETY: `Pointers::new` checked the lengths.
    unsafe { launch(isa, Step::<2>(pointers)) }
}

/// `a * x + b * y + c`, with one `[a, b, c]` per stored channel. `x` has a layout, `y` and the target another.
///
/// # Panics
/// As [`affine`].
pub(crate) fn combine(
    isa: Isa,
    layouts: [&Layout; 2],
    images: usize,
    sources: [&[f32]; 2],
    factors: [&[f32]; 3],
    target: &mut [f32],
    epilogue: &Epilogue<'_>,
) {
    assert!(!sources[1].is_empty(), "a second tensor to combine");
    let pointers = Pointers::new(layouts, images, sources, factors, target, epilogue);
    // SAFETY: `Pointers::new` checked the lengths.
    unsafe { launch(isa, Step::<3>(pointers)) }
}

/// The arguments of a step, checked.
struct Pointers<'a> {
    /// Of the first source, and of everything else.
    layouts: [&'a Layout; 2],
    images: usize,
    sources: [*const f32; 2],
    factors: [*const f32; 3],
    target: *mut f32,
    epilogue: Raw,
}

impl<'a> Pointers<'a> {
    fn new(
        layouts: [&'a Layout; 2],
        images: usize,
        sources: [&[f32]; 2], // the second one may be empty where it is not read
        factors: [&[f32]; 3],
        target: &mut [f32],
        epilogue: &Epilogue<'_>,
    ) -> Self {
        let size = |l: &Layout| (l.height, l.width, l.stride());
        assert_eq!(size(layouts[0]), size(layouts[1]), "layouts of one size");
        let [from, len] = layouts.map(|layout| images * layout.image());
        let read = [sources[0].len() >= from, sources[1].is_empty() || sources[1].len() >= len];
        assert!(target.len() >= len && read == [true; 2], "slices hold all images");
        let stride = layouts[1].stride();
        assert!(factors.iter().all(|f| f.len() >= stride), "factors for every stored channel");
        let to = target.as_mut_ptr();
        Self {
            layouts,
            images,
            sources: sources.map(<[f32]>::as_ptr),
            factors: factors.map(<[f32]>::as_ptr),
            target: to,
            epilogue: epilogue.raw(to, len, stride),
        }
    }
}

/// 0: affine, 1: affine and Swish, 2: back through 1, 3: a combination of two tensors.
struct Step<'a, const KIND: u8>(Pointers<'a>);

impl<const KIND: u8> Kernel for Step<'_, KIND> {
    #[inline(always)]
    unsafe fn run<P: Platform>(self) {
        // SAFETY: the promise of `launch`; the vector divides the pixel.
        unsafe {
            if self.0.layouts[1].stride().is_multiple_of(P::Wide::LANES) {
                self.pixels::<P::Wide>();
            } else {
                self.pixels::<P::Narrow>();
            }
        }
    }
}

/// Pixels that are taken together, so that a factor is loaded once for them; memory is still read and written in order.
const TOGETHER: usize = 4;

impl<const KIND: u8> Step<'_, KIND> {
    #[inline(always)]
    unsafe fn pixels<S: Simd>(&self) {
        let p = &self.0;
        let [from, to] = p.layouts;
        for image in 0..p.images {
            for rows in from.rows().zip(to.rows()) {
                let row = [image * from.image() + rows.0, image * to.image() + rows.1];
                let whole = to.width / TOGETHER * TOGETHER;
                // SAFETY: the pixels are inside an image.
                unsafe {
                    (0..whole).step_by(TOGETHER).for_each(|pixel| self.some::<S, TOGETHER>(row, pixel));
                    (whole..to.width).for_each(|pixel| self.some::<S, 1>(row, pixel));
                }
            }
        }
    }

    /// `N` neighbors in a row.
    #[inline(always)]
    unsafe fn some<S: Simd, const N: usize>(&self, row: [usize; 2], pixel: usize) {
        let p = &self.0;
        let stride = p.layouts[1].stride();
        for channel in (0..stride).step_by(S::LANES) {
            // SAFETY: the pixels are inside an image, `channel` is inside a pixel.
            unsafe {
                let factors = [0, 1, 2].map(|i| S::load(p.factors[i].add(channel)));
                for n in 0..N {
                    let [from, at] = row.map(|row| row + (pixel + n) * stride + channel);
                    let value = self.value(from, at, factors);
                    p.epilogue.apply(value, channel, at).store(p.target.add(at));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn value<S: Simd>(&self, from: usize, at: usize, [a, b, c]: [S; 3]) -> S {
        let p = &self.0;
        // SAFETY: the caller's promise.
        unsafe {
            let (x, y) = (S::load(p.sources[0].add(from)), || S::load(p.sources[1].add(at)));
            match KIND {
                0 => x.mul_add(a, b),
                1 => {
                    let u = x.mul_add(a, b);
                    u.mul(u.sigmoid())
                }
                2 => {
                    let (u, one) = (x.mul_add(a, b), S::splat(1.0));
                    let s = u.sigmoid();
                    let slope = s.mul(u.mul_add(one.sub(s), one)); // s (1 + u (1 - s))
                    y().mul(a).mul(slope)
                }
                _ => x.mul_add(a, y().mul_add(b, c)),
            }
        }
    }
}
