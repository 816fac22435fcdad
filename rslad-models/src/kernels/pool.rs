//! The mean over all pixels, and its way back. Channels are independent, so plain loops over pixels
//! and channels are as fast as memory.

use super::epilogue::{Add, Epilogue, Rectify};
use super::layout::Layout;

/// The mean per channel, summed along rows and then over rows.
///
/// # Panics
/// When a slice is too short.
pub(crate) fn mean(images: usize, from: &Layout, source: &[f32], to: &Layout, target: &mut [f32]) {
    let (stride, count) = (from.stride(), from.pixels() as f32);
    let mut line = vec![0.0; stride];
    for image in 0..images {
        let out = &mut target[image * to.image() + to.at(0, 0)..][..stride];
        out.fill(0.0);
        for row in from.rows() {
            line.fill(0.0);
            for pixel in source[image * from.image() + row..][..from.width * stride].chunks_exact(stride) {
                line.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
            }
            out.iter_mut().zip(&line).for_each(|(sum, x)| *sum += x);
        }
        out.iter_mut().for_each(|sum| *sum /= count);
    }
}

/// Spreads the gradient of the mean over the pixels of its input; the epilogue has no bias here.
///
/// # Panics
/// When a slice is too short.
pub(crate) fn mean_backward(
    images: usize,
    to: &Layout,
    gradient: &[f32],
    from: &Layout,
    target: &mut [f32],
    epilogue: &Epilogue<'_>,
) {
    let (stride, share) = (from.stride(), 1.0 / from.pixels() as f32);
    let gate = if let Rectify::Backward(gate) = epilogue.rectify { Some(gate) } else { None };
    for image in 0..images {
        let g = &gradient[image * to.image() + to.at(0, 0)..][..stride];
        let spread: Vec<f32> = g.iter().map(|g| g * share + 0.0).collect(); // a sum with nothing is never -0
        for row in from.rows() {
            let row = image * from.image() + row;
            for at in (row..row + from.width * stride).step_by(stride) {
                let pixel = &mut target[at..at + stride];
                match epilogue.add {
                    Add::Nothing => pixel.copy_from_slice(&spread),
                    Add::Destination => pixel.iter_mut().zip(&spread).for_each(|(x, g)| *x += g),
                    Add::Tensor(t) => {
                        let sums = spread.iter().zip(&t[at..at + stride]).map(|(g, t)| g + t);
                        pixel.iter_mut().zip(sums).for_each(|(x, sum)| *x = sum);
                    }
                }
                if let Some(gate) = gate {
                    let closed = |(x, gate): (&mut f32, &f32)| *x = if *gate <= 0.0 { 0.0 } else { *x };
                    pixel.iter_mut().zip(&gate[at..at + stride]).for_each(closed);
                }
            }
        }
    }
}
