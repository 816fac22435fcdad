//! Data sets put together without a copy of their values: each keeps the buffer that it was read into.

use super::{Dataset, Place, UNLABELED};
use crate::error::Result;
use crate::pixels::Image;

impl Dataset {
    /// Full splits one after another, as one full split: of the files that a data set is published in.
    /// They have the name, the split, the shape, the storage and the classes of the first.
    pub(crate) fn one_after_another(first: Self, rest: impl IntoIterator<Item = Self>) -> Self {
        rest.into_iter().fold(first, |mut all, next| {
            debug_assert_eq!((all.shape, all.storage()), (next.shape, next.storage()));
            all.extend(&next);
            all.labels.extend(next.labels);
            all.ids.extend(all.ids.len() as u64..all.places.len() as u64);
            all
        })
    }

    /// This data set and after it the images of another one, without their labels. Their ids are
    /// `first_id` and what follows, which must be no id of this one.
    ///
    /// # Errors
    /// When the images differ in shape or in how they are stored, or an id is taken.
    pub fn with_unlabeled(&self, other: &Self, first_id: u64) -> Result<Self> {
        let (mine, theirs) = (self.storage(), other.storage());
        if (self.shape, &mine) != (other.shape, &theirs) {
            let wanted = format!("{mine} of {:?} as in `{}`", self.shape, self.name);
            return Err(other.error(format!("images are {theirs} of {:?}, expected {wanted}", other.shape)));
        }
        if let Some(id) = self.ids.iter().find(|&&id| id >= first_id) {
            return Err(self.error(format!("id {id} is taken, expected ids below {first_id}")));
        }
        let mut both = self.clone();
        both.extend(other);
        both.labels.resize(both.places.len(), UNLABELED);
        both.ids.extend(first_id..first_id + other.len() as u64);
        both.notes.extend(other.notes.iter().cloned());
        Ok(both)
    }

    /// The places of another one's images, behind those of this one.
    fn extend(&mut self, other: &Self) {
        let offset = self.blocks.len() as u32;
        self.blocks.extend(other.blocks.iter().cloned());
        self.places.extend(other.places.iter().map(|p| Place { block: p.block + offset, ..*p }));
    }

    fn storage(&self) -> String {
        match self.image(0) {
            Image::Levels { full_scale, .. } => format!("bytes (full scale {full_scale})"),
            Image::Floats(_) => "floats".to_owned(),
        }
    }
}
