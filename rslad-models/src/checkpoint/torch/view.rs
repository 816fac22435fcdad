//! A tensor as PyTorch stores it: a window over a storage with offset and strides.

use super::element::{ByteOrder, Element};
use crate::checkpoint::fault::Fault;
use candle_core::Tensor;

/// The bytes of a storage, which lie in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) element: Element,
    pub(crate) order: ByteOrder,
}

impl<'a> Storage<'a> {
    /// `count` elements of it from `offset` on.
    pub(crate) fn part(self, offset: usize, count: usize) -> Result<Self, Fault> {
        let size = self.element.size();
        let range = offset.checked_mul(size).zip(count.checked_mul(size));
        let data = range.and_then(|(start, length)| self.data.get(start..start.checked_add(length)?));
        let data = data.ok_or_else(|| Fault::damaged("a view lies outside its storage"))?;
        Ok(Self { data, ..self })
    }
}

/// A tensor that is not read yet.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    pub(crate) storage: Storage<'a>,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

impl View<'_> {
    /// The bytes that its elements take when each is stored once, or nothing when no computer could.
    pub(crate) fn bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.storage.element.size(), |n, &side| n.checked_mul(side))
    }

    /// Checks that all of it lies within its storage.
    pub(crate) fn check(&self, name: &str) -> Result<(), Fault> {
        if self.shape.len() != self.strides.len() {
            return Err(Fault::damaged(format!(
                "`{name}` has {} sides and {} strides",
                self.shape.len(),
                self.strides.len()
            )));
        }
        if self.shape.contains(&0) {
            return Ok(());
        }
        let reach =
            |sum: usize, (side, stride): (&usize, &usize)| sum.checked_add((side - 1).checked_mul(*stride)?);
        let last = self.shape.iter().zip(&self.strides).try_fold(self.offset, reach);
        let held = self.storage.data.len() / self.storage.element.size();
        if last.is_some_and(|last| last < held) {
            return Ok(());
        }
        Err(Fault::damaged(format!(
            "`{name}` of shape {:?} reaches beyond its storage of {held} elements",
            self.shape
        )))
    }

    /// Reads a view that was checked.
    pub(crate) fn tensor(&self) -> candle_core::Result<Tensor> {
        let Storage { data, element, order } = self.storage;
        let n: usize = self.shape.iter().product();
        if n > 0 && self.is_contiguous() {
            return element.tensor(data, order, self.offset..self.offset + n, &self.shape);
        }
        let places = (0..n).map(|i| self.place(i));
        element.tensor(data, order, places, &self.shape)
    }

    /// Where element `i`, counted row by row, lies in the storage.
    fn place(&self, mut i: usize) -> usize {
        let mut place = self.offset;
        for (side, stride) in self.shape.iter().zip(&self.strides).rev() {
            place += i % side * stride;
            i /= side;
        }
        place
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&side, &stride)| {
            let fits = side == 1 || stride == expected;
            expected *= side;
            fits
        })
    }
}
