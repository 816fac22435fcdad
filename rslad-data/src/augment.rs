//! The augmentation of the CIFAR literature: pad with black, cut a window of the old size anywhere,
//! mirror it half of the time.
//!
//! Which window is a function of (seed, epoch, example id), and the image is a function of the window
//! alone: with 4 pixels of padding there are 9 x 9 x 2 = 162 views of an image, few enough that a
//! teacher's answers to them can be kept.

use crate::batch::View;
use crate::pixels::Image;
use rslad_models::randomness::{Key, Purpose};
use serde::{Deserialize, Serialize};

/// Whether images are mirrored left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flip {
    /// Never: for digits and letters, which change their meaning.
    None,
    /// With probability one half.
    Horizontal,
}

/// How training images are varied. Every value is valid; [`Augment::NONE`] shows them as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Black pixels added on all four sides before a window of the old size is cut; 0 cuts nothing.
    pub crop: u8,
    /// Whether the window is then mirrored.
    pub flip: Flip,
}

impl Augment {
    /// Images as they are.
    pub const NONE: Self = Self { crop: 0, flip: Flip::None };

    /// The view of an example in an epoch (counted from 1): uniform over all [`n_views`](Self::n_views).
    pub fn view(&self, seed: u64, epoch: u64, id: u64) -> View {
        let mut draws = Key::new(seed, Purpose::AUGMENT).epoch(epoch).stream(id);
        let mut offset = || draws.below(u32::from(self.side())) as u16; // below side, itself a u16
        let (dy, dx) = (offset(), offset());
        View { dy, dx, flip: self.flip == Flip::Horizontal && draws.coin() }
    }

    /// The number of different views of an image.
    pub fn n_views(&self) -> usize {
        usize::from(self.side()).pow(2) * self.flips()
    }

    /// The number of a view among all views of an image, `0..n_views`: the key of a cache.
    pub fn index(&self, view: View) -> usize {
        let window = usize::from(view.dy) * usize::from(self.side()) + usize::from(view.dx);
        window * self.flips() + usize::from(view.flip)
    }

    /// Writes a view of an image as values in `[0,1]`. The window is applied to the stored values; only
    /// then are they divided by the full scale, so a value does not depend on where it lies.
    ///
    /// # Shapes
    /// `image`, `out`: `[C, H, W]` = `shape`, row-major, at least one value; `out` is 0 everywhere.
    pub(crate) fn write(&self, view: View, image: Image<'_>, shape: [usize; 3], out: &mut [f32]) {
        let [_, h, w] = shape;
        let rows = overlap(h, view.dy, self.crop);
        let columns = overlap(w, view.dx, self.crop);
        for (plane, window) in out.chunks_exact_mut(h * w).enumerate() {
            for row in 0..rows.len {
                let from = plane * h * w + (rows.from + row) * w + columns.from;
                let line = &mut window[(rows.to + row) * w..][..w];
                image.write(from, &mut line[columns.to..][..columns.len]);
                if view.flip {
                    line.reverse();
                }
            }
        }
    }

    /// The number of window positions along one axis.
    fn side(&self) -> u16 {
        2 * u16::from(self.crop) + 1
    }

    fn flips(&self) -> usize {
        match self.flip {
            Flip::None => 1,
            Flip::Horizontal => 2,
        }
    }
}

/// The part of a window that shows the image and not the padding, along one axis.
struct Overlap {
    /// Where it begins in the image.
    from: usize,
    /// Where it begins in the window.
    to: usize,
    /// How long it is.
    len: usize,
}

fn overlap(side: usize, offset: u16, pad: u8) -> Overlap {
    let (offset, pad) = (usize::from(offset), usize::from(pad));
    let (from, to) = (offset.saturating_sub(pad), pad.saturating_sub(offset));
    Overlap { from: from.min(side), to: to.min(side), len: side.saturating_sub(from.max(to)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pads, cuts and mirrors in three separate passes over whole images.
    fn slow(augment: Augment, view: View, image: &[u8], [c, h, w]: [usize; 3], full_scale: u8) -> Vec<f32> {
        let pad = usize::from(augment.crop);
        let (ph, pw) = (h + 2 * pad, w + 2 * pad);
        let mut padded = vec![0u8; c * ph * pw];
        let mut cut = vec![0u8; c * h * w];
        let mut mirrored = cut.clone();
        for (i, &value) in image.iter().enumerate() {
            let (k, y, x) = (i / (h * w), i / w % h, i % w);
            padded[(k * ph + y + pad) * pw + x + pad] = value;
        }
        for (i, value) in cut.iter_mut().enumerate() {
            let (k, y, x) = (i / (h * w), i / w % h, i % w);
            *value = padded[(k * ph + y + usize::from(view.dy)) * pw + x + usize::from(view.dx)];
        }
        for (i, value) in mirrored.iter_mut().enumerate() {
            let (row, x) = (i / w, i % w);
            *value = cut[row * w + if view.flip { w - 1 - x } else { x }];
        }
        mirrored.iter().map(|&v| f32::from(v) / f32::from(full_scale)).collect()
    }

    proptest! {
        #[test]
        fn views_equal_the_slow_reference(
            shape in [1usize..4, 1usize..7, 1usize..7],
            crop in 0u8..9,
            flip in prop_oneof![Just(Flip::None), Just(Flip::Horizontal)],
            (seed, epoch, id) in any::<(u64, u64, u64)>(),
            full_scale in 200u8..=255,
        ) {
            let augment = Augment { crop, flip };
            let image: Vec<u8> = (0..shape.iter().product()).map(|i: usize| 1 + i as u8).collect();
            let view = augment.view(seed, epoch, id);
            let mut out = vec![0.0; image.len()];
            augment.write(view, Image::Levels { values: &image, full_scale }, shape, &mut out);
            let expected = slow(augment, view, &image, shape, full_scale);
            prop_assert_eq!(&out, &expected);
            let floats: Vec<f32> = image.iter().map(|&v| f32::from(v) / f32::from(full_scale)).collect();
            out.fill(0.0);
            augment.write(view, Image::Floats(&floats), shape, &mut out);
            prop_assert_eq!(&out, &expected);
        }
    }

    #[test]
    fn all_162_views_of_a_padding_of_4_come_up_evenly() {
        let augment = Augment { crop: 4, flip: Flip::Horizontal };
        assert_eq!(augment.n_views(), 162);
        let mut counts = [0i32; 162];
        for id in 0..162 * 50 {
            for epoch in 1..=4 {
                let view = augment.view(0, epoch, id);
                assert!(view.dy <= 8 && view.dx <= 8);
                counts[augment.index(view)] += 1;
            }
        }
        // Mean 200, standard deviation 14.1: five of them, over 162 views.
        assert!(counts.iter().all(|count| (count - 200).abs() < 71), "{counts:?}");
    }

    #[test]
    fn every_view_has_its_own_index() {
        for augment in [Augment { crop: 2, flip: Flip::Horizontal }, Augment { crop: 3, flip: Flip::None }] {
            let flips: &[bool] = if augment.flip == Flip::None { &[false] } else { &[false, true] };
            let offsets = 0..=2 * u16::from(augment.crop);
            let views = offsets.clone().flat_map(|dy| offsets.clone().map(move |dx| (dy, dx)));
            let views = views.flat_map(|(dy, dx)| flips.iter().map(move |&flip| View { dy, dx, flip }));
            let indices: Vec<usize> = views.map(|view| augment.index(view)).collect();
            assert_eq!(indices, (0..augment.n_views()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_view_depends_on_seed_epoch_and_id() {
        let augment = Augment { crop: 100, flip: Flip::Horizontal };
        let base = augment.view(1, 1, 1);
        assert_eq!(base, augment.view(1, 1, 1));
        for other in [augment.view(2, 1, 1), augment.view(1, 2, 1), augment.view(1, 1, 2)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn without_augmentation_there_is_one_view_and_it_is_the_default() {
        assert_eq!(Augment::NONE.n_views(), 1);
        assert_eq!(Augment::NONE.view(3, 4, 5), View::default());
    }
}
