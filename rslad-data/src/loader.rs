//! From a data set to batches: the shuffled, augmented epochs of training and the plain pass of
//! evaluation.
//!
//! An epoch's order is drawn example by example, not batch by batch: the place of an example is its own
//! draw from (seed, epoch, id). So the order does not depend on the batch size, the order of a subset
//! is that of the whole with the others left out, and a resumed run starts at any batch at no cost.

use crate::augment::Augment;
use crate::batch::{Batch, View};
use crate::dataset::Dataset;
use crate::error::Result;
use candle_core::{Device, Tensor};
use rslad_models::randomness::{Key, Purpose};

/// Cuts a data set into batches, epoch after epoch.
#[derive(Clone, Copy, Debug)]
pub struct Loader<'a> {
    data: &'a Dataset,
    batch_size: usize,
    augment: Augment,
    seed: u64,
}

impl<'a> Loader<'a> {
    /// A loader of this data set.
    ///
    /// # Errors
    /// When `batch_size` is 0.
    pub fn new(data: &'a Dataset, batch_size: usize, augment: Augment, seed: u64) -> Result<Self> {
        check_batch_size(data, batch_size)?;
        Ok(Self { data, batch_size, augment, seed })
    }

    /// The number of batches of an epoch; the last one may be smaller than the others.
    pub fn batches_per_epoch(&self) -> usize {
        self.data.len().div_ceil(self.batch_size)
    }

    /// Every example once, in the order and the views of this epoch.
    ///
    /// # Units
    /// `epoch`: counted from 1.
    pub fn epoch(&self, epoch: u64) -> Batches {
        let ids = self.data.ids();
        let key = Key::new(self.seed, Purpose::SHUFFLE).epoch(epoch);
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_cached_key(|&row| (key.stream(ids[row]).bits(), ids[row]));
        let views = order.iter().map(|&row| self.augment.view(self.seed, epoch, ids[row])).collect();
        Batches {
            data: self.data.clone(),
            batch_size: self.batch_size,
            augment: self.augment,
            order,
            views,
            start: 0,
        }
    }
}

/// Every example once, in the order of the data set and without augmentation: what evaluation reads.
///
/// # Errors
/// When `batch_size` is 0.
pub fn in_order(data: &Dataset, batch_size: usize) -> Result<Batches> {
    check_batch_size(data, batch_size)?;
    let order = (0..data.len()).collect();
    let views = vec![View::default(); data.len()];
    Ok(Batches { data: data.clone(), batch_size, augment: Augment::NONE, order, views, start: 0 })
}

fn check_batch_size(data: &Dataset, batch_size: usize) -> Result<()> {
    if batch_size == 0 {
        return Err(data.error("a batch size of 0, expected at least 1".to_owned()));
    }
    Ok(())
}

/// The batches of one pass over a data set, made one by one, on the CPU; it shares the images.
#[derive(Clone, Debug)]
pub struct Batches {
    data: Dataset,
    batch_size: usize,
    augment: Augment,
    order: Vec<usize>,
    views: Vec<View>,
    start: usize,
}

impl Batches {
    /// The same pass from this batch on, counted from 0 at the beginning of the pass: how an epoch is
    /// resumed. Past the last batch nothing is left.
    pub fn from_batch(self, index: usize) -> Self {
        let start = index.saturating_mul(self.batch_size).min(self.order.len());
        Self { start, ..self }
    }

    fn batch(&self, range: std::ops::Range<usize>) -> Result<Batch> {
        let (rows, views) = (&self.order[range.clone()], &self.views[range]);
        let (data, size) = (&self.data, self.data.image_size());
        let mut x = vec![0.0; rows.len() * size];
        for ((&row, &view), out) in rows.iter().zip(views).zip(x.chunks_exact_mut(size)) {
            self.augment.write(view, data.image(row), data.shape(), out);
        }
        let [c, h, w] = data.shape();
        let x = Tensor::from_vec(x, (rows.len(), c, h, w), &Device::Cpu)?;
        let y: Vec<u32> = rows.iter().map(|&row| data.label(row)).collect();
        let y = Tensor::from_vec(y, rows.len(), &Device::Cpu)?;
        Ok(Batch::of_dataset(rows.iter().map(|&row| data.ids()[row]).collect(), views.to_vec(), x, y))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.order.len().min(self.start + self.batch_size);
        let range = self.start..end;
        self.start = end;
        (!range.is_empty()).then(|| self.batch(range))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.order.len() - self.start).div_ceil(self.batch_size);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Flip;
    use crate::testing::toy;
    use proptest::prelude::*;

    const AUGMENT: Augment = Augment { crop: 1, flip: Flip::Horizontal };

    /// Everything a batch holds, in plain values.
    fn plain(batch: Result<Batch>) -> Vec<(u64, View, Vec<f32>, u32)> {
        let batch = batch.expect("a batch");
        let x = batch.x().flatten_from(1).and_then(|x| x.to_vec2()).expect("f32");
        let y = batch.y().to_vec1().expect("u32");
        let who = batch.ids().iter().copied().zip(batch.views().iter().copied());
        who.zip(x).zip(y).map(|(((id, view), x), y)| (id, view, x, y)).collect()
    }

    fn ids(batches: Batches) -> Vec<u64> {
        batches.flat_map(plain).map(|(id, ..)| id).collect()
    }

    proptest! {
        #[test]
        fn an_epoch_is_the_same_for_every_batch_size(n in 1usize..60, size in 1usize..70, epoch in 1u64..9) {
            let data = toy(n);
            let whole = Loader::new(&data, n, AUGMENT, 5).expect("a size").epoch(epoch);
            let parts = Loader::new(&data, size, AUGMENT, 5).expect("a size").epoch(epoch);
            let whole: Vec<_> = whole.flat_map(plain).collect();
            prop_assert_eq!(&whole, &parts.flat_map(plain).collect::<Vec<_>>());
            let mut seen: Vec<u64> = whole.iter().map(|(id, ..)| *id).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, data.ids());
        }

        #[test]
        fn starting_at_a_batch_gives_the_tail_of_the_epoch(n in 1usize..60, size in 1usize..20, k in 0usize..70) {
            let data = toy(n);
            let loader = Loader::new(&data, size, AUGMENT, 5).expect("a size");
            let tail: Vec<_> = loader.epoch(2).skip(k).map(plain).collect();
            let resumed = loader.epoch(2).from_batch(k);
            prop_assert_eq!(resumed.len(), tail.len());
            prop_assert_eq!(resumed.map(plain).collect::<Vec<_>>(), tail);
        }

        #[test]
        fn a_subset_keeps_the_order_and_the_views_of_the_whole(kept in prop::collection::btree_set(0usize..30, 1..30)) {
            let data = toy(30);
            let rows: Vec<usize> = kept.iter().copied().rev().collect();
            let part = data.subset(&rows).expect("rows exist");
            let loader = |data| Loader::new(data, 7, AUGMENT, 5).expect("a size");
            let whole = loader(&data).epoch(3).flat_map(plain).filter(|(id, ..)| kept.contains(&(*id as usize)));
            let whole: Vec<_> = whole.collect();
            prop_assert_eq!(loader(&part).epoch(3).flat_map(plain).collect::<Vec<_>>(), whole);
        }
    }

    #[test]
    fn epochs_and_seeds_have_orders_of_their_own() {
        let data = toy(50);
        let order = |seed, epoch| ids(Loader::new(&data, 8, AUGMENT, seed).expect("a size").epoch(epoch));
        assert_eq!(order(1, 1), order(1, 1));
        assert_ne!(order(1, 1), order(1, 2));
        assert_ne!(order(1, 1), order(2, 1));
    }

    #[test]
    fn the_last_batch_holds_the_rest() {
        let data = toy(10);
        let loader = Loader::new(&data, 4, AUGMENT, 0).expect("a size");
        let sizes: Vec<usize> = loader.epoch(1).map(|batch| plain(batch).len()).collect();
        assert_eq!((loader.batches_per_epoch(), sizes), (3, vec![4, 4, 2]));
    }

    #[test]
    fn evaluation_reads_every_image_as_it_is_and_in_order() {
        let data = toy(10);
        let rows: Vec<_> = in_order(&data, 4).expect("a size").flat_map(plain).collect();
        let expected =
            data.images_f32(&(0..10).collect::<Vec<_>>()).and_then(|x| Ok(x.flatten_from(1)?.to_vec2()?));
        for (row, x) in expected.expect("rows exist").into_iter().enumerate() {
            assert_eq!(rows[row], (row as u64, View::default(), x, data.label(row)));
        }
    }

    #[test]
    fn a_batch_size_of_zero_is_refused() {
        let expected = "data set `toy`: a batch size of 0, expected at least 1";
        assert_eq!(Loader::new(&toy(3), 0, AUGMENT, 0).expect_err("0").to_string(), expected);
        assert_eq!(in_order(&toy(3), 0).expect_err("0").to_string(), expected);
    }
}
