//! Rectangles of pixels, and what a convolution makes of them.

use crate::kernels::{Layout, Window};
use std::ops::Range;

/// Neighboring pixels, `rows` times `columns`: none where either is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

impl Rect {
    /// A whole plane.
    pub(super) fn of(layout: &Layout) -> Self {
        Self { rows: 0..layout.height, columns: 0..layout.width }
    }

    /// A square in the middle of a plane.
    pub(super) fn middle(layout: &Layout, side: usize) -> Self {
        let line = |length: usize| {
            (length / 2).saturating_sub(side / 2)..(length / 2 + side.div_ceil(2)).min(length)
        };
        Self { rows: line(layout.height), columns: line(layout.width) }
    }

    /// The smallest one with every pixel, of any channel, whose bits differ between two images `[C, H, W]`.
    pub(super) fn of_differences(a: &[f32], b: &[f32], [_, height, width]: [usize; 3]) -> Self {
        let mut rect = Self::default();
        for (i, (a, b)) in a.chunks_exact(width).zip(b.chunks_exact(width)).enumerate() {
            let differ = |(a, b): (&f32, &f32)| a.to_bits() ^ b.to_bits();
            if a.iter().zip(b).map(differ).fold(0, |any, bits| any | bits) == 0 {
                continue; // without a branch for each pixel: most lines are alike
            }
            let mut differing = (0..width).filter(|&x| differ((&a[x], &b[x])) != 0);
            let (first, y) = (differing.next().unwrap_or(0), i % height);
            let last = differing.next_back().unwrap_or(first);
            rect = rect.with(&Self { rows: y..y + 1, columns: first..last + 1 });
        }
        rect
    }

    pub(super) fn area(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.area() == 0
    }

    /// The smallest that covers both.
    pub(super) fn with(&self, other: &Self) -> Self {
        let cover = |a: &Range<usize>, b: &Range<usize>| a.start.min(b.start)..a.end.max(b.end);
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other.clone(),
            (_, true) => self.clone(),
            _ => Self { rows: cover(&self.rows, &other.rows), columns: cover(&self.columns, &other.columns) },
        }
    }

    /// The output pixels of a window that read one of these.
    pub(super) fn through(&self, window: &Window, to: &Layout) -> Self {
        if self.is_empty() {
            return Self::default();
        }
        let line = |inputs: &Range<usize>, pad: usize, length: usize| {
            let first = (inputs.start + pad + 1).saturating_sub(window.kernel).div_ceil(window.stride);
            let last = (inputs.end - 1 + pad) / window.stride;
            first.min(length)..(last + 1).min(length)
        };
        Self {
            rows: line(&self.rows, window.pad.top, to.height),
            columns: line(&self.columns, window.pad.left, to.width),
        }
    }

    /// The input pixels, of those that there are, that a window reads for these outputs.
    pub(super) fn read_through(&self, window: &Window, from: &Layout) -> Self {
        let line = |outputs: &Range<usize>, pad: usize, length: usize| {
            let first = (outputs.start * window.stride).saturating_sub(pad);
            let end = (outputs.end.saturating_sub(1) * window.stride + window.kernel).saturating_sub(pad);
            first.min(length)..end.min(length)
        };
        Self {
            rows: line(&self.rows, window.pad.top, from.height),
            columns: line(&self.columns, window.pad.left, from.width),
        }
    }

    /// Whole squares of `side` pixels, cut off where the plane ends.
    pub(super) fn tiled(&self, side: usize, plane: &Layout) -> Self {
        let line = |line: &Range<usize>, length: usize| {
            line.start / side * side..line.end.next_multiple_of(side).min(length)
        };
        Self { rows: line(&self.rows, plane.height), columns: line(&self.columns, plane.width) }
    }

    /// The squares of `side` pixels that it touches, each as a pixel of the plane that they make.
    pub(super) fn tiles(&self, side: usize) -> Self {
        let line = |line: &Range<usize>| line.start / side..line.end.div_ceil(side);
        Self { rows: line(&self.rows), columns: line(&self.columns) }
    }

    /// The places of its pixels, row by row, in a plane that is `width` wide.
    pub(super) fn runs(&self, width: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let columns = self.columns.clone();
        self.rows.clone().map(move |y| y * width + columns.start..y * width + columns.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Pad;
    use proptest::prelude::*;

    fn plane(height: usize, width: usize) -> Layout {
        Layout { height, width, channels: 1, border: Pad::all(0) }
    }

    /// A window, the heights of the planes that it reads and writes, and rows that may end beyond either.
    fn windows() -> impl Strategy<Value = (Window, usize, usize, Range<usize>)> {
        let numbers = (1..=5usize, 1..=3usize, 0..=2usize, 5..=12usize, 0..12usize, 1..4usize);
        numbers.prop_map(|(kernel, stride, pad, height, first, rows)| {
            let outputs = (height + 2 * pad - kernel) / stride + 1;
            (Window { kernel, stride, pad: Pad::all(pad) }, height, outputs, first..first + rows)
        })
    }

    proptest! {
        #[test]
        fn a_window_reaches_exactly_the_pixels_that_read((window, height, outputs, rows) in windows()) {
            let Window { kernel, stride, pad: Pad { top: pad, .. } } = window;
            let rows = rows.start.min(height - 1)..rows.end.min(height);
            let rect = Rect { rows: rows.clone(), columns: 0..1 };
            let reads = |o: usize| (o * stride..o * stride + kernel).any(|i| i >= pad && rows.contains(&(i - pad)));
            let reading: Vec<usize> = (0..outputs).filter(|&o| reads(o)).collect();
            let reached = rect.through(&window, &plane(outputs, 1));
            // A window may jump over a changed pixel: the rectangle then has a row too many, never one too few.
            prop_assert!(reading.iter().all(|o| reached.rows.contains(o)), "{reading:?} {reached:?}");
            if stride <= kernel {
                prop_assert_eq!(reached.rows.collect::<Vec<_>>(), reading);
            }
        }

        #[test]
        fn what_outputs_read_is_what_their_windows_cover((window, height, outputs, rows) in windows()) {
            let Window { kernel, stride, pad: Pad { top: pad, .. } } = window;
            let rect = Rect { rows: rows.start.min(outputs - 1)..rows.end.min(outputs), columns: 0..1 };
            let read = rect.read_through(&window, &plane(height, 1)).rows;
            let covers = |i: &usize| rect.rows.clone().any(|o| (o * stride..o * stride + kernel).contains(&(i + pad)));
            prop_assert!((0..height).filter(covers).all(|i| read.contains(&i)));
            // Windows that leave gaps may begin or end with one.
            for end in [read.start, read.end.saturating_sub(1)] {
                let right = read.is_empty() || covers(&end) || stride > kernel;
                prop_assert!(right, "{read:?} ends at {end}, which no window covers");
            }
        }

        #[test]
        fn differences_are_covered_and_no_more(places in prop::collection::vec((0..2usize, 0..5usize, 0..7usize), 0..4)) {
            let before = vec![0.0f32; 2 * 5 * 7];
            let mut after = before.clone();
            places.iter().for_each(|(c, y, x)| after[(c * 5 + y) * 7 + x] = -0.0);
            let rect = Rect::of_differences(&before, &after, [2, 5, 7]);
            let span = |of: fn(&(usize, usize, usize)) -> usize| {
                let (min, max) = (places.iter().map(of).min(), places.iter().map(of).max());
                min.zip(max).map_or(0..0, |(min, max)| min..max + 1)
            };
            prop_assert_eq!(rect, Rect { rows: span(|p| p.1), columns: span(|p| p.2) });
        }
    }

    #[test]
    fn tiles_are_whole() {
        let rect = Rect { rows: 3..5, columns: 8..9 };
        assert_eq!(rect.tiled(4, &plane(7, 10)), Rect { rows: 0..7, columns: 8..10 });
        assert_eq!(Rect::middle(&plane(2, 9), 3), Rect { rows: 0..2, columns: 3..6 });
    }
}
