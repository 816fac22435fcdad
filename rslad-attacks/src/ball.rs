//! The set an adversarial example must stay in: an L-infinity ball around x_nat, cut by [0, 1].
//!
//! Membership is exact. `x_nat + eps` is seldom an f32, and the nearest f32 is outside half of the
//! time; a budget that is kept "up to 1e-6" cannot be checked by anybody else without guessing the same
//! tolerance. Here the bounds are the outermost f32 values that are inside, so
//! `(x_adv as f64 - x_nat as f64).abs() <= eps` holds for every pixel of every point that leaves this
//! crate.

use crate::error::{Error, Result};
use crate::linf::Linf;
use crate::pixels;
use crate::rows;
use candle_core::{DType, Tensor};
use rslad_models::exec::sign_step;
use serde::{Deserialize, Serialize};

/// A ball around each image of a batch.
#[derive(Clone, Debug)]
pub struct Ball {
    x_nat: Tensor,
    eps: Linf,
    lower: Tensor,
    upper: Tensor,
}

/// The order of the two halves of a projection.
///
/// Released codes differ here. In this crate both give the same bits, because x_nat is in [0, 1] and the
/// bounds are exact; with bounds rounded to the nearest f32, a point could end outside of whichever came
/// first. The order is kept so that a recipe can say what its source wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Clamp to [0, 1], then project to the ball (the evaluation attack in RSLAD's training script).
    ClampProject,
    /// Project to the ball, then clamp to [0, 1] (the training attacks of TRADES, ARD and RSLAD).
    ProjectClamp,
}

impl Order {
    /// The point between the bounds and in [0, 1] that is nearest to `x`, which is not NaN.
    fn nearest(self, x: f32, bounds: [f32; 2]) -> f32 {
        let between = |x: f32, [lower, upper]: [f32; 2]| {
            let x = if x < lower { lower } else { x };
            if x > upper { upper } else { x }
        };
        match self {
            Self::ClampProject => between(between(x, [0.0, 1.0]), bounds),
            Self::ProjectClamp => between(between(x, bounds), [0.0, 1.0]),
        }
    }
}

impl Ball {
    /// The ball of radius `eps` around each image.
    ///
    /// # Shapes
    /// `x_nat`: `[N, C, H, W]`, f32 in [0, 1].
    ///
    /// # Errors
    /// When the images have another shape or type, or a value outside [0, 1].
    pub fn new(x_nat: &Tensor, eps: Linf) -> Result<Self> {
        if x_nat.rank() != 4 || x_nat.dtype() != DType::F32 || x_nat.elem_count() == 0 {
            return Err(Error::Tensor {
                what: "x_nat",
                got: format!("{:?} {:?}", x_nat.dtype(), x_nat.dims()),
                expected: "F32 [N, C, H, W] with no empty dimension".to_owned(),
            });
        }
        let x_nat = x_nat.detach().contiguous()?;
        let pixels = x_nat.flatten_all()?.to_vec1::<f32>()?;
        check_images(&pixels, pixels.len() / x_nat.dim(0)?)?;
        let bound = |toward: f64| {
            let bounds: Vec<f32> = pixels.iter().map(|&x| outermost(x, toward, eps.get())).collect();
            Tensor::from_vec(bounds, x_nat.shape(), x_nat.device())
        };
        Ok(Self { lower: bound(-1.0)?, upper: bound(1.0)?, eps, x_nat })
    }

    /// The images at the centers, `[N, C, H, W]`.
    pub fn x_nat(&self) -> &Tensor {
        &self.x_nat
    }

    /// The radius.
    pub fn eps(&self) -> Linf {
        self.eps
    }

    /// The number of images.
    pub fn n(&self) -> usize {
        self.x_nat.dims()[0]
    }

    /// The nearest point that is in the ball and in [0, 1]; x_nat where `x` is NaN.
    ///
    /// # Errors
    /// When `x` is not shaped like x_nat.
    pub fn project(&self, x: &Tensor, order: Order) -> Result<Tensor> {
        self.check_shape(x)?;
        if self.eps == Linf::ZERO {
            return Ok(self.x_nat.clone()); // to the bit: clamping to equal bounds may swap -0.0 and 0.0
        }
        if !self.x_nat.device().is_cpu() {
            return pixels::nearest(&self.beside(x)?, self.values());
        }
        pixels::map([&self.beside(x)?, &self.x_nat, &self.lower, &self.upper], |[x, x_nat, lower, upper]| {
            order.nearest(if x.is_nan() { x_nat } else { x }, [lower, upper])
        })
    }

    /// The point a step along the sign of `dx` away from `x`, projected. A pixel whose `dx` is 0 or NaN
    /// stays where it is.
    ///
    /// # Units
    /// `step_size` in pixel intensity.
    ///
    /// # Errors
    /// When `x` or `dx` is not shaped like x_nat.
    pub fn sign_step(&self, x: &Tensor, dx: &Tensor, step_size: f64, order: Order) -> Result<Tensor> {
        self.check_shape(x)?;
        self.check_shape(dx)?;
        if self.eps == Linf::ZERO {
            return Ok(self.x_nat.clone());
        }
        let (x, dx) = (self.beside(x)?, self.beside(dx)?);
        if !self.x_nat.device().is_cpu() {
            return self.sign_step_by_tensors(&x, &dx, step_size);
        }
        let step_size = step_size as f32;
        let tensors = [&x, &dx, &self.x_nat, &self.lower, &self.upper];
        pixels::map(tensors, |[x, dx, x_nat, lower, upper]| {
            let to = x + step_size * sign(dx);
            order.nearest(if to.is_nan() { x_nat } else { to }, [lower, upper])
        })
    }

    /// Both orders give the same points: see [`Order`].
    fn sign_step_by_tensors(&self, x: &Tensor, dx: &Tensor, step_size: f64) -> Result<Tensor> {
        let [lower, x_nat, upper] = self.values();
        if let Some(stepped) = sign_step([x, dx, x_nat, lower, upper], step_size as f32)? {
            return Ok(stepped);
        }
        pixels::nearest(&(x + (pixels::sign(dx)? * step_size)?)?, self.values())
    }

    /// The point of the ball and of [0, 1] that is nearest, the image's pixel where `x` is NaN: by tensor operations.
    pub(crate) fn nearest(&self, x: Tensor) -> Result<Tensor> {
        pixels::nearest(&x, self.values())
    }

    /// The bounds with the image in the middle.
    pub(crate) fn values(&self) -> [&Tensor; 3] {
        [&self.lower, &self.x_nat, &self.upper]
    }

    /// A tensor on the device of the images.
    fn beside(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.to_device(self.x_nat.device())?)
    }

    /// Whether every pixel is in the ball and in [0, 1]: exact, and independent of the projection.
    ///
    /// # Errors
    /// When `x_adv` is not shaped like x_nat.
    pub fn contains(&self, x_adv: &Tensor) -> Result<bool> {
        self.check_shape(x_adv)?;
        let x_adv = x_adv.flatten_all()?.to_vec1::<f32>()?;
        let x_nat = self.x_nat.flatten_all()?.to_vec1::<f32>()?;
        let inside = |(&a, &b): (&f32, &f32)| distance(a, b) <= self.eps.get() && (0.0..=1.0).contains(&a);
        Ok(x_adv.iter().zip(&x_nat).all(inside))
    }

    /// The L-infinity distance of each image from its center, rounded down to f32: never above eps for
    /// a point of the ball.
    ///
    /// # Errors
    /// When `x_adv` is not shaped like x_nat.
    pub fn linf(&self, x_adv: &Tensor) -> Result<Vec<f32>> {
        self.check_shape(x_adv)?;
        let x_adv = x_adv.flatten_from(1)?.to_vec2::<f32>()?;
        let x_nat = self.x_nat.flatten_from(1)?.to_vec2::<f32>()?;
        let largest = |(a, b): (&Vec<f32>, &Vec<f32>)| {
            let max = a.iter().zip(b).map(|(&a, &b)| distance(a, b)).fold(0.0, f64::max);
            round_down(max)
        };
        Ok(x_adv.iter().zip(&x_nat).map(largest).collect())
    }

    /// The balls of some of the images.
    ///
    /// # Errors
    /// When a row is out of range or there is none.
    pub fn rows(&self, rows: &[u32]) -> Result<Self> {
        let take = |t: &Tensor| rows::take(t, rows);
        Ok(Self {
            x_nat: take(&self.x_nat)?,
            eps: self.eps,
            lower: take(&self.lower)?,
            upper: take(&self.upper)?,
        })
    }

    /// These balls and then those of another batch.
    ///
    /// # Errors
    /// When radius or image shape differ.
    pub fn join(&self, other: &Self) -> Result<Self> {
        if self.eps != other.eps {
            let expected = format!("{}, the radius of the images they join", self.eps);
            return Err(Error::Value { what: "radius", value: other.eps.to_string(), expected });
        }
        let cat = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        Ok(Self {
            x_nat: cat(&self.x_nat, &other.x_nat)?,
            eps: self.eps,
            lower: cat(&self.lower, &other.lower)?,
            upper: cat(&self.upper, &other.upper)?,
        })
    }

    /// The smallest and the largest value of each pixel, image by image: the ball cut by [0, 1].
    pub(crate) fn bounds(&self) -> Result<Vec<(Vec<f32>, Vec<f32>)>> {
        let lower = self.lower.clamp(0f32, 1f32)?.flatten_from(1)?.to_vec2::<f32>()?;
        let upper = self.upper.clamp(0f32, 1f32)?.flatten_from(1)?.to_vec2::<f32>()?;
        Ok(lower.into_iter().zip(upper).collect())
    }

    fn check_shape(&self, x: &Tensor) -> Result<()> {
        match x.shape() == self.x_nat.shape() && x.dtype() == DType::F32 {
            true => Ok(()),
            false => Err(Error::Tensor {
                what: "x_adv",
                got: format!("{:?} {:?}", x.dtype(), x.dims()),
                expected: format!("F32 {:?} like x_nat", self.x_nat.dims()),
            }),
        }
    }
}

/// 1, -1, or 0 for 0 and NaN.
pub(crate) fn sign(v: f32) -> f32 {
    f32::from(v > 0.0) - f32::from(v < 0.0)
}

fn distance(a: f32, b: f32) -> f64 {
    (f64::from(a) - f64::from(b)).abs()
}

/// The f32 farthest from `x` in this direction whose distance from it is at most `eps`.
fn outermost(x: f32, toward: f64, eps: f64) -> f32 {
    let mut bound = (f64::from(x) + toward * eps) as f32;
    while distance(bound, x) > eps {
        bound = if toward > 0.0 { bound.next_down() } else { bound.next_up() };
    }
    bound
}

fn round_down(v: f64) -> f32 {
    let nearest = v as f32;
    if f64::from(nearest) > v { nearest.next_down() } else { nearest }
}

fn check_images(pixels: &[f32], per_image: usize) -> Result<()> {
    let outside = |&x: &f32| !(0.0..=1.0).contains(&x);
    let Some(first) = pixels.iter().position(outside) else { return Ok(()) };
    let index = first / per_image;
    let image = &pixels[index * per_image..][..per_image];
    // NaN wins, so that the message shows it.
    let fold = |pick: fn(f32, f32) -> f32| {
        image.iter().copied().reduce(|a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { pick(a, b) })
    };
    let range = fold(f32::min).zip(fold(f32::max));
    let (min, max) = range.expect("an image has at least one pixel");
    Err(Error::Images { index, min, max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use proptest::prelude::*;

    fn image(pixels: &[f32]) -> Tensor {
        Tensor::from_slice(pixels, (1, 1, 1, pixels.len()), &Device::Cpu).unwrap()
    }

    fn values(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn images_outside_the_unit_range_are_refused_by_name() {
        let x = Tensor::new(&[[[[0f32, 1.]]], [[[0.5, 255.]]]], &Device::Cpu).unwrap();
        let message = Ball::new(&x, Linf::ZERO).unwrap_err().to_string();
        assert!(message.starts_with("image 1 of the batch has values from 0.5 to 255, expected [0, 1]"));
        for bad in [f32::NAN, f32::INFINITY, -f32::MIN_POSITIVE, 1.0f32.next_up()] {
            assert!(Ball::new(&image(&[0.5, bad]), Linf::ZERO).is_err(), "{bad}");
        }
        assert!(Ball::new(&image(&[0.5]).squeeze(0).unwrap(), Linf::ZERO).is_err());
    }

    #[test]
    fn eps_zero_gives_back_x_nat_to_the_bit() {
        let x_nat = [0.0, -0.0, 0.3, 1.0];
        let ball = Ball::new(&image(&x_nat), Linf::ZERO).unwrap();
        let out = ball.project(&image(&[0.1, 0.1, f32::NAN, -3.0]), Order::ClampProject).unwrap();
        assert_eq!(values(&out).iter().map(|v| v.to_bits()).collect::<Vec<_>>(), x_nat.map(f32::to_bits));
    }

    #[test]
    fn a_step_is_what_its_parts_are_to_the_bit() {
        let n = 70_001; // long enough for candle to split it
        let wave = |scale: f64| {
            Tensor::arange(0u32, n, &Device::Cpu)?.to_dtype(DType::F32)?.affine(scale, 0.0)?.sin()
        };
        let shaped = |scale: f64| wave(scale).unwrap().reshape((1, 1, 1, n as usize)).unwrap();
        let x_nat = shaped(0.37).abs().unwrap();
        let ball = Ball::new(&x_nat, Linf::new(8.0 / 255.0).unwrap()).unwrap();
        let dx = (shaped(1.7).relu().unwrap() - shaped(0.9).relu().unwrap()).unwrap(); // with zeros
        let step_size = 2.0 / 255.0;
        for order in [Order::ClampProject, Order::ProjectClamp] {
            let moved = (&x_nat + (dx.sign().unwrap() * step_size).unwrap()).unwrap();
            let parts =
                moved.maximum(&ball.lower).unwrap().minimum(&ball.upper).unwrap().clamp(0f32, 1f32).unwrap();
            let step = ball.sign_step(&x_nat, &dx, step_size, order).unwrap();
            let bits = |t: &Tensor| values(t).into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(&step), bits(&parts), "{order:?}");
            let chained = ball.sign_step_by_tensors(&x_nat, &dx, step_size).unwrap();
            assert_eq!(bits(&step), bits(&chained), "{order:?}, as on other devices");
        }
    }

    #[test]
    fn balls_of_different_radii_do_not_join() {
        let [a, b] = [0.1, 0.031].map(|eps| Ball::new(&image(&[0.5]), Linf::new(eps).unwrap()).unwrap());
        assert!(a.join(&b).unwrap_err().to_string().contains("radius is 0.031, expected 0.1"));
        assert_eq!(a.join(&a).unwrap().n(), 2);
    }

    fn any_pixel() -> impl Strategy<Value = f32> {
        prop_oneof![
            Just(0.0),
            Just(1.0),
            Just(f32::MIN_POSITIVE),
            0.0..=1.0f32,
            (0u8..=255).prop_map(|k| f32::from(k) / 255.0)
        ]
    }

    fn any_value() -> impl Strategy<Value = f32> {
        prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), -2.0..3.0f32]
    }

    fn any_eps() -> impl Strategy<Value = f64> {
        prop_oneof![Just(0.0), Just(0.031), (0u8..=255).prop_map(|k| f64::from(k) / 255.0), 0.0..=1.0f64]
    }

    proptest! {
        #[test]
        fn a_projection_is_inside_exactly_in_both_orders(
            pairs in proptest::collection::vec((any_pixel(), any_value()), 1..40), eps in any_eps(),
        ) {
            let (x_nat, x): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let ball = Ball::new(&image(&x_nat), Linf::new(eps).unwrap()).unwrap();
            let outs = [Order::ClampProject, Order::ProjectClamp].map(|o| ball.project(&image(&x), o).unwrap());
            prop_assert!(ball.contains(&outs[0]).unwrap());
            prop_assert_eq!(values(&outs[0]), values(&outs[1]));
            prop_assert!(ball.linf(&outs[0]).unwrap().iter().all(|&d| f64::from(d) <= eps));
            for (i, p) in values(&outs[0]).into_iter().enumerate() {
                // Nearest: a point that was inside stays, and one beyond a bound lands on it.
                if x[i].is_nan() || ball.contains(&image_with(&x_nat, i, x[i])).unwrap() {
                    let kept = if x[i].is_nan() { x_nat[i] } else { x[i] };
                    prop_assert_eq!(p, kept);
                } else {
                    let beyond = if x[i] > p { p.next_up() } else { p.next_down() };
                    prop_assert!(!ball.contains(&image_with(&x_nat, i, beyond)).unwrap());
                }
            }
        }
    }

    fn image_with(x_nat: &[f32], i: usize, v: f32) -> Tensor {
        let mut x = x_nat.to_vec();
        x[i] = v;
        image(&x)
    }
}
