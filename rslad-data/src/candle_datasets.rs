//! The data sets of the `candle-datasets` crate, and ours for code that was written for it.
//!
//! Its `vision::Dataset` holds floats for all images of both splits; ours is one split and holds bytes. Reading
//! through it costs four times the memory on the way, and its readers trust their files: this is for its
//! users, not for what can be had otherwise. CIFAR-10 is not among the loaders, because the hub's images
//! come out of it transposed.

use crate::dataset::{Contents, Dataset, Split};
use crate::error::{Error, Result};
use crate::pixels::Pixels;
use candle_core::{DType, Device, Tensor};
use candle_datasets::vision;
use std::path::Path;

/// What may follow the decimal point of a level: candle multiplies by the reciprocal of 255.
const TOLERANCE: f32 = 1e-3;

/// One split of a data set of candle-datasets.
///
/// Values that are all levels of 255 are kept as bytes, others as floats.
///
/// # Shapes
/// `shape` is that of an image, `[C, H, W]`; those of `vision` are `[N, C, H, W]`, or `[N, C * H * W]` as its
/// MNIST loaders make them, labels `[N]`.
///
/// # Errors
/// When the tensors do not fit the shape, a value leaves `[0,1]`, or a label has no class.
pub fn from_vision(name: &str, vision: &vision::Dataset, shape: [usize; 3], split: Split) -> Result<Dataset> {
    let (images, labels) = match split {
        Split::Train => (&vision.train_images, &vision.train_labels),
        Split::Test => (&vision.test_images, &vision.test_labels),
    };
    let values = images.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let labels = labels.to_dtype(DType::U32)?.flatten_all()?.to_vec1::<u32>()?;
    Dataset::new(Contents {
        name: name.to_owned(),
        split,
        pixels: levels(&values)
            .map_or(Pixels::Floats(values), |values| Pixels::Levels { values, full_scale: 255 }),
        shape,
        labels,
        class_names: (0..vision.labels).map(|class| class.to_string()).collect(),
    })
}

/// Both splits as a data set of candle-datasets.
///
/// # Shapes
/// Images of `[N, C, H, W]`, f32 in `[0,1]`, labels `[N]`, u8.
///
/// # Errors
/// When the two differ in shape or classes, an image has no label, or there are more than 256 classes.
pub fn to_vision(train: &Dataset, test: &Dataset) -> Result<vision::Dataset> {
    if (train.shape(), train.class_names()) != (test.shape(), test.class_names()) {
        let (wanted, got) = (train.shape(), test.shape());
        let message = format!("the test images are {got:?} in {} classes", test.n_classes());
        let expected = format!("expected {wanted:?} in the {} of the train images", train.n_classes());
        return Err(test.error(format!("{message}, {expected}")));
    }
    let images = |data: &Dataset| data.images_f32(&(0..data.len()).collect::<Vec<_>>());
    Ok(vision::Dataset {
        train_images: images(train)?,
        train_labels: labels_u8(train)?,
        test_images: images(test)?,
        test_labels: labels_u8(test)?,
        labels: train.n_classes(),
    })
}

/// MNIST through the loader of candle-datasets: from the unpacked IDX files in a directory, or from the
/// hub (and its cache) where none is given.
///
/// # Shapes
/// Images of `[1, 28, 28]`, full scale 255, 10 classes; 60,000 to train on and 10,000 to test on.
///
/// # Errors
/// When the files are missing or damaged, or the hub is out of reach.
pub fn mnist(directory: Option<&Path>, split: Split) -> Result<Dataset> {
    let vision = directory.map_or_else(vision::mnist::load, vision::mnist::load_dir)?;
    from_vision("mnist", &vision, [1, 28, 28], split)
}

/// Fashion-MNIST through the loaders of candle-datasets, as [`mnist`].
///
/// # Errors
/// As [`mnist`].
pub fn fashion_mnist(directory: Option<&Path>, split: Split) -> Result<Dataset> {
    let vision = directory.map_or_else(vision::fashion_mnist::load, vision::mnist::load_dir)?;
    from_vision("fashion-mnist", &vision, [1, 28, 28], split)
}

/// The levels of 255 that all of these values are.
fn levels(values: &[f32]) -> Option<Vec<u8>> {
    let level = |&value: &f32| {
        let level = (value * 255.0).round();
        let is_one = (0.0..=255.0).contains(&level) && (value * 255.0 - level).abs() < TOLERANCE;
        is_one.then_some(level as u8)
    };
    values.iter().map(level).collect()
}

fn labels_u8(data: &Dataset) -> Result<Tensor> {
    let label = |&label: &u32| {
        u8::try_from(label).map_err(|_| {
            let message = "an image without a label, or of a class above 255, expected labels of one byte";
            data.error(message.to_owned())
        })
    };
    let labels: Vec<u8> = data.labels().iter().map(label).collect::<Result<_>>()?;
    Tensor::from_vec(labels, data.len(), &Device::Cpu).map_err(Error::from)
}
