//! What happens to a sum on its way to memory: bias, a second tensor, the rectifier or its derivative.

use super::simd::Simd;

/// A tensor added to the result.
#[derive(Clone, Copy)]
pub(crate) enum Add<'a> {
    Nothing,
    /// What the destination holds.
    Destination,
    /// A tensor in the destination's layout.
    Tensor(&'a [f32]),
}

/// The last step before the store.
#[derive(Clone, Copy)]
pub(crate) enum Rectify<'a> {
    No,
    /// `max(y, 0)`.
    Forward,
    /// 0 where this tensor, in the destination's layout, is not above 0: the way back through a
    /// rectifier whose output it is.
    Backward(&'a [f32]),
}

/// What is done to each result before it is stored, in this order.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    /// One number per stored channel.
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) add: Add<'a>,
    pub(crate) rectify: Rectify<'a>,
}

impl Epilogue<'_> {
    /// Pointers for a destination of this many floats in use and this channel stride.
    ///
    /// # Panics
    /// When a tensor is shorter than the destination.
    pub(super) fn raw(&self, destination: *const f32, len: usize, stride: usize) -> Raw {
        let cover = |t: &[f32]| {
            assert!(t.len() >= len, "an epilogue's tensor covers the destination");
            t.as_ptr()
        };
        assert!(self.bias.is_none_or(|b| b.len() >= stride), "a bias for every stored channel");
        let null = std::ptr::null();
        Raw {
            bias: self.bias.map_or(null, <[f32]>::as_ptr),
            add: match self.add {
                Add::Nothing => null,
                Add::Destination => destination,
                Add::Tensor(t) => cover(t),
            },
            relu: matches!(self.rectify, Rectify::Forward),
            gate: if let Rectify::Backward(t) = self.rectify { cover(t) } else { null },
        }
    }
}

/// An [`Epilogue`] as pointers; null where there is none.
#[derive(Clone, Copy)]
pub(super) struct Raw {
    bias: *const f32,
    add: *const f32,
    relu: bool,
    gate: *const f32,
}

impl Raw {
    /// The value to store at `offset`, which belongs to `channel`.
    ///
    /// # Safety
    /// A whole vector lies inside the destination at `offset`, and inside the bias at `channel`.
    #[inline(always)]
    pub(super) unsafe fn apply<S: Simd>(&self, mut value: S, channel: usize, offset: usize) -> S {
        // SAFETY: `Epilogue::raw` checked that the tensors reach as far as the destination.
        unsafe {
            if !self.bias.is_null() {
                value = value.add(S::load(self.bias.add(channel)));
            }
            if !self.add.is_null() {
                value = value.add(S::load(self.add.add(offset)));
            }
            if self.relu {
                value = value.relu();
            }
            if !self.gate.is_null() {
                value = value.gated(S::load(self.gate.add(offset)));
            }
            value
        }
    }

    /// As [`Raw::apply`] for the vectors of `M` pixels, which are stored from `to` on: what there is to do is looked at
    /// once for all of them.
    ///
    /// # Safety
    /// As [`Raw::apply`], for every vector.
    #[inline(always)]
    pub(super) unsafe fn apply_to_block<S: Simd, const M: usize, const V: usize>(
        &self,
        block: &mut [[S; V]; M],
        channel: usize,
        to: &[usize; M],
    ) {
        // SAFETY: `Epilogue::raw` checked that the tensors reach as far as the destination.
        unsafe {
            if !self.bias.is_null() {
                each(block, to, |sum, c, _| sum.add(S::load(self.bias.add(channel + c))));
            }
            if !self.add.is_null() {
                each(block, to, |sum, c, to| sum.add(S::load(self.add.add(to + c))));
            }
            if self.relu {
                each(block, to, |sum, _, _| sum.relu());
            }
            if !self.gate.is_null() {
                each(block, to, |sum, c, to| sum.gated(S::load(self.gate.add(to + c))));
            }
        }
    }
}

/// Replaces every vector of a block; `f` is told its first channel among those of the pixel, and where the pixel is stored.
#[inline(always)]
fn each<S: Simd, const M: usize, const V: usize>(
    block: &mut [[S; V]; M],
    to: &[usize; M],
    f: impl Fn(S, usize, usize) -> S,
) {
    for (sums, &to) in block.iter_mut().zip(to) {
        for (v, sum) in sums.iter_mut().enumerate() {
            *sum = f(*sum, v * S::LANES, to);
        }
    }
}
