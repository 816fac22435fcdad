//! Unpacks the data sets inside the binary: `assets/make_assets.py` packs them, one file per split.
//!
//! A file is a zlib stream of the labels, one byte each, and the images, each filtered with PNG's Paeth
//! predictor. There is one door, [`Packed::open`], and what it has unpacked it keeps.

use crate::dataset::{Contents, Dataset, Split};
use crate::error::Result;
use crate::pixels::Pixels;
use flate2::read::ZlibDecoder;
use std::io::Read;
use std::sync::OnceLock;

/// One embedded split of gray images.
pub(crate) struct Packed {
    pub(crate) name: &'static str,
    pub(crate) split: Split,
    pub(crate) bytes: &'static [u8],
    pub(crate) n: usize,
    pub(crate) side: usize,
    pub(crate) full_scale: u8,
    pub(crate) class_names: [&'static str; 10],
    pub(crate) unpacked: OnceLock<Dataset>,
}

impl Packed {
    /// The split, unpacked at the first call.
    pub(crate) fn open(&self) -> Result<Dataset> {
        if let Some(data) = self.unpacked.get() {
            return Ok(data.clone());
        }
        let data = self.unpack()?;
        Ok(self.unpacked.get_or_init(|| data).clone())
    }

    fn unpack(&self) -> Result<Dataset> {
        let mut labels = vec![0; self.n];
        let mut images = vec![0; self.n * self.side * self.side];
        let mut stream = ZlibDecoder::new(self.bytes);
        stream
            .read_exact(&mut labels)
            .and_then(|()| stream.read_exact(&mut images))
            .expect("an asset holds a whole split: a test opens every one");
        images.chunks_exact_mut(self.side * self.side).for_each(|image| undo_paeth(image, self.side));
        Dataset::new(Contents {
            name: self.name.to_owned(),
            split: self.split,
            pixels: Pixels::Levels { values: images, full_scale: self.full_scale },
            shape: [1, self.side, self.side],
            labels: labels.into_iter().map(u32::from).collect(),
            class_names: self.class_names.map(str::to_owned).to_vec(),
        })
    }
}

/// Turns differences from PNG's Paeth prediction back into pixels, in place (PNG specification, 9.4).
fn undo_paeth(image: &mut [u8], width: usize) {
    for at in 0..image.len() {
        let (has_left, has_up) = (!at.is_multiple_of(width), at >= width);
        let left = if has_left { image[at - 1] } else { 0 };
        let up = if has_up { image[at - width] } else { 0 };
        let corner = if has_left && has_up { image[at - width - 1] } else { 0 };
        image[at] = image[at].wrapping_add(paeth(left, up, corner));
    }
}

/// The neighbor nearest to left + up - corner; the first of equals.
fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let near = i16::from(left) + i16::from(up) - i16::from(corner);
    let distance = |v: u8| (near - i16::from(v)).abs();
    if distance(left) <= distance(up) && distance(left) <= distance(corner) {
        left
    } else if distance(up) <= distance(corner) {
        up
    } else {
        corner
    }
}

/// The stored bytes of an embedded image, and their full scale.
pub(crate) fn levels(data: &Dataset, row: usize) -> (&[u8], u8) {
    match data.image(row) {
        crate::pixels::Image::Levels { values, full_scale } => (values, full_scale),
        crate::pixels::Image::Floats(_) => panic!("`{}` is stored as floats", data.name()),
    }
}

/// An image as text, for tests that a person can read: `#` above half of the full scale, `+` above a
/// quarter.
#[cfg(test)]
pub(crate) fn drawn(data: &Dataset, row: usize) -> Vec<String> {
    let [_, _, width] = data.shape();
    let (values, full_scale) = levels(data, row);
    let ink = |&v: &u8| match 4 * u32::from(v) / u32::from(full_scale) {
        0 => '.',
        1 => '+',
        _ => '#',
    };
    values.chunks(width).map(|line| line.iter().map(ink).collect()).collect()
}
