//! Labeled images in memory, as they were published: one byte per value, and what that byte's full
//! scale is (255 for photographs, 16 for the digits). Tensors are made batch by batch, and subsets share
//! the bytes of the whole: the images of CIFAR-10 take 154 MB, whatever is held out or left aside.
//!
//! Every example carries its id, the position in the full split. Subsets keep the ids, and all
//! randomness is keyed by them, so an example meets the same crops and the same attack starts in a
//! subset, in a shard and in the whole.

mod join;

use crate::error::{Error, Result};
use crate::hash::hex;
use crate::pixels::{Image, Pixels};
use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

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
    /// The values of all images.
    pub pixels: Pixels,
    /// The shape of one image, `[C, H, W]`.
    pub shape: [usize; 3],
    /// The class of each image, `[N]`; [`UNLABELED`] where nobody knows it.
    pub labels: Vec<u32>,
    /// The classes in the order of their labels, `[K]`.
    pub class_names: Vec<String>,
}

/// The label of an image whose class nobody knows: no data set has so many classes.
pub const UNLABELED: u32 = u32::MAX;

/// Images of one split, at least one, all of one shape, most of them labeled.
///
/// A clone and a subset share the stored values with the whole.
#[derive(Clone, Debug)]
pub struct Dataset {
    name: Arc<str>,
    split: Split,
    shape: [usize; 3],
    class_names: Arc<[String]>,
    blocks: Vec<Arc<Pixels>>,
    places: Vec<Place>,
    labels: Vec<u32>,
    ids: Vec<u64>,
    notes: Vec<String>,
}

/// Where an image lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    block: u32,
    index: u32,
}

impl Dataset {
    /// A full split: the ids are the positions.
    ///
    /// # Errors
    /// When there is no image, the number of values does not fit the shape and the labels, a value
    /// exceeds the full scale or leaves `[0,1]`, or a label has no class.
    pub fn new(contents: Contents) -> Result<Self> {
        if let Some(message) = contradiction(&contents) {
            return Err(Error::Dataset { name: contents.name, message });
        }
        let n = contents.labels.len() as u32; // checked: places are u32
        Ok(Self {
            name: contents.name.into(),
            split: contents.split,
            shape: contents.shape,
            class_names: contents.class_names.into(),
            blocks: vec![Arc::new(contents.pixels)],
            places: (0..n).map(|index| Place { block: 0, index }).collect(),
            labels: contents.labels,
            ids: (0..u64::from(n)).collect(),
            notes: Vec::new(),
        })
    }

    /// The same data set with something that its reader noticed and that is no error, such as a file
    /// that is not the published one.
    pub fn with_note(mut self, note: String) -> Self {
        self.notes.push(note);
        self
    }

    /// What the reader noticed.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The name users know it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The part it is, or was taken from.
    pub fn split(&self) -> Split {
        self.split
    }

    /// The number of images N.
    #[expect(clippy::len_without_is_empty, reason = "a data set is never empty")]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The shape of one image, `[C, H, W]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The number of classes K.
    pub fn n_classes(&self) -> usize {
        self.class_names.len()
    }

    /// The classes in the order of their labels, `[K]`.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// The position of each image in the full split, `[N]`.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The class of each image, `[N]`; [`UNLABELED`] where nobody knows it.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The class of image `row`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn label(&self, row: usize) -> u32 {
        self.labels[row]
    }

    /// The number of images whose class nobody knows.
    pub fn n_unlabeled(&self) -> usize {
        self.labels.iter().filter(|&&label| label == UNLABELED).count()
    }

    /// The stored values of image `row`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn image(&self, row: usize) -> Image<'_> {
        let Place { block, index } = self.places[row];
        self.blocks[block as usize].image(index as usize, self.image_size())
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
        let mut x = vec![0.0; rows.len() * self.image_size()];
        for (&row, out) in rows.iter().zip(x.chunks_exact_mut(self.image_size())) {
            self.image(row).write(0, out);
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
        Ok(Self {
            places: rows.iter().map(|&row| self.places[row]).collect(),
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            ids: rows.iter().map(|&row| self.ids[row]).collect(),
            name: Arc::clone(&self.name),
            class_names: Arc::clone(&self.class_names),
            blocks: self.blocks.clone(),
            notes: self.notes.clone(),
            ..*self
        })
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
        for &label in self.labels().iter().filter(|&&label| label != UNLABELED) {
            counts[label as usize] += 1;
        }
        counts
    }

    /// A hash of everything that results depend on, in hexadecimal: names do not count.
    ///
    /// SHA-256 over little-endian N, C, H, W, full scale (0 for floats), K (u64 each), ids (u64), labels
    /// (u32) and the stored values (u8, or f32).
    pub fn sha256(&self) -> String {
        let [c, h, w] = self.shape();
        let full_scale = match self.image(0) {
            Image::Levels { full_scale, .. } => full_scale.into(),
            Image::Floats(_) => 0,
        };
        let mut hash = Sha256::new();
        for word in [self.len(), c, h, w, full_scale, self.n_classes()] {
            hash.update((word as u64).to_le_bytes());
        }
        self.ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
        self.labels().iter().for_each(|label| hash.update(label.to_le_bytes()));
        for row in 0..self.len() {
            match self.image(row) {
                Image::Levels { values, .. } => hash.update(values),
                Image::Floats(values) => values.iter().for_each(|v| hash.update(v.to_le_bytes())),
            }
        }
        hex(&hash.finalize())
    }

    pub(crate) fn image_size(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn error(&self, message: String) -> Error {
        Error::Dataset { name: self.name.to_string(), message }
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
    let Contents { pixels, shape, labels, class_names, .. } = contents;
    let n = labels.len();
    let size = shape.iter().try_fold(1usize, |size, &side| size.checked_mul(side));
    if n == 0 {
        return Some("no images, expected at least 1".to_owned());
    }
    if u32::try_from(n).is_err() {
        return Some(format!("{n} images, expected less than 2^32"));
    }
    if size.is_none_or(|size| size == 0 || size.checked_mul(n) != Some(pixels.len())) {
        return Some(format!(
            "{} values for {n} labels, expected {n} images of shape {shape:?}",
            pixels.len()
        ));
    }
    pixels.problem(pixels.len() / n).or_else(|| {
        let unknown = |label: u32| label != UNLABELED && label as usize >= class_names.len();
        let (row, label) = labels.iter().enumerate().find(|(_, label)| unknown(**label))?;
        Some(format!(
            "label {label} of image {row}, expected less than the number of classes, {}",
            class_names.len()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::toy;

    fn contents() -> Contents {
        Contents {
            name: "toy".to_owned(),
            split: Split::Train,
            pixels: Pixels::Levels { values: (0..24).collect(), full_scale: 23 },
            shape: [2, 2, 3],
            labels: vec![1, 0],
            class_names: vec!["a".to_owned(), "b".to_owned()],
        }
    }

    /// The stored values and their full scale.
    fn levels(contents: &mut Contents) -> (&mut Vec<u8>, &mut u8) {
        match &mut contents.pixels {
            Pixels::Levels { values, full_scale } => (values, full_scale),
            Pixels::Floats(_) => panic!("the contents above are levels"),
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
        check(|c| *levels(c).1 = 0, "a full scale of 0");
        check(|c| *levels(c).1 = 22, "a value of 23 in image 1, expected at most the full scale, 22");
        check(|c| levels(c).0.truncate(23), "23 values for 2 labels");
        check(|c| c.labels.push(0), "24 values for 3 labels, expected 3 images of shape [2, 2, 3]");
        check(|c| c.shape = [2, 0, 3], "expected 2 images of shape [2, 0, 3]");
        check(|c| c.shape = [usize::MAX, 2, 3], "24 values for 2 labels");
        check(|c| c.labels[1] = 2, "label 2 of image 1, expected less than the number of classes, 2");
        Dataset::new(contents()).expect("the unspoiled contents");
    }

    fn hash_of_floats(values: Vec<f32>) -> String {
        Dataset::new(Contents { pixels: Pixels::Floats(values), ..contents() }).expect("valid").sha256()
    }

    #[test]
    fn unlabeled_images_follow_under_their_own_ids() {
        let (some, more) = (toy(4).subset(&[2, 0]).expect("rows exist"), toy(3));
        let both = some.with_unlabeled(&more, 4).expect("fits");
        assert_eq!((both.len(), both.n_unlabeled()), (5, 3));
        assert_eq!(both.ids(), [2, 0, 4, 5, 6]);
        assert_eq!(both.labels(), [0, 0, UNLABELED, UNLABELED, UNLABELED]);
        assert_eq!(both.class_counts(), [2, 0, 0]);
        assert_eq!((both.image(0), both.image(3)), (toy(4).image(2), more.image(1)));
        let part = both.subset(&[4, 1]).expect("rows exist");
        assert_eq!((part.image(0), part.image(1)), (more.image(2), some.image(1)));

        let check = |result: Result<Dataset>, expected: &str| {
            assert_eq!(result.expect_err(expected).to_string(), format!("data set `toy`: {expected}"));
        };
        check(some.with_unlabeled(&more, 2), "id 2 is taken, expected ids below 2");
        let other = Dataset::new(contents()).expect("valid");
        check(
            some.with_unlabeled(&other, 4),
            "images are bytes (full scale 23) of [2, 2, 3], expected bytes (full scale 255) of [3, 2, 3] as in `toy`",
        );
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
        assert_ne!(base, hash(|c| levels(c).0[3] = 0));
        assert_ne!(base, hash(|c| c.labels[1] = 1));
        assert_ne!(base, hash(|c| c.shape = [2, 3, 2]));
        assert_ne!(base, hash(|c| *levels(c).1 = 24));
        assert_ne!(base, hash(|c| c.labels[0] = UNLABELED));
        let floats = |v| hash_of_floats(vec![v; 24]);
        assert_ne!(floats(0.0), floats(0.1));
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
