//! The stored values of images: bytes as published, or floats where people bring their own.

use std::fmt;
use std::sync::OnceLock;

/// The values of images of one shape, `[N, C, H, W]` in row-major order.
#[derive(Clone, PartialEq)]
pub enum Pixels {
    /// As published: one byte a value.
    Levels {
        /// The stored values.
        values: Vec<u8>,
        /// The stored value that means 1.0.
        full_scale: u8,
    },
    /// Values in `[0,1]` that no byte holds.
    Floats(Vec<f32>),
}

/// The stored values of one image, `[C, H, W]` in row-major order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Image<'a> {
    /// One byte a value; `full_scale` means 1.0.
    Levels {
        /// The stored values.
        values: &'a [u8],
        /// The stored value that means 1.0.
        full_scale: u8,
    },
    /// Values in `[0,1]`.
    Floats(&'a [f32]),
}

impl fmt::Debug for Pixels {
    /// Without the values, which are millions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Levels { values, full_scale } => write!(f, "{} bytes of 0 to {full_scale}", values.len()),
            Self::Floats(values) => write!(f, "{} floats", values.len()),
        }
    }
}

impl Pixels {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Levels { values, .. } => values.len(),
            Self::Floats(values) => values.len(),
        }
    }

    /// The image at a place; `size` is the number of its values.
    pub(crate) fn image(&self, index: usize, size: usize) -> Image<'_> {
        let range = index * size..(index + 1) * size;
        match self {
            Self::Levels { values, full_scale } => {
                Image::Levels { values: &values[range], full_scale: *full_scale }
            }
            Self::Floats(values) => Image::Floats(&values[range]),
        }
    }

    /// What is wrong with the values, if anything; `size` is that of an image.
    pub(crate) fn problem(&self, size: usize) -> Option<String> {
        match self {
            Self::Levels { full_scale: 0, .. } => {
                Some("a full scale of 0, expected 1 to 255 (the stored value that means 1.0)".to_owned())
            }
            Self::Levels { values, full_scale } => {
                let at = values.iter().position(|value| value > full_scale)?;
                let (value, row) = (values[at], at / size);
                Some(format!(
                    "a value of {value} in image {row}, expected at most the full scale, {full_scale}"
                ))
            }
            Self::Floats(values) => {
                let at = values.iter().position(|v| !(0.0..=1.0).contains(v))?; // NaN is in no range
                let (min, max) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &v| {
                    (min.min(v), max.max(v)) // of two, the one that is a number
                });
                let fix = if max > 1.0 && max <= 255.0 && min >= 0.0 { "; divide by 255" } else { "" };
                Some(format!(
                    "a value of {} in image {}, expected [0,1]; all values are in [{min}, {max}]{fix}",
                    values[at],
                    at / size
                ))
            }
        }
    }
}

impl Image<'_> {
    /// Writes the values from `start` on as f32 in `[0,1]`, as many as `out` takes.
    pub(crate) fn write(&self, start: usize, out: &mut [f32]) {
        let range = start..start + out.len();
        match self {
            Self::Levels { values, full_scale } => {
                let level = levels(*full_scale);
                for (out, &stored) in out.iter_mut().zip(&values[range]) {
                    *out = level[usize::from(stored)];
                }
            }
            Self::Floats(values) => out.copy_from_slice(&values[range]),
        }
    }
}

/// What each stored value means: looked up, because a division for each value of each image takes longer than
/// the rest of a crop.
fn levels(full_scale: u8) -> &'static [f32; 256] {
    static LEVELS: [OnceLock<[f32; 256]>; 256] = [const { OnceLock::new() }; 256];
    LEVELS[usize::from(full_scale)]
        .get_or_init(|| std::array::from_fn(|stored| stored as f32 / f32::from(full_scale)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_outside_of_0_to_1_are_named_with_image_minimum_and_maximum() {
        let check = |spoil: fn(&mut Vec<f32>), expected: &str| {
            let mut values: Vec<f32> = (0..24).map(|i| i as f32 / 64.0).collect();
            spoil(&mut values);
            let message = Pixels::Floats(values).problem(12).expect(expected);
            assert_eq!(message, format!("a value of {expected}"));
        };
        check(|v| v[13] = -0.5, "-0.5 in image 1, expected [0,1]; all values are in [-0.5, 0.359375]");
        check(|v| v[3] = f32::NAN, "NaN in image 0, expected [0,1]; all values are in [0, 0.359375]");
        check(|v| v[12] = f32::INFINITY, "inf in image 1, expected [0,1]; all values are in [0, inf]");
        check(
            |v| v.iter_mut().for_each(|v| *v *= 640.0),
            "10 in image 0, expected [0,1]; all values are in [0, 230]; divide by 255",
        );
    }
}
