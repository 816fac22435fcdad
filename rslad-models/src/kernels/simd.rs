//! Vectors of floats and the instruction sets that have them.
//!
//! A kernel is a value with a `run` that is generic over a [`Platform`]; [`launch`] compiles it once
//! per instruction set and calls the right copy.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use portable::Portable;

/// An instruction set that the kernels are compiled for.
///
/// Results are the same bits for every batch split and thread count on one instruction set; between
/// sets they differ by rounding, because AVX2 and AVX-512 fuse multiply and add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, on any processor.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors.
    Avx512,
}

impl Isa {
    /// Every instruction set, the slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this processor has it.
    pub fn available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The fastest that this processor has.
    pub fn best() -> Self {
        Self::ALL.into_iter().rev().find(|isa| isa.available()).unwrap_or(Self::Portable)
    }

    /// Its name in `RSLAD_EXEC`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Floats in its widest vector.
    pub(crate) fn lanes(self) -> usize {
        if self == Self::Avx512 { 16 } else { 8 }
    }
}

/// Some floats, worked on together.
///
/// The methods are unsafe because their instructions must exist on the processor: they are called
/// below [`launch`] only, which has checked it. `load` and `store` also need `LANES` floats behind
/// their pointer.
pub(super) trait Simd: Copy {
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + term`, fused where the processor can.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The smaller; the second where one is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// The larger; the second where one is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// `self`, but 0 where `gate <= 0`: the derivative of the rectifier, open for NaN.
    unsafe fn gated(self, gate: Self) -> Self;
    /// `2^n`, where the low bits of the float `self` hold the biased exponent `n + 127`.
    unsafe fn exponent_from_low_bits(self) -> Self;

    /// `max(self, 0)` that keeps NaN.
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::splat(0.0).max(self) }
    }

    /// `1 / (1 + exp(-self))`, to about 2 units in the last place.
    #[inline(always)]
    unsafe fn sigmoid(self) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let one = Self::splat(1.0);
            one.div(one.add(Self::splat(0.0).sub(self).exp()))
        }
    }

    /// The exponential function, its argument cut to [-87, 88].
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // Adding MAGIC leaves round(x / ln 2) + 127 in the low bits of the sum.
        const MAGIC: f32 = 12_582_912.0 + 127.0; // 1.5 * 2^23 + exponent bias
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        const TAYLOR: [f32; 6] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];
        // SAFETY: the caller's promise.
        unsafe {
            let x = Self::splat(-87.0).max(Self::splat(88.0).min(self));
            let shifted = x.mul_add(Self::splat(std::f32::consts::LOG2_E), Self::splat(MAGIC));
            let n = shifted.sub(Self::splat(MAGIC));
            let r = n.mul_add(Self::splat(-LN_2_HIGH), x);
            let r = n.mul_add(Self::splat(-LN_2_LOW), r);
            let mut p = Self::splat(1.0 / 5040.0);
            for c in TAYLOR {
                p = p.mul_add(r, Self::splat(c));
            }
            p.mul_add(r, Self::splat(1.0)).mul(shifted.exponent_from_low_bits())
        }
    }
}

/// The vectors of an instruction set.
pub(super) trait Platform {
    /// Its widest vector.
    type Wide: Simd;
    /// A vector of 8, for channel counts that `Wide` does not divide.
    type Narrow: Simd;
    /// Vector registers, counted in `Wide`.
    const REGISTERS: usize;
}

/// A computation with its arguments, to be compiled for every instruction set.
pub(super) trait Kernel {
    /// Runs it.
    ///
    /// # Safety
    /// The processor must have `P`, and what the pointers inside promise must hold.
    unsafe fn run<P: Platform>(self);
}

/// Runs a kernel on an instruction set.
///
/// # Panics
/// When the processor lacks it.
///
/// # Safety
/// What the kernel's pointers promise must hold.
pub(super) unsafe fn launch(isa: Isa, kernel: impl Kernel) {
    assert!(isa.available(), "this processor has no {}", isa.name());
    // SAFETY: the processor has `isa`; the rest is the caller's promise.
    match isa {
        Isa::Portable => unsafe { kernel.run::<Portable>() },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::run(kernel) },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::run(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("no other instruction set is available"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sigmoid<'a>(&'a [f32], &'a mut [f32]);

    impl Kernel for Sigmoid<'_> {
        #[inline(always)]
        unsafe fn run<P: Platform>(self) {
            for (x, y) in self.0.chunks_exact(P::Wide::LANES).zip(self.1.chunks_exact_mut(P::Wide::LANES)) {
                // SAFETY: the chunks are one vector long.
                unsafe { P::Wide::load(x.as_ptr()).sigmoid().store(y.as_mut_ptr()) }
            }
        }
    }

    #[test]
    fn the_sigmoid_is_exact_to_a_few_units_and_keeps_nan() {
        let x: Vec<f32> = (0..1600).map(|i| (i as f32 - 800.0) * 0.1).chain([f32::NAN; 16]).collect();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let mut y = vec![0.0; x.len()];
            // SAFETY: the slices have the same length, a multiple of every vector.
            unsafe { launch(isa, Sigmoid(&x, &mut y)) };
            for (x, y) in x.iter().zip(&y).take(1600) {
                let truth = 1.0 / (1.0 + (-f64::from(*x)).exp());
                let error = (f64::from(*y) - truth).abs() / truth;
                assert!(error < 5e-7, "{isa:?} sigmoid({x}) = {y}, error {error:e}");
            }
            assert!(y[1600..].iter().all(|y| y.is_nan()), "{isa:?}");
        }
    }
}
