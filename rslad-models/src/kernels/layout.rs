//! Where the numbers of an image lie.

use crate::graph::Pad;
use std::ops::Range;

/// Channels are stored in whole multiples of this.
const CHANNEL_STEP: usize = 8;

/// The place of every pixel of one image of a value: `[top + H + bottom][left + W + right][stride]`,
/// channels innermost. The border is zero and is never written; lanes beyond `channels` hold anything
/// and are never reduced over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Channels that mean something.
    pub(crate) channels: usize,
    pub(crate) border: Pad,
}

impl Layout {
    /// Floats from one pixel to the next.
    pub(crate) fn stride(&self) -> usize {
        self.channels.next_multiple_of(CHANNEL_STEP)
    }

    /// Floats from one row to the next.
    pub(crate) fn row(&self) -> usize {
        (self.border.left + self.width + self.border.right) * self.stride()
    }

    /// Floats of one image.
    pub(crate) fn image(&self) -> usize {
        (self.border.top + self.height + self.border.bottom) * self.row()
    }

    /// Pixels of one image, without the border.
    pub(crate) fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// The offset of a pixel; rows and columns below 0 and above the last are in the border.
    ///
    /// # Panics
    /// When the border does not reach so far up or left.
    pub(crate) fn at(&self, y: isize, x: isize) -> usize {
        let y = self.border.top.checked_add_signed(y).expect("the border is high enough");
        let x = self.border.left.checked_add_signed(x).expect("the border is wide enough");
        y * self.row() + x * self.stride()
    }

    /// The offset of the first pixel of every row.
    pub(crate) fn rows(&self) -> impl Iterator<Item = usize> {
        let (first, row) = (self.at(0, 0), self.row());
        (0..self.height).map(move |y| first + y * row)
    }
}

impl Layout {
    /// Some neighboring pixels of this layout, where they lie in it: what is around them is its border.
    pub(crate) fn only(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        let Pad { left, right, top, bottom } = self.border;
        let border = Pad {
            left: left + columns.start,
            right: right + self.width - columns.end,
            top: top + rows.start,
            bottom: bottom + self.height - rows.end,
        };
        Self { height: rows.len(), width: columns.len(), border, ..*self }
    }

    /// Sets the borders of some images to zero.
    pub(crate) fn clear_border(&self, images: &mut [f32]) {
        for image in images.chunks_exact_mut(self.image()) {
            let mut end = 0;
            for row in self.rows() {
                image[end..row].fill(0.0);
                end = row + self.width * self.stride();
            }
            image[end..].fill(0.0);
        }
    }

    /// Writes images that lie channel by channel, `[N, C, H, W]`, into this layout.
    ///
    /// # Panics
    /// When `target` is too short.
    pub(crate) fn import(&self, images: &[f32], target: &mut [f32]) {
        let stride = self.stride();
        for (i, image) in images.chunks_exact(self.channels * self.pixels()).enumerate() {
            for (c, plane) in image.chunks_exact(self.pixels()).enumerate() {
                for (line, row) in plane.chunks_exact(self.width).zip(self.rows()) {
                    let pixels =
                        target[i * self.image() + row..][..self.width * stride].chunks_exact_mut(stride);
                    pixels.zip(line).for_each(|(pixel, &x)| pixel[c] = x);
                }
            }
        }
    }

    /// The way back of [`Layout::import`].
    ///
    /// # Panics
    /// When `source` is too short.
    pub(crate) fn export(&self, source: &[f32], images: &mut [f32]) {
        let stride = self.stride();
        for (i, image) in images.chunks_exact_mut(self.channels * self.pixels()).enumerate() {
            for (c, plane) in image.chunks_exact_mut(self.pixels()).enumerate() {
                for (line, row) in plane.chunks_exact_mut(self.width).zip(self.rows()) {
                    let pixels = source[i * self.image() + row..][..self.width * stride].chunks_exact(stride);
                    line.iter_mut().zip(pixels).for_each(|(x, pixel)| *x = pixel[c]);
                }
            }
        }
    }
}

/// The window of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) pad: Pad,
}

impl Window {
    /// One pixel.
    pub(crate) const POINT: Self = Self { kernel: 1, stride: 1, pad: Pad::all(0) };

    /// The border that the gradient of an output of this size needs when the window runs backward over
    /// an input of size `(height, width)`.
    pub(crate) fn backward_border(&self, input: (usize, usize), output: (usize, usize)) -> Pad {
        let (top, bottom) = self.backward_reach(self.pad.top, input.0, output.0);
        let (left, right) = self.backward_reach(self.pad.left, input.1, output.1);
        Pad { left, right, top, bottom }
    }

    /// How far before the first and after the last output pixel the input pixels of a line look.
    fn backward_reach(&self, pad: usize, input: usize, output: usize) -> (usize, usize) {
        let (mut before, mut after) = (0, 0);
        for i in 0..input {
            let (phase, nearest) = ((i + pad) % self.stride, (i + pad) / self.stride);
            if phase < self.kernel {
                let farthest = (self.kernel - 1 - phase) / self.stride;
                before = before.max(farthest.saturating_sub(nearest));
                after = after.max((nearest + 1).saturating_sub(output));
            }
        }
        (before, after)
    }
}
