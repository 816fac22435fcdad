//! People's own data in a safetensors file: `images` and `labels`.

use crate::dataset::{Contents, Dataset, Split, UNLABELED};
use crate::error::{Error, Result};
use crate::pixels::Pixels;
use rslad_models::checkpoint;
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// More classes than any data set has: a label above it is a mistake.
const MAX_CLASSES: u64 = 1 << 16;

/// The data set in a file. It is one split; whichever is asked for is this one.
///
/// `images` is u8 (255 means 1) or f32 in `[0,1]`, `[N, C, H, W]`; `labels` whole numbers, `[N]`, and may
/// be missing where no label is read. The metadata may say `classes`, the number of classes; without it
/// the largest label does.
///
/// # Errors
/// When the file is no such file, or a value or a label is out of range.
pub fn tensors(path: &Path, split: Split) -> Result<Dataset> {
    let bytes = std::fs::read(path).map_err(Error::reading(path))?;
    let wrong = |message: String| Error::file(path, message);
    let header = checkpoint::header(&bytes).map_err(|fault| wrong(fault.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(format!("no safetensors file ({e})")))?;
    let images = file
        .tensor("images")
        .map_err(|_| wrong(format!("has {:?}, expected `images` and `labels`", file.names())))?;
    let [n, c, h, w] = images.shape()[..] else {
        return Err(wrong(format!("`images` is {:?}, expected [N, C, H, W]", images.shape())));
    };
    let pixels = match images.dtype() {
        Dtype::U8 => Pixels::Levels { values: images.data().to_vec(), full_scale: 255 },
        Dtype::F32 => Pixels::Floats(
            images.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        ),
        other => {
            return Err(wrong(format!("`images` is {other:?}, expected U8 (255 means 1) or F32 in [0,1]")));
        }
    };
    let stated = stated_classes(&header).map_err(&wrong)?;
    let labels = match file.tensor("labels") {
        Ok(labels) => checked(&labels, n, stated).map_err(&wrong)?,
        Err(_) => vec![UNLABELED; n],
    };
    let largest = labels.iter().filter(|label| **label != UNLABELED).max();
    let classes = stated.unwrap_or_else(|| largest.map_or(0, |label| u64::from(*label) + 1));
    let data = Dataset::new(Contents {
        name: "tensors".to_owned(),
        split,
        pixels,
        shape: [c, h, w],
        labels,
        class_names: (0..classes).map(|class| class.to_string()).collect(),
    });
    data.map_err(|error| match error {
        Error::Dataset { message, .. } => wrong(message),
        other => other,
    })
}

/// `classes` of the metadata.
fn stated_classes(header: &Metadata) -> std::result::Result<Option<u64>, String> {
    let Some(text) = header.metadata().as_ref().and_then(|metadata| metadata.get("classes")) else {
        return Ok(None);
    };
    let classes = text.parse().ok().filter(|n| (1..=MAX_CLASSES).contains(n));
    classes.map(Some).ok_or_else(|| format!("`classes` is `{text}`, expected 1 to {MAX_CLASSES}"))
}

/// The labels, all below the number of classes.
fn checked(labels: &TensorView<'_>, n: usize, classes: Option<u64>) -> std::result::Result<Vec<u32>, String> {
    if labels.shape() != [n] {
        return Err(format!("`labels` is {:?}, expected [{n}] as there are {n} images", labels.shape()));
    }
    let numbers = integers(labels)
        .ok_or_else(|| format!("`labels` is {:?}, expected whole numbers", labels.dtype()))?;
    let most = classes.unwrap_or(MAX_CLASSES) as i128;
    match numbers.iter().position(|label| !(0..most).contains(label)) {
        None => Ok(numbers.into_iter().map(|label| label as u32).collect()),
        Some(at) => {
            let (min, max) = numbers.iter().fold((i128::MAX, i128::MIN), |(a, b), &v| (a.min(v), b.max(v)));
            Err(format!(
                "label {} of image {at}, expected 0 to {}; all labels are in [{min}, {max}]",
                numbers[at],
                most - 1
            ))
        }
    }
}

fn integers(tensor: &TensorView<'_>) -> Option<Vec<i128>> {
    let (size, signed) = match tensor.dtype() {
        Dtype::U8 => (1, false),
        Dtype::U16 => (2, false),
        Dtype::U32 => (4, false),
        Dtype::U64 => (8, false),
        Dtype::I8 => (1, true),
        Dtype::I16 => (2, true),
        Dtype::I32 => (4, true),
        Dtype::I64 => (8, true),
        _ => return None,
    };
    let number = |bytes: &[u8]| {
        let negative = signed && bytes[size - 1] >= 0x80;
        let mut word = if negative { [0xff; 16] } else { [0; 16] }; // the sign goes on upward
        word[..size].copy_from_slice(bytes);
        i128::from_le_bytes(word)
    };
    Some(tensor.data().chunks_exact(size).map(number).collect())
}
