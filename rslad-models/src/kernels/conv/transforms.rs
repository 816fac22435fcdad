//! The transforms of Winograd's F(4x4, 3x3) along one line, at the points 0, A, -A, B, -B, infinity.
//!
//! A convolution is `target(weight(w) * source(x))`, all three in both directions of the plane. Its
//! gradient by the weights is `weight_back(gradient(dy) * source(x))`, the transposed maps.
//!
//! With A = 1/sqrt(2) and B = sqrt(2) no transform amplifies much what it is given: over 128 channels the
//! rounding error is 1.1e-6 of the result, where it is 2.5e-6 with the usual points 1 and 2 (direct: 5e-7).

use crate::kernels::simd::Simd;
use std::f32::consts::{FRAC_1_SQRT_2 as A, SQRT_2 as B};

/// A line of six source pixels, evaluated at the points.
#[inline(always)]
pub(super) unsafe fn source_transform<S: Simd>(d: [S; 6]) -> [S; 6] {
    // SAFETY: the caller's processor has the instructions.
    unsafe {
        let even = d[2].mul_add(S::splat(-2.0), d[4]);
        let odd = d[1].mul_add(S::splat(-2.0), d[3]);
        let even_2 = d[2].mul_add(S::splat(-0.5), d[4]);
        let odd_2 = d[1].mul_add(S::splat(-0.5), d[3]);
        let outer = |a: S, b: S, c: S| b.mul_add(S::splat(-2.5), c).add(a);
        [
            outer(d[0], d[2], d[4]),
            odd.mul_add(S::splat(A), even),
            odd.mul_add(S::splat(-A), even),
            odd_2.mul_add(S::splat(B), even_2),
            odd_2.mul_add(S::splat(-B), even_2),
            outer(d[1], d[3], d[5]),
        ]
    }
}

/// Four pixels from a line of products at the points.
#[inline(always)]
pub(super) unsafe fn target_transform<S: Simd>(m: [S; 6]) -> [S; 4] {
    // SAFETY: the caller's processor has the instructions.
    unsafe {
        let (sum, odd) = (m[1].add(m[2]), m[1].sub(m[2]).mul(S::splat(A)));
        let (sum_2, odd_2) = (m[3].add(m[4]), m[3].sub(m[4]).mul(S::splat(B)));
        [
            m[0].add(sum).add(sum_2),
            odd.add(odd_2),
            sum.mul_add(S::splat(0.5), sum_2.add(sum_2)),
            odd.mul_add(S::splat(0.5), odd_2.mul_add(S::splat(2.0), m[5])),
        ]
    }
}

/// A line of three weights, evaluated at the points.
#[inline(always)]
pub(super) unsafe fn weight_transform<S: Simd>(g: [S; 3]) -> [S; 6] {
    // SAFETY: the caller's processor has the instructions.
    unsafe {
        let by = |x: S, factor: f32| x.mul(S::splat(factor));
        let even = by(g[2].mul_add(S::splat(0.5), g[0]), -2.0 / 3.0);
        let odd = by(g[1], -2.0 / 3.0 * A);
        let even_2 = by(g[2].mul_add(S::splat(2.0), g[0]), 1.0 / 6.0);
        let odd_2 = by(g[1], B / 6.0);
        [g[0], even.add(odd), even.sub(odd), even_2.add(odd_2), even_2.sub(odd_2), g[2]]
    }
}

/// The transposed map of [`target_transform`]: a line of four gradients.
#[inline(always)]
pub(super) unsafe fn gradient_transform<S: Simd>(d: [S; 4]) -> [S; 6] {
    // SAFETY: the caller's processor has the instructions.
    unsafe {
        let (even, odd) = (d[2].mul_add(S::splat(0.5), d[0]), d[3].mul_add(S::splat(0.5), d[1]));
        let (even_2, odd_2) = (d[2].mul_add(S::splat(2.0), d[0]), d[3].mul_add(S::splat(2.0), d[1]));
        [
            d[0],
            odd.mul_add(S::splat(A), even),
            odd.mul_add(S::splat(-A), even),
            odd_2.mul_add(S::splat(B), even_2),
            odd_2.mul_add(S::splat(-B), even_2),
            d[3],
        ]
    }
}

/// The transposed map of [`weight_transform`]: the gradients of three weights.
#[inline(always)]
pub(super) unsafe fn weight_back<S: Simd>(m: [S; 6]) -> [S; 3] {
    // SAFETY: the caller's processor has the instructions.
    unsafe {
        let by = |x: S, factor: f32| x.mul(S::splat(factor));
        let (sum, difference) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (sum_2, difference_2) = (m[3].add(m[4]), m[3].sub(m[4]));
        let first = sum_2.mul_add(S::splat(1.0 / 6.0), m[0]);
        [
            sum.mul_add(S::splat(-2.0 / 3.0), first),
            difference.mul_add(S::splat(-2.0 / 3.0 * A), by(difference_2, B / 6.0)),
            sum_2.sub(sum).mul_add(S::splat(1.0 / 3.0), m[5]),
        ]
    }
}
