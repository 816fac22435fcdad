//! The transforms of Winograd's F(4x4, 3x3) along one line, at the points 0, 1, -1, 2, -2, infinity.
//!
//! A convolution is `target(weight(w) * source(x))`, all three in both directions of the plane. Its
//! gradient by the weights is `weight_back(gradient(dy) * source(x))`, the transposed maps.

use crate::kernels::simd::Simd;

/// A line of six source pixels, evaluated at the points.
#[inline(always)]
pub(super) unsafe fn source_transform<S: Simd>(d: [S; 6]) -> [S; 6] {
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
pub(super) unsafe fn target_transform<S: Simd>(m: [S; 6]) -> [S; 4] {
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

/// A line of three weights, evaluated at the points.
#[inline(always)]
pub(super) unsafe fn weight_transform<S: Simd>(g: [S; 3]) -> [S; 6] {
    // SAFETY: the caller's processor has the instructions.
    unsafe {
        let by = |x: S, factor: f32| x.mul(S::splat(factor));
        let even = by(g[0].add(g[2]), -1.0 / 6.0);
        let odd = by(g[1], 1.0 / 6.0);
        let even_2 = by(g[2].mul_add(S::splat(4.0), g[0]), 1.0 / 24.0);
        let odd_2 = by(g[1], 1.0 / 12.0);
        [by(g[0], 0.25), even.sub(odd), even.add(odd), even_2.add(odd_2), even_2.sub(odd_2), g[2]]
    }
}

/// The transposed map of [`target_transform`]: a line of four gradients.
#[inline(always)]
pub(super) unsafe fn gradient_transform<S: Simd>(d: [S; 4]) -> [S; 6] {
    // SAFETY: the caller's processor has the instructions.
    unsafe {
        let (even, odd) = (d[0].add(d[2]), d[1].add(d[3]));
        let even_2 = d[2].mul_add(S::splat(4.0), d[0]);
        let odd_2 = d[3].mul_add(S::splat(8.0), d[1].add(d[1]));
        [d[0], even.add(odd), even.sub(odd), even_2.add(odd_2), even_2.sub(odd_2), d[3]]
    }
}

/// The transposed map of [`weight_transform`]: the gradients of three weights.
#[inline(always)]
pub(super) unsafe fn weight_back<S: Simd>(m: [S; 6]) -> [S; 3] {
    // SAFETY: the caller's processor has the instructions.
    unsafe {
        let by = |x: S, factor: f32| x.mul(S::splat(factor));
        let (sum, difference) = (m[1].add(m[2]), m[2].sub(m[1]));
        let (sum_2, difference_2) = (m[3].add(m[4]), m[3].sub(m[4]));
        let first = m[0].mul_add(S::splat(0.25), by(sum_2, 1.0 / 24.0));
        [
            sum.mul_add(S::splat(-1.0 / 6.0), first),
            difference.mul_add(S::splat(1.0 / 6.0), by(difference_2, 1.0 / 12.0)),
            sum_2.sub(sum).mul_add(S::splat(1.0 / 6.0), m[5]),
        ]
    }
}
