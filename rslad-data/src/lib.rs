//! Image data sets, their splits, augmentation and batches.
//!
//! Robustness is measured one image at a time, and a comparison of two methods is worth something only
//! if both saw the same images, in the same crops, in the same order. This crate makes that a property
//! of the types. An example has an id, its position in the published split, and keeps it in every
//! subset. The order of an epoch, the crop of an image and the examples held out for validation are each
//! a function of (seed, epoch, id): not of the batch size, the shard or the moment a run was resumed.
//!
//! [`open`] finds a [`Dataset`] by name; [`split_validation`] holds a part of it out; a [`Loader`] cuts
//! it into [`Batch`]es, shuffled and varied by an [`Augment`]; [`in_order`] reads it plainly for
//! evaluation. A batch is the only thing that crosses to training and attacks: images in `[0,1]`, labels,
//! ids, and the [`View`] that each image is, so that a teacher's answer to it can be kept.
//!
//! Images are in `[0,1]` and stay there. A network's mean and standard deviation are the network's
//! business. This crate knows nothing of networks, attacks or recipes.
//!
//! ```
//! use rslad_data::{Augment, Flip, Loader, Split, open, split_validation};
//!
//! let (train, validation) = split_validation(&open("digits", Split::Train)?, 287, 0)?;
//! assert_eq!((train.len(), validation.len()), (1150, 287));
//!
//! let augment = Augment { crop: 1, flip: Flip::None };
//! let loader = Loader::new(&train, 128, augment, 7)?;
//! for batch in loader.epoch(1).from_batch(6) {
//!     let batch = batch?;
//!     assert_eq!(batch.x().dims(), [batch.len(), 1, 8, 8]); // f32 in [0,1]
//! }
//! # Ok::<(), rslad_data::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod augment;
pub mod batch;
pub mod cache;
#[cfg(feature = "candle-datasets")]
pub mod candle_datasets;
pub mod cifar;
pub mod dataset;
pub mod digits;
pub mod digits100;
mod embedded;
pub mod error;
pub mod fashion_mnist;
#[cfg(feature = "fetch")]
pub mod fetch;
#[cfg(feature = "pictures")]
pub mod folder;
mod hash;
mod idx;
pub mod loader;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "pictures")]
mod picture;
pub mod pixels;
pub mod prefetch;
pub mod registry;
pub mod statistics;
pub mod tensors;
#[cfg(test)]
mod testing;
pub mod validation;
mod walk;

pub use augment::{Augment, Flip};
pub use batch::{Batch, View};
pub use dataset::{Contents, Dataset, Split, UNLABELED};
pub use error::{Error, Result};
pub use loader::{Batches, Loader, in_order};
pub use pixels::{Image, Pixels};
pub use prefetch::Prefetched;
pub use registry::{Argument, DATASETS, Entry, open};
pub use statistics::{ChannelStatistics, channel_statistics};
pub use validation::split_validation;
