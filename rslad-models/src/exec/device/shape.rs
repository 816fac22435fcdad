//! What operations are told: the shape of a tensor, how a step ends, a convolution at an image size.

use super::launch::{Argument, Convolution};
use crate::error::{Error, Result};
use crate::graph::Pad;
use crate::kernels::Window;

/// A tensor with channels last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dims {
    pub(super) images: usize,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Dims {
    pub(super) fn pixels(&self) -> usize {
        self.height * self.width
    }

    pub(super) fn rows(&self) -> usize {
        self.images * self.pixels()
    }

    pub(super) fn len(&self) -> usize {
        self.rows() * self.channels
    }

    pub(super) fn with_sides(self, [height, width]: [usize; 2]) -> Self {
        Self { height, width, ..self }
    }
}

/// What ends a pointwise operation.
pub(super) struct End<'a, M> {
    pub(super) add: Option<&'a M>,
    pub(super) rectify: Rectify<'a, M>,
}

pub(super) enum Rectify<'a, M> {
    No,
    Forward,
    /// Nothing passes where this is not above 0.
    Backward(&'a M),
}

impl<'a, M> End<'a, M> {
    pub(super) const NOTHING: Self = Self { add: None, rectify: Rectify::No };

    pub(super) fn is_nothing(&self) -> bool {
        self.add.is_none() && matches!(self.rectify, Rectify::No)
    }

    /// As the kernels take it: add, gate, rectify.
    pub(super) fn arguments(self) -> [Argument<'a, M>; 3] {
        let (gate, rectify) = match self.rectify {
            Rectify::No => (None, 0),
            Rectify::Forward => (None, 1),
            Rectify::Backward(gate) => (Some(gate), 2),
        };
        [given(self.add), given(gate), Argument::Count(rectify)]
    }
}

/// How a batch normalization acts on a batch, one number per channel each.
#[derive(Debug)]
pub(super) struct Norm<M> {
    pub(super) mean: M,
    /// The unbiased variance.
    pub(super) variance: M,
    pub(super) inverse: M,
    pub(super) scale: M,
    pub(super) shift: M,
}

/// Its gradients, and what its way back multiplies x by and adds.
pub(super) struct NormBack<M> {
    pub(super) weight: M,
    pub(super) bias: M,
    pub(super) slope: M,
    pub(super) shift: M,
}

/// A convolution of the program at an image size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) window: Window,
    pub(super) from: Dims,
    pub(super) to: Dims,
}

impl Geometry {
    /// As cuDNN takes it, and the images inside their border where that is not the same on all sides.
    pub(super) fn convolution(&self) -> (Convolution, Option<Dims>) {
        let Window { kernel, stride, pad } = self.window;
        let Pad { left, right, top, bottom } = pad;
        let (from, pad, inside) = match pad.symmetric() {
            Some(pad) => (self.from, pad, None),
            None => {
                let sides = [self.from.height + top + bottom, self.from.width + left + right];
                let big = self.from.with_sides(sides);
                (big, 0, Some(big))
            }
        };
        let convolution = Convolution {
            images: from.images,
            inputs: from.channels,
            outputs: self.to.channels,
            from: [from.height, from.width],
            to: [self.to.height, self.to.width],
            kernel,
            stride,
            pad,
        };
        (convolution, inside)
    }

    /// As the depthwise kernels take it: c, h, w, oh, ow, k, stride, top, left.
    pub(super) fn depthwise<'a, M>(&self) -> Result<Vec<Argument<'a, M>>> {
        let Window { kernel, stride, pad } = self.window;
        let Self { from, to, .. } = self;
        let sizes =
            [from.channels, from.height, from.width, to.height, to.width, kernel, stride, pad.top, pad.left];
        sizes.into_iter().map(count).collect()
    }
}

pub(super) fn count<'a, M>(n: usize) -> Result<Argument<'a, M>> {
    Ok(Argument::Count(small(n)?))
}

/// The kernels count in 32 bits.
pub(super) fn small(n: usize) -> Result<u32> {
    let large = || {
        Error::Other(format!("a tensor has {n} numbers, expected at most {}; use a smaller batch", u32::MAX))
    };
    u32::try_from(n).map_err(|_| large())
}

pub(super) fn given<M>(memory: Option<&M>) -> Argument<'_, M> {
    memory.map_or(Argument::Nothing, Argument::In)
}
