//! Which pixels a convolution writes and what it reads for each.

use crate::kernels::{Layout, Window};
use std::ops::Range;

/// A walk over the pixels of an image, row by row, that sums over fixed distances.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sweep {
    /// Distance from where a pixel begins to read to each tap.
    pub(crate) taps: Vec<usize>,
    /// Channels read at each tap.
    pub(crate) depth: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Where each pixel begins to read, within an image.
    pub(crate) sources: Grid,
    /// Where each pixel is written, within an image.
    pub(crate) targets: Grid,
    pub(crate) source_image: usize,
    pub(crate) target_image: usize,
    /// Floats from one written pixel to the next.
    pub(crate) target_stride: usize,
}

/// Places at even distances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) first: usize,
    /// From one row to the next.
    pub(crate) row: usize,
    /// From one pixel to the next.
    pub(crate) pixel: usize,
}

impl Grid {
    /// Every `stride`th pixel of a layout, in both directions.
    fn of(layout: &Layout, first: usize, stride: usize) -> Self {
        Self { first, row: stride * layout.row(), pixel: stride * layout.stride() }
    }

    pub(crate) fn at(&self, row: usize, column: usize) -> usize {
        self.first + row * self.row + column * self.pixel
    }
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
        let Window { stride, pad, .. } = *window;
        let first = source.at(-(pad.top as isize), -(pad.left as isize));
        Self {
            taps: taps.map(|(ky, kx)| ky * source.row() + kx * source.stride()).collect(),
            depth: source.channels,
            rows: target.height,
            columns: target.width,
            sources: Grid::of(source, first, stride),
            targets: Grid::of(target, target.at(0, 0), 1),
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
        let tap = |&(dy, dx): &(usize, usize)| (far_y - dy) * output.row() + (far_x - dx) * output.stride();
        // The first row, or column, of this phase, and how many there are.
        let line = |phase: usize, pad: usize, length: usize| {
            let first = (phase + s - pad % s) % s;
            (first, length.saturating_sub(first).div_ceil(s))
        };
        let (y, rows) = line(phase.row, pad.top, input.height);
        let (x, columns) = line(phase.column, pad.left, input.width);
        let nearest = |i: usize, pad: usize, far: usize| ((i + pad) / s) as isize - far as isize;
        let exist = rows > 0 && columns > 0;
        let sources = (exist && !steps.is_empty())
            .then(|| output.at(nearest(y, pad.top, far_y), nearest(x, pad.left, far_x)));
        let targets = exist.then(|| input.at(y as isize, x as isize));
        Self {
            taps: steps.iter().map(tap).collect(),
            depth: output.channels,
            rows,
            columns,
            sources: sources.map_or_else(Grid::default, |first| Grid::of(output, first, 1)),
            targets: targets.map_or_else(Grid::default, |first| Grid::of(input, first, s)),
            source_image: output.image(),
            target_image: input.image(),
            target_stride: input.stride(),
        }
    }

    /// The same walk over some rows and columns of its pixels.
    pub(crate) fn only(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        let from = |grid: &Grid| Grid { first: grid.at(rows.start, columns.start), ..*grid };
        let [sources, targets] = [&self.sources, &self.targets].map(from);
        Self { taps: self.taps.clone(), rows: rows.len(), columns: columns.len(), sources, targets, ..*self }
    }

    /// Pixels of an image.
    pub(crate) fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// Panics unless `images` images fit into slices of these lengths, every read and write included.
    pub(crate) fn check(&self, images: usize, source: usize, target: usize) {
        let Some(before_last) = images.checked_sub(1) else { return };
        let Some((row, column)) = self.rows.checked_sub(1).zip(self.columns.checked_sub(1)) else { return };
        let (from, to) = (self.sources.at(row, column), self.targets.at(row, column));
        let read = self.taps.iter().max().map_or(0, |tap| from + tap + self.depth);
        assert!(before_last * self.source_image + read <= source, "a sweep reads inside its source");
        let written = to + self.target_stride;
        assert!(before_last * self.target_image + written <= target, "a sweep writes inside its target");
    }

    /// Walks the pixels of several images, one image after the other, from a pixel of one on.
    pub(in crate::kernels) fn walk(&self, image: usize, pixel: usize) -> Walk<'_> {
        let images = (image * self.source_image, image * self.target_image);
        let mut walk = Walk { sweep: self, row: 0, column: 0, images, place: (0, 0) };
        if self.pixels() > 0 {
            (walk.row, walk.column) = (pixel / self.columns, pixel % self.columns);
            walk.begin_line();
            walk.place.0 += walk.column * self.sources.pixel;
            walk.place.1 += walk.column * self.targets.pixel;
        }
        walk
    }
}

/// A place in a walk over images; what it reads and what it writes.
pub(in crate::kernels) struct Walk<'s> {
    sweep: &'s Sweep,
    row: usize,
    column: usize,
    images: (usize, usize),
    place: (usize, usize),
}

impl Walk<'_> {
    /// Where the next pixel reads and writes.
    #[inline(always)]
    pub(in crate::kernels) fn step(&mut self) -> (usize, usize) {
        let place = self.place;
        self.column += 1;
        if self.column < self.sweep.columns {
            self.place.0 += self.sweep.sources.pixel;
            self.place.1 += self.sweep.targets.pixel;
        } else {
            self.column = 0;
            self.row += 1;
            if self.row == self.sweep.rows {
                self.row = 0;
                self.images.0 += self.sweep.source_image;
                self.images.1 += self.sweep.target_image;
            }
            self.begin_line();
        }
        place
    }

    /// How many pixels of this row are still to come.
    #[inline(always)]
    pub(in crate::kernels) fn rest_of_row(&self) -> usize {
        self.sweep.columns - self.column
    }

    fn begin_line(&mut self) {
        let (sources, targets) = (&self.sweep.sources, &self.sweep.targets);
        self.place = (self.images.0 + sources.at(self.row, 0), self.images.1 + targets.at(self.row, 0));
    }
}
