//! `per_example.safetensors`: what became of each image, and the adversarial images where they are kept.
//!
//! Those can be more than fits into memory, so they go from the journal to the file one at a time.

use crate::journal::Points;
use anyhow::{Context, Result};
use candle_core::Tensor;
use rslad_data::Dataset;
use rslad_models::durable;
use safetensors::View;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::path::Path;

/// The file's content.
pub(crate) struct PerExample {
    tensors: BTreeMap<String, Tensor>,
    images: Option<Images>,
}

/// `<column>/x_adv` `[N, C, H, W]` of every column: the clean image where no attack was run.
pub(crate) struct Images {
    pub(crate) columns: Vec<String>,
    pub(crate) ids: Vec<u64>,
    pub(crate) points: Points,
    pub(crate) data: Dataset,
}

/// A tensor of the file.
enum Part<'a> {
    Held(&'a Tensor),
    Images(&'a Images, &'a str),
}

const NAME: &str = "per_example.safetensors";

impl PerExample {
    pub(crate) fn new(tensors: BTreeMap<String, Tensor>, images: Option<Images>) -> Self {
        Self { tensors, images }
    }

    /// Writes the file into a directory.
    ///
    /// # Errors
    /// When it cannot be written, or the images are lost.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let mut parts: Vec<(String, Part<'_>)> =
            self.tensors.iter().map(|(name, tensor)| (name.clone(), Part::Held(tensor))).collect();
        if let Some(images) = &self.images {
            let of = |column: &'_ String| format!("{column}/x_adv");
            parts.extend(images.columns.iter().map(|column| (of(column), Part::Images(images, column))));
        }
        // The format's order: by alignment, so that no tensor lies askew.
        parts.sort_by(|(a, x), (b, y)| y.info().0.cmp(&x.info().0).then(a.cmp(b)));
        let mut end = 0;
        let info = |(name, part): &(String, Part<'_>)| {
            let ((dtype, shape), start) = (part.info(), end);
            end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
            (name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
        };
        let infos = parts.iter().map(info).collect();
        let mut header = serde_json::to_vec(&Metadata::new(None, infos).context(NAME)?).context(NAME)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let bytes = 8 + header.len() + end;
        durable::write_with(&dir.join(NAME), bytes, |out| {
            out.write_all(&(header.len() as u64).to_le_bytes())?;
            out.write_all(&header)?;
            parts.iter().try_for_each(|(_, part)| part.write(out))
        })?;
        Ok(())
    }
}

impl Part<'_> {
    fn info(&self) -> (Dtype, Vec<usize>) {
        match self {
            Self::Held(tensor) => (View::dtype(tensor), tensor.dims().to_vec()),
            Self::Images(images, _) => (Dtype::F32, [&[images.ids.len()], &images.data.shape()[..]].concat()),
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Held(tensor) => out.write_all(&View::data(tensor)),
            Self::Images(images, column) => images.write(column, out),
        }
    }
}

impl Images {
    fn write(&self, column: &str, out: &mut dyn Write) -> io::Result<()> {
        let rows: HashMap<u64, usize> =
            self.data.ids().iter().enumerate().map(|(row, &id)| (id, row)).collect();
        let clean = |id: u64| {
            let image = self.data.images_f32(&[rows[&id]]).map_err(io::Error::other)?;
            Ok(View::data(&image).into_owned())
        };
        self.points.copy(column, &self.ids, clean, out)
    }
}

/// Whether a whole evaluation's directory holds its adversarial images.
pub(crate) fn has_images(dir: &Path) -> bool {
    let names = || -> io::Result<Vec<String>> {
        let mut file = std::fs::File::open(dir.join(NAME))?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(length)).read_to_end(&mut header)?;
        let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&header)?;
        Ok(header.into_keys().collect())
    };
    names().is_ok_and(|names| names.iter().any(|name| name.ends_with("/x_adv")))
}
