//! A batch that several processes share: what their normalizations tell each other.

use crate::error::Result;
use std::borrow::Cow;

/// Connects processes that run the same forwards, in the same order, on images of their own, so that batch
/// normalization sees the images of all.
pub trait Exchange: Send + Sync {
    /// What each process gives to this call, in the order of processes, this one's among it.
    ///
    /// # Errors
    /// When a process is gone.
    fn gather(&self, own: &[f32]) -> Result<Vec<Vec<f32>>>;
}

/// The sums of every image of a batch, two rows of a normalization's channels each, by process.
pub(super) struct Rows<'a> {
    of: Vec<Cow<'a, [f32]>>,
    stride: usize,
}

impl<'a> Rows<'a> {
    /// Of this process's images alone, or of everybody's.
    pub(super) fn new(own: &'a [f32], stride: usize, exchange: Option<&dyn Exchange>) -> Result<Self> {
        let of = match exchange {
            None => vec![Cow::Borrowed(own)],
            Some(exchange) => exchange.gather(own)?.into_iter().map(Cow::Owned).collect(),
        };
        Ok(Self { of, stride })
    }

    /// How many images there are.
    pub(super) fn images(&self) -> usize {
        self.of.iter().map(|rows| rows.len() / (2 * self.stride)).sum()
    }

    /// The rows of each image, and how many images its process has.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[f32], usize)> {
        self.of.iter().flat_map(|rows| {
            let images = rows.chunks_exact(2 * self.stride);
            let n = images.len();
            images.map(move |image| (image, n))
        })
    }

    /// Sums over the images of both rows, per channel. An image counts `weight(n)` times, where its process
    /// has `n` images.
    pub(super) fn totals(&self, channels: usize, weight: impl Fn(usize) -> f64) -> [Vec<f64>; 2] {
        let mut totals = [vec![0.0; channels], vec![0.0; channels]];
        for (image, n) in self.iter() {
            let weight = weight(n);
            for (total, row) in totals.iter_mut().zip(image.chunks_exact(self.stride)) {
                total.iter_mut().zip(row).for_each(|(total, &sum)| *total += weight * f64::from(sum));
            }
        }
        totals
    }
}
