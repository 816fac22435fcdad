//! Which pixels a convolution writes and what it reads for each.

use crate::kernels::{Layout, Window};
use std::ops::Range;

/// A walk over the pixels of an image that sums over fixed distances.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sweep {
    /// Distance from where a pixel begins to read to each tap.
    pub(crate) taps: Vec<usize>,
    /// Channels read at each tap.
    pub(crate) depth: usize,
    /// Where each pixel begins to read, within an image.
    pub(crate) sources: Vec<usize>,
    /// Where each pixel is written, within an image.
    pub(crate) targets: Vec<usize>,
    pub(crate) source_image: usize,
    pub(crate) target_image: usize,
    /// Floats from one written pixel to the next.
    pub(crate) target_stride: usize,
}

/// The taps of one phase of the way back: their places `(row, column)` in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    row: usize,
    column: usize,
    pub(crate) taps: Vec<(usize, usize)>,
}

/// The phases of a window's input grid, `stride * stride` of them.
pub(crate) fn phases(window: &Window) -> Vec<Phase> {
    let s = window.stride;
    let line = |phase| (phase..window.kernel).step_by(s);
    let phase = |(row, column)| {
        let taps = line(row).flat_map(|ky| line(column).map(move |kx| (ky, kx))).collect();
        Phase { row, column, taps }
    };
    (0..s).flat_map(|row| (0..s).map(move |column| (row, column))).map(phase).collect()
}

impl Sweep {
    /// The convolution itself.
    pub(crate) fn forward(window: &Window, source: &Layout, target: &Layout) -> Self {
        let kernel = 0..window.kernel;
        let taps = kernel.clone().flat_map(|ky| kernel.clone().map(move |kx| (ky, kx)));
        let start = |i: usize, pad: usize| (i * window.stride) as isize - pad as isize;
        let pixels = (0..target.height).flat_map(|y| (0..target.width).map(move |x| (y, x)));
        let read = |(y, x)| source.at(start(y, window.pad.top), start(x, window.pad.left));
        Self {
            taps: taps.map(|(ky, kx)| ky * source.row() + kx * source.stride()).collect(),
            depth: source.channels,
            sources: pixels.clone().map(read).collect(),
            targets: pixels.map(|(y, x)| target.at(y as isize, x as isize)).collect(),
            source_image: source.image(),
            target_image: target.image(),
            target_stride: target.stride(),
        }
    }

    /// One phase of the way back: reads the gradient of the output, writes that of the input.
    ///
    /// An input pixel was read by tap `k` for the output pixel `nearest - (k - phase) / stride`.
    pub(crate) fn backward(window: &Window, phase: &Phase, output: &Layout, input: &Layout) -> Self {
        let (s, pad) = (window.stride, window.pad);
        let distance = |k: usize, phase: usize| (k - phase) / s;
        let steps: Vec<(usize, usize)> =
            phase.taps.iter().map(|&(y, x)| (distance(y, phase.row), distance(x, phase.column))).collect();
        let far_y = steps.iter().map(|s| s.0).max().unwrap_or(0);
        let far_x = steps.iter().map(|s| s.1).max().unwrap_or(0);
        let rows = (0..input.height).filter(|y| (y + pad.top) % s == phase.row);
        let columns = (0..input.width).filter(|x| (x + pad.left) % s == phase.column);
        let pixels = rows.flat_map(|y| columns.clone().map(move |x| (y, x)));
        let read = |(y, x): (usize, usize)| {
            let nearest = |i: usize, pad: usize, far: usize| ((i + pad) / s) as isize - far as isize;
            output.at(nearest(y, pad.top, far_y), nearest(x, pad.left, far_x))
        };
        let tap = |&(dy, dx): &(usize, usize)| (far_y - dy) * output.row() + (far_x - dx) * output.stride();
        Self {
            taps: steps.iter().map(tap).collect(),
            depth: output.channels,
            sources: if steps.is_empty() {
                pixels.clone().map(|_| 0).collect()
            } else {
                pixels.clone().map(read).collect()
            },
            targets: pixels.map(|(y, x)| input.at(y as isize, x as isize)).collect(),
            source_image: output.image(),
            target_image: input.image(),
            target_stride: input.stride(),
        }
    }

    /// The same walk over some runs of pixels of an image, counted as they are walked.
    pub(crate) fn only(&self, runs: impl Iterator<Item = Range<usize>>) -> Self {
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        for pixels in runs {
            sources.extend_from_slice(&self.sources[pixels.clone()]);
            targets.extend_from_slice(&self.targets[pixels]);
        }
        Self { taps: self.taps.clone(), sources, targets, ..*self }
    }

    /// Panics unless `images` images fit into slices of these lengths, every read and write included.
    pub(crate) fn check(&self, images: usize, source: usize, target: usize) {
        let Some(before_last) = images.checked_sub(1) else { return };
        let last = |offsets: &[usize]| offsets.iter().max().copied();
        let Some((from, to)) = last(&self.sources).zip(last(&self.targets)) else { return };
        let read = last(&self.taps).map_or(0, |tap| from + tap + self.depth);
        assert!(before_last * self.source_image + read <= source, "a sweep reads inside its source");
        let written = to + self.target_stride;
        assert!(before_last * self.target_image + written <= target, "a sweep writes inside its target");
    }

    /// Walks the pixels of several images, one image after the other.
    pub(in crate::kernels) fn walk(&self, first_image: usize) -> Walk<'_> {
        let (source, target) = (first_image * self.source_image, first_image * self.target_image);
        Walk { sweep: self, pixel: 0, source, target }
    }
}

/// A place in a walk over images.
pub(in crate::kernels) struct Walk<'s> {
    sweep: &'s Sweep,
    pixel: usize,
    source: usize,
    target: usize,
}

impl Walk<'_> {
    /// Where the next pixel reads and writes.
    #[inline(always)]
    pub(in crate::kernels) fn step(&mut self) -> (usize, usize) {
        let place =
            (self.source + self.sweep.sources[self.pixel], self.target + self.sweep.targets[self.pixel]);
        self.pixel += 1;
        if self.pixel == self.sweep.sources.len() {
            self.pixel = 0;
            self.source += self.sweep.source_image;
            self.target += self.sweep.target_image;
        }
        place
    }
}
