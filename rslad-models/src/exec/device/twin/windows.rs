//! What reads windows of images: depthwise convolutions, borders.

use super::{Memory, each, numbers, slab};
use crate::exec::device::launch::{Argument, Kernel};

pub(super) fn moved(
    kernel: Kernel,
    sizes: &[Argument<'_, Memory>],
    x: &Memory,
    y: &mut Memory,
    total: usize,
) {
    let ([c, h, w, big_h, big_w, top, left], x) = (numbers(sizes), x.floats());
    each(y, total, |i| {
        let pixel = i / c;
        if kernel == Kernel::Crop {
            let (column, row, image) = (pixel % w + left, pixel / w % h + top, pixel / (w * h));
            return x[((image * big_h + row) * big_w + column) * c + i % c];
        }
        let inside = |at: usize, first: usize, n: usize| at.checked_sub(first).filter(|at| *at < n);
        let (column, row) = (inside(pixel % big_w, left, w), inside(pixel / big_w % big_h, top, h));
        let image = pixel / (big_w * big_h);
        row.zip(column).map_or(0.0, |(row, column)| x[((image * h + row) * w + column) * c + i % c])
    });
}

pub(super) fn depthwise(
    kernel: Kernel,
    sizes: &[Argument<'_, Memory>],
    [x, weight]: [&[f32]; 2],
    y: &mut Memory,
    total: usize,
) {
    let [c, h, w, oh, ow, k, stride, top, left] = numbers(sizes);
    let forward = kernel == Kernel::Depthwise;
    let (sides, others) = if forward { ([oh, ow], [h, w]) } else { ([h, w], [oh, ow]) };
    // The line of the other tensor that a tap reads.
    let line = |at: usize, tap: usize, pad: usize, n: usize| match forward {
        true => (at * stride + tap).checked_sub(pad).filter(|line| *line < n),
        false => {
            let line = (at + pad).checked_sub(tap).filter(|line| line.is_multiple_of(stride))? / stride;
            (line < n).then_some(line)
        }
    };
    each(y, total, |i| {
        let pixel = i / c;
        let (column, row, image) =
            (pixel % sides[1], pixel / sides[1] % sides[0], pixel / (sides[0] * sides[1]));
        let mut sum = 0.0;
        for (dy, dx) in (0..k * k).map(|tap| (tap / k, tap % k)) {
            let place = line(row, dy, top, others[0]).zip(line(column, dx, left, others[1]));
            if let Some((row, column)) = place {
                let from = x[((image * others[0] + row) * others[1] + column) * c + i % c];
                sum += weight[(i % c * k + dy) * k + dx] * from;
            }
        }
        sum
    });
}

pub(super) fn depthwise_sums(
    rows: usize,
    sizes: &[Argument<'_, Memory>],
    [x, g]: [&[f32]; 2],
    y: &mut [f64],
    total: usize,
) {
    let [c, h, w, oh, ow, k, stride, top, left] = numbers(sizes);
    assert_eq!(y.len(), total);
    for (i, y) in y.iter_mut().enumerate() {
        let (channel, tap) = (i % c, i / c % (k * k));
        let mut sum = 0.0;
        for pixel in slab(i / (c * k * k), rows) {
            let (column, row, image) = (pixel % ow, pixel / ow % oh, pixel / (ow * oh));
            let row = (row * stride + tap / k).checked_sub(top).filter(|row| *row < h);
            let column = (column * stride + tap % k).checked_sub(left).filter(|column| *column < w);
            if let Some((row, column)) = row.zip(column) {
                sum += f64::from(x[((image * h + row) * w + column) * c + channel] * g[pixel * c + channel]);
            }
        }
        *y = sum;
    }
}
