//! Mean and standard deviation of each channel: what a data set is recognized by, and what a network's
//! normalization is made of.

use crate::dataset::Dataset;
use crate::pixels::Image;

/// Of all values of one channel, in `[0,1]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelStatistics {
    /// The mean.
    pub mean: f64,
    /// The standard deviation over all values, not an estimate from a sample.
    pub std: f64,
}

/// The statistics of each channel, `[C]`.
pub fn channel_statistics(data: &Dataset) -> Vec<ChannelStatistics> {
    let [channels, height, width] = data.shape();
    let plane = height * width;
    let mut sums = vec![(0.0f64, 0.0f64); channels];
    for row in 0..data.len() {
        for (channel, sums) in sums.iter_mut().enumerate() {
            let (sum, squares) = sums_of(data.image(row), channel * plane..(channel + 1) * plane);
            *sums = (sums.0 + sum, sums.1 + squares);
        }
    }
    let n = (data.len() * plane) as f64;
    let of = |(sum, squares): (f64, f64)| {
        let mean = sum / n;
        ChannelStatistics { mean, std: (squares / n - mean * mean).max(0.0).sqrt() }
    };
    sums.into_iter().map(of).collect()
}

/// The sum and the sum of squares; of bytes without rounding.
fn sums_of(image: Image<'_>, range: std::ops::Range<usize>) -> (f64, f64) {
    match image {
        Image::Levels { values, full_scale } => {
            let add = |(sum, squares), &v: &u8| (sum + u64::from(v), squares + u64::from(v).pow(2));
            let (sum, squares) = values[range].iter().fold((0u64, 0u64), add);
            let scale = f64::from(full_scale);
            (sum as f64 / scale, squares as f64 / scale.powi(2))
        }
        Image::Floats(values) => {
            let add = |(sum, squares), &v: &f32| (sum + f64::from(v), squares + f64::from(v).powi(2));
            values[range].iter().fold((0.0, 0.0), add)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::toy;

    #[test]
    fn statistics_are_those_of_the_definition() {
        let data = toy(9);
        let x = data.images_f32(&(0..9).collect::<Vec<_>>()).expect("rows exist");
        for (channel, found) in channel_statistics(&data).into_iter().enumerate() {
            let values = x.narrow(1, channel, 1).and_then(|x| x.flatten_all()?.to_vec1::<f32>());
            let values: Vec<f64> = values.expect("f32").into_iter().map(f64::from).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
            assert!((found.mean - mean).abs() < 1e-7 && (found.std - variance.sqrt()).abs() < 1e-7);
        }
    }
}
