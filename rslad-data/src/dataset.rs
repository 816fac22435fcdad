//! Labeled images in memory, as they were published: one byte per value, and what that byte's full
//! scale is (255 for photographs, 16 for the digits). Tensors are made batch by batch.
//!
//! Every example carries its id, the position in the full split. Subsets keep the ids, and all
//! randomness is keyed by them, so an example meets the same crops and the same attack starts in a
//! subset, in a shard and in the whole.

use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Which part of a published data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// What models are fitted on; a validation set is held out of it.
    Train,
    /// What results are measured on.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Test => "test",
        })
    }
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "train" => Ok(Self::Train),
            "test" => Ok(Self::Test),
            _ => Err(Error::UnknownSplit(name.to_owned())),
        }
    }
}

/// What a data set is made of, before it is checked.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The name users know it by.
    pub name: String,
    /// The part it is.
    pub split: Split,
    /// The values of all images, `[N, C, H, W]` in row-major order.
    pub images: Vec<u8>,
    /// The shape of one image, `[C, H, W]`.
    pub shape: [usize; 3],
    /// The stored value that means 1.0.
    pub full_scale: u8,
    /// The class of each image, `[N]`.
    pub labels: Vec<u32>,
    /// The classes in the order of their labels, `[K]`.
    pub class_names: Vec<String>,
}

/// Labeled images of one split, at least one, all of one shape.
#[derive(Clone, Debug)]
pub struct Dataset {
    contents: Contents,
    ids: Vec<u64>,
}

impl Dataset {
    /// A full split: the ids are the positions.
    ///
    /// # Errors
    /// When there is no image, the number of values does not fit the shape and the labels, a value
    /// exceeds the full scale, or a label has no class.
    pub fn new(contents: Contents) -> Result<Self> {
        match contradiction(&contents) {
            Some(message) => Err(Error::Dataset { name: contents.name, message }),
            None => Ok(Self { ids: (0..contents.labels.len() as u64).collect(), contents }),
        }
    }

    /// The name users know it by.
    pub fn name(&self) -> &str {
        &self.contents.name
    }

    /// The part it is, or was taken from.
    pub fn split(&self) -> Split {
        self.contents.split
    }

    /// The number of images N.
    #[expect(clippy::len_without_is_empty, reason = "a data set is never empty")]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The shape of one image, `[C, H, W]`.
    pub fn shape(&self) -> [usize; 3] {
        self.contents.shape
    }

    /// The number of classes K.
    pub fn n_classes(&self) -> usize {
        self.contents.class_names.len()
    }

    /// The classes in the order of their labels, `[K]`.
    pub fn class_names(&self) -> &[String] {
        &self.contents.class_names
    }

    /// The stored value that means 1.0.
    pub fn full_scale(&self) -> u8 {
        self.contents.full_scale
    }

    /// The position of each image in the full split, `[N]`.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The class of each image, `[N]`.
    pub fn labels(&self) -> &[u32] {
        &self.contents.labels
    }

    /// The class of image `row`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn label(&self, row: usize) -> u32 {
        self.contents.labels[row]
    }

    /// The stored values of image `row`, `[C, H, W]` in row-major order.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn image(&self, row: usize) -> &[u8] {
        let size = self.image_size();
        &self.contents.images[row * size..(row + 1) * size]
    }

    /// The images at these rows as a tensor on the CPU.
    ///
    /// # Shapes
    /// Returns `[n, C, H, W]`, f32 in `[0,1]`: the stored value divided by the full scale, in f32.
    ///
    /// # Errors
    /// When candle cannot make the tensor.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn images_f32(&self, rows: &[usize]) -> Result<Tensor> {
        let full_scale = f32::from(self.full_scale());
        let mut x = Vec::with_capacity(rows.len() * self.image_size());
        for &row in rows {
            x.extend(self.image(row).iter().map(|&v| f32::from(v) / full_scale));
        }
        let [c, h, w] = self.shape();
        Ok(Tensor::from_vec(x, (rows.len(), c, h, w), &Device::Cpu)?)
    }

    /// The examples at these rows, in this order, under their own ids.
    ///
    /// # Errors
    /// When `rows` is empty, names a row twice or names one that does not exist.
    pub fn subset(&self, rows: &[usize]) -> Result<Self> {
        self.check_rows(rows)?;
        let contents = Contents {
            name: self.contents.name.clone(),
            class_names: self.contents.class_names.clone(),
            images: rows.iter().flat_map(|&row| self.image(row)).copied().collect(),
            labels: rows.iter().map(|&row| self.label(row)).collect(),
            ..self.contents
        };
        Ok(Self { contents, ids: rows.iter().map(|&row| self.ids[row]).collect() })
    }

    /// The first `n` examples.
    ///
    /// # Errors
    /// When `n` is 0 or there are fewer.
    pub fn limit(&self, n: usize) -> Result<Self> {
        if n == 0 || n > self.len() {
            return Err(self.error(format!(
                "a limit of {n} images, expected 1 to {} (what its {} split has)",
                self.len(),
                self.split()
            )));
        }
        self.subset(&(0..n).collect::<Vec<_>>())
    }

    /// The number of images of each class, `[K]`.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.n_classes()];
        for &label in self.labels() {
            counts[label as usize] += 1;
        }
        counts
    }

    /// A hash of everything that results depend on, in hexadecimal: names do not count.
    ///
    /// SHA-256 over little-endian N, C, H, W, full scale, K (u64 each), ids (u64), labels (u32) and the
    /// stored values (u8).
    pub fn sha256(&self) -> String {
        let [c, h, w] = self.shape();
        let mut hash = Sha256::new();
        for word in [self.len(), c, h, w, self.full_scale().into(), self.n_classes()] {
            hash.update((word as u64).to_le_bytes());
        }
        self.ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
        self.labels().iter().for_each(|label| hash.update(label.to_le_bytes()));
        hash.update(&self.contents.images);
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn image_size(&self) -> usize {
        self.contents.shape.iter().product()
    }

    pub(crate) fn error(&self, message: String) -> Error {
        Error::Dataset { name: self.contents.name.clone(), message }
    }

    fn check_rows(&self, rows: &[usize]) -> Result<()> {
        if rows.is_empty() {
            return Err(self.error("a subset of no images, expected at least 1".to_owned()));
        }
        let mut taken = vec![false; self.len()];
        for &row in rows {
            match taken.get_mut(row) {
                None => return Err(self.error(format!("row {row}, expected less than {}", self.len()))),
                Some(true) => return Err(self.error(format!("row {row} twice in a subset, expected once"))),
                Some(free) => *free = true,
            }
        }
        Ok(())
    }
}

/// The first thing that is wrong, if any.
fn contradiction(contents: &Contents) -> Option<String> {
    let Contents { images, shape, full_scale, labels, class_names, .. } = contents;
    let n = labels.len();
    let size = shape.iter().try_fold(1usize, |size, &side| size.checked_mul(side));
    if n == 0 {
        return Some("no images, expected at least 1".to_owned());
    }
    if *full_scale == 0 {
        return Some("a full scale of 0, expected 1 to 255 (the stored value that means 1.0)".to_owned());
    }
    if size.is_none_or(|size| size == 0 || size.checked_mul(n) != Some(images.len())) {
        return Some(format!(
            "{} values for {n} labels, expected {n} images of shape {shape:?}",
            images.len()
        ));
    }
    if let Some(value) = images.iter().find(|value| *value > full_scale) {
        return Some(format!("a value of {value}, expected at most the full scale, {full_scale}"));
    }
    let (row, label) = labels.iter().enumerate().find(|(_, label)| **label as usize >= class_names.len())?;
    Some(format!(
        "label {label} of image {row}, expected less than the number of classes, {}",
        class_names.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::toy;

    fn contents() -> Contents {
        Contents {
            name: "toy".to_owned(),
            split: Split::Train,
            images: (0..24).collect(),
            shape: [2, 2, 3],
            full_scale: 23,
            labels: vec![1, 0],
            class_names: vec!["a".to_owned(), "b".to_owned()],
        }
    }

    #[test]
    fn contradictory_contents_are_refused_by_name() {
        let check = |spoil: fn(&mut Contents), expected: &str| {
            let mut spoiled = contents();
            spoil(&mut spoiled);
            let message = Dataset::new(spoiled).expect_err(expected).to_string();
            assert!(message.starts_with("data set `toy`: ") && message.contains(expected), "{message}");
        };
        check(|c| c.labels.clear(), "no images, expected at least 1");
        check(|c| c.full_scale = 0, "a full scale of 0");
        check(|c| c.full_scale = 22, "a value of 23, expected at most the full scale, 22");
        check(|c| c.images.truncate(23), "23 values for 2 labels");
        check(|c| c.labels.push(0), "24 values for 3 labels, expected 3 images of shape [2, 2, 3]");
        check(|c| c.shape = [2, 0, 3], "expected 2 images of shape [2, 0, 3]");
        check(|c| c.shape = [usize::MAX, 2, 3], "24 values for 2 labels");
        check(|c| c.labels[1] = 2, "label 2 of image 1, expected less than the number of classes, 2");
        Dataset::new(contents()).expect("the unspoiled contents");
    }

    #[test]
    fn values_are_divided_in_f32() {
        let data = Dataset::new(contents()).expect("valid");
        let x = data.images_f32(&[1, 0]).expect("rows exist");
        assert_eq!(x.dims(), [2, 2, 2, 3]);
        let x = x.flatten_all().and_then(|x| x.to_vec1::<f32>()).expect("f32");
        let expected: Vec<f32> = (12u8..24).chain(0..12).map(|v| f32::from(v) / 23f32).collect();
        assert_eq!(x, expected);
    }

    #[test]
    fn subsets_of_subsets_keep_the_ids_of_the_full_split() {
        let full = toy(10);
        let part = full.subset(&[7, 2, 5]).and_then(|part| part.subset(&[2, 0])).expect("rows exist");
        assert_eq!(part.ids(), [5, 7]);
        for (row, &id) in part.ids().iter().enumerate() {
            assert_eq!(part.image(row), full.image(id as usize));
            assert_eq!(part.label(row), full.label(id as usize));
        }
    }

    #[test]
    fn impossible_subsets_and_limits_are_refused() {
        let check = |result: Result<Dataset>, expected: &str| {
            let message = result.expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        };
        check(toy(4).subset(&[]), "a subset of no images");
        check(toy(4).subset(&[1, 4]), "row 4, expected less than 4");
        check(toy(4).subset(&[1, 1]), "row 1 twice");
        check(toy(4).limit(0), "a limit of 0 images, expected 1 to 4");
        check(toy(4).limit(5), "a limit of 5 images, expected 1 to 4 (what its train split has)");
        assert_eq!(toy(4).limit(3).expect("in range").ids(), [0, 1, 2]);
    }

    #[test]
    fn the_hash_sees_values_labels_shape_and_ids_but_not_names() {
        let hash = |change: fn(&mut Contents)| {
            let mut changed = contents();
            change(&mut changed);
            Dataset::new(changed).expect("valid").sha256()
        };
        let base = hash(|_| ());
        assert_eq!(base.len(), 64);
        assert_eq!(base, hash(|c| c.name = "other".to_owned()));
        assert_ne!(base, hash(|c| c.images[3] = 0));
        assert_ne!(base, hash(|c| c.labels[1] = 1));
        assert_ne!(base, hash(|c| c.shape = [2, 3, 2]));
        assert_ne!(base, hash(|c| c.full_scale = 24));
        let data = toy(4);
        let (front, back) = (data.subset(&[0, 1]), data.subset(&[1, 0]));
        assert_ne!(front.expect("rows exist").sha256(), back.expect("rows exist").sha256());
    }

    #[test]
    fn a_split_is_read_as_it_is_written() {
        for split in [Split::Train, Split::Test] {
            assert_eq!(split.to_string().parse::<Split>().expect("a split"), split);
        }
        let message = "valid".parse::<Split>().expect_err("no split").to_string();
        assert_eq!(message, "unknown split `valid`, expected `train` or `test`");
    }
}
