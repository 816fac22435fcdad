//! The sums of a block one vector wide, where kernels have rows of three taps.
//!
//! Such a block loads a float for every product, and the floats of its pixels at one channel lie in the same
//! bank of the cache. But what a pixel reads at its second tap, its neighbor reads at its first: along a row
//! each float serves three products.

use super::Sweep;
use super::direct::add_products;
use crate::kernels::simd::Simd;

/// Taps as rows of three, each one pixel from the next.
#[derive(Clone, Copy)]
pub(super) struct Rows<'s> {
    sweep: &'s Sweep,
    /// From a tap to the next.
    across: usize,
    /// Whether the taps run against the pixels, as on the way back.
    turned: bool,
    /// Whether pixels are as far from each other as taps are.
    pub(super) shared: bool,
}

impl<'s> Rows<'s> {
    /// The rows of a sweep's taps, if they are such. Whether they are does not depend on which pixels are walked, and the
    /// order of a sum is a matter of the taps alone.
    pub(super) fn of(sweep: &'s Sweep) -> Option<Self> {
        let &[first, second, ..] = &*sweep.taps else { return None };
        let (across, turned) = (first.abs_diff(second), second < first);
        let next = |tap: usize| if turned { tap.checked_sub(across) } else { Some(tap + across) };
        let (rows, rest) = sweep.taps.as_chunks::<3>();
        let even = rows.iter().all(|&[a, b, c]| next(a) == Some(b) && next(b) == Some(c));
        let shared = across == sweep.sources.pixel;
        (even && rest.is_empty()).then_some(Self { sweep, across, turned, shared })
    }

    /// How far behind a pixel's first read each row begins, and the weights of its taps from left to right.
    #[inline(always)]
    unsafe fn each<S: Simd, const V: usize>(
        &self,
        weights: *const f32,
    ) -> impl Iterator<Item = (usize, [*const f32; 3])> {
        let (turned, floats) = (self.turned, self.sweep.depth * V * S::LANES);
        let rows = self.sweep.taps.as_chunks::<3>().0.iter().enumerate();
        rows.map(move |(i, &[first, _, last])| {
            let tap = |k: usize| 3 * i + if turned { 2 - k } else { k };
            // SAFETY: the caller's promise: `depth` rows of weights for each tap.
            (first.min(last), std::array::from_fn(|k| unsafe { weights.add(tap(k) * floats) }))
        })
    }

    /// The sums of `M` pixels, row by row, channel by channel, tap by tap.
    ///
    /// # Safety
    /// `depth` floats lie behind every tap of every pixel, and there are as many rows of weights as there are taps
    /// and channels.
    #[inline(always)]
    pub(super) unsafe fn sums<S: Simd, const M: usize, const V: usize>(
        &self,
        from: &[*const f32; M],
        weights: *const f32,
        out: &mut [[S; V]; M],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; M];
            for (tap, mut weights) in self.each::<S, V>(weights) {
                let pixels: [[*const f32; M]; 3] =
                    std::array::from_fn(|k| from.map(|pixel| pixel.add(tap + k * self.across)));
                for channel in 0..self.sweep.depth {
                    for (pixel, row) in pixels.iter().zip(&mut weights) {
                        add_products(pixel, channel, row, &mut sums);
                    }
                }
            }
            for m in 0..M {
                for v in 0..V {
                    std::ptr::write(&raw mut out[m][v], sums[m][v]);
                }
            }
        }
    }

    /// As [`Rows::sums`], to the bit, for `M` neighbors in a row where rows are shared.
    ///
    /// # Safety
    /// As [`Rows::sums`].
    #[inline(always)]
    pub(super) unsafe fn shared_sums<S: Simd, const M: usize, const V: usize>(
        &self,
        from: *const f32,
        weights: *const f32,
        out: &mut [[S; V]; M],
    ) {
        // SAFETY: the caller's promise; the last neighbor reads two pixels beyond its own.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; M];
            for (tap, mut weights) in self.each::<S, V>(weights) {
                let pixel = from.add(tap);
                for channel in 0..self.sweep.depth {
                    let rows: [[S; V]; 3] = std::array::from_fn(|k| {
                        std::array::from_fn(|v| S::load(weights[k].add(v * S::LANES)))
                    });
                    weights = weights.map(|row| row.add(V * S::LANES));
                    for i in 0..M + 2 {
                        let x = S::splat(*pixel.add(i * self.across + channel));
                        for k in 0..3 {
                            if i >= k && i - k < M {
                                for v in 0..V {
                                    sums[i - k][v] = x.mul_add(rows[k][v], sums[i - k][v]);
                                }
                            }
                        }
                    }
                }
            }
            for m in 0..M {
                for v in 0..V {
                    std::ptr::write(&raw mut out[m][v], sums[m][v]);
                }
            }
        }
    }
}
