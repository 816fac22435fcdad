//! The hub's parquet files: a column of encoded images, a column of labels or two.
//!
//! The codec is told from the bytes: PNG on the hub, lossless WebP in smaller copies.

use super::official::is_published;
use super::part::Part;
use super::{Cifar, IMAGE};
use crate::error::{Error, Result};
use crate::hash::Hashed;
use crate::parquet::{Footer, bytes, integers};
use crate::picture;
use rayon::prelude::*;
use std::fs::File;
use std::path::PathBuf;

/// A dictionary may name one image a million times: what unpacks to this much more than the file is a trap.
const MAX_RATIO: usize = 200;
const FREE_BYTES: usize = 1 << 24;

/// Reads the files of a split, in their order.
pub(super) fn read_files(set: Cifar, files: &[PathBuf]) -> Result<Vec<Part>> {
    let read = |path: &PathBuf| {
        let file = File::open(path).map_err(Error::reading(path))?;
        let mut part = read(set, &file).map_err(|message| Error::file(path, message))?;
        let whole = File::open(path).map_err(Error::reading(path))?;
        if !is_published(&Hashed::new(whole).sha256().map_err(Error::reading(path))?) {
            part.unknown.push(path.display().to_string());
        }
        Ok(part)
    };
    files.iter().map(read).collect()
}

/// Row group by row group: labels first, so that images are decoded page by page to where they stay.
fn read(set: Cifar, file: &File) -> std::result::Result<Part, String> {
    let footer = Footer::read(file)?;
    let image = footer.find(&["img.bytes", "image.bytes"])?;
    let (label, coarse) = match set {
        Cifar::Ten => (footer.find(&["label"])?, None),
        Cifar::Hundred => (footer.find(&["fine_label"])?, footer.find(&["coarse_label"]).ok()),
    };
    let size = file.metadata().map_or(0, |about| about.len()) as usize;
    let most = size.saturating_mul(MAX_RATIO).saturating_add(FREE_BYTES);
    let mut part = Part::default();
    for group in 0..footer.n_groups() {
        let first = part.labels.len();
        let labels = integers(file, &footer, group, label)?;
        let coarse = coarse.map(|column| integers(file, &footer, group, column)).transpose()?;
        let n = labels.len();
        if coarse.as_ref().is_some_and(|coarse| coarse.len() != n) {
            return Err(format!("columns of different lengths from row {first} on"));
        }
        for (row, &label) in labels.iter().enumerate() {
            if let Some(problem) = Part::label_problem(set, label, coarse.as_ref().map(|c| c[row])) {
                return Err(format!("row {} has {problem}", first + row));
            }
        }
        bytes(file, &footer, group, image, &mut |packed| {
            let (row, end) = (part.images.len() / IMAGE, part.images.len() + packed.len() * IMAGE);
            if end > most {
                return Err(format!("{size} bytes unpack to more than {most} bytes of images, a trap"));
            }
            part.images.resize(end, 0);
            let places = part.images[row * IMAGE..].par_chunks_exact_mut(IMAGE);
            let decoded = places.zip(packed).enumerate().map(|(i, (place, packed))| {
                decode(packed, place).map_err(|message| format!("row {}: {message}", row + i))
            });
            // All of them, for the first failure and not the fastest.
            decoded.collect::<Vec<_>>().into_iter().collect()
        })?;
        if part.images.len() != (first + n) * IMAGE {
            return Err(format!("columns of different lengths from row {first} on"));
        }
        let checked = |labels: Vec<i64>| labels.into_iter().map(|label| label as u32);
        part.labels.extend(checked(labels));
        part.coarse.extend(coarse.into_iter().flat_map(checked));
    }
    Ok(part)
}

/// Decodes a picture of 32x32 pixels into three planes, which are equal where it is gray.
fn decode(packed: &[u8], out: &mut [u8]) -> std::result::Result<(), String> {
    let values = picture::decode(packed, Some((32, 32)))?.values;
    out.chunks_exact_mut(values.len()).for_each(|planes| planes.copy_from_slice(&values));
    Ok(())
}
