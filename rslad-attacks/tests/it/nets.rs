//! Small classifiers in closed form, whose sums have the same order in every batch.

use candle_core::{Device, Tensor};
use rslad_attacks::{Ball, Draws, Linf, Problem};
use rslad_models::device::test_device;
use rslad_models::randomness::{Key, Purpose, Stream};
use rslad_models::{Classifier, Result};

/// The images of these tests: 2 channels of 2x3.
pub(crate) const IMAGE: (usize, usize, usize) = (2, 2, 3);
const PIXELS: usize = 12;
pub(crate) const CLASSES: usize = 4;
const HIDDEN: usize = 5;

/// Two layers with random weights.
pub(crate) struct Mlp {
    pub(crate) w1: Tensor,
    pub(crate) w2: Tensor,
}

impl Mlp {
    pub(crate) fn random(seed: u64) -> Self {
        let mut stream = Key::new(seed, Purpose::named("test net")).stream(0);
        Self {
            w1: draws(&mut stream, Stream::normal, (1, HIDDEN, PIXELS)),
            w2: draws(&mut stream, Stream::normal, (1, CLASSES, HIDDEN)),
        }
    }

    /// Every weight, to compare before and after.
    pub(crate) fn bits(&self) -> Vec<u32> {
        [&self.w1, &self.w2].into_iter().flat_map(bits).collect()
    }
}

impl Classifier for Mlp {
    fn n_classes(&self) -> usize {
        CLASSES
    }

    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.flatten_from(1)?.unsqueeze(1)?; // [N, 1, D]
        let [w1, w2] = [self.w1.to_device(x.device())?, self.w2.to_device(x.device())?];
        let hidden = x.broadcast_mul(&w1)?.sum(2)?.relu()?.unsqueeze(1)?; // [N, 1, H]
        Ok(hidden.broadcast_mul(&w2)?.sum(2)?)
    }
}

/// Two classes whose difference is linear in the image: the worst point of a ball is known.
pub(crate) struct Linear(pub(crate) Tensor);

impl Linear {
    pub(crate) fn random(seed: u64) -> Self {
        let mut stream = Key::new(seed, Purpose::named("test net")).stream(0);
        Self(draws(&mut stream, Stream::normal, (1, PIXELS)))
    }
}

impl Classifier for Linear {
    fn n_classes(&self) -> usize {
        2
    }

    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let score = x.flatten_from(1)?.broadcast_mul(&self.0.to_device(x.device())?)?.sum_keepdim(1)?; // [N, 1]
        Ok(Tensor::cat(&[&score, &score.neg()?], 1)?)
    }
}

/// A classifier that answers NaN.
pub(crate) struct Broken;

impl Classifier for Broken {
    fn n_classes(&self) -> usize {
        CLASSES
    }

    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let sum = x.flatten_from(1)?.sum_keepdim(1)?;
        Ok(((sum * f64::NAN)?.broadcast_as((x.dim(0)?, CLASSES))?).contiguous()?)
    }
}

/// Random images with ids from `first_id`; pixels of 0 and 1 are among them.
pub(crate) fn images(seed: u64, first_id: u64, n: usize) -> Tensor {
    let pixel = |stream: &mut Stream| (1.2 * stream.unit() - 0.1).clamp(0.0, 1.0);
    let key = Key::new(seed, Purpose::named("test images"));
    let images = (first_id..first_id + n as u64).map(|id| draws(&mut key.stream(id), pixel, IMAGE));
    Tensor::stack(&images.collect::<Vec<_>>(), 0).expect("images of one shape stack")
}

/// A problem whose labels are the ids modulo the classes.
pub(crate) fn problem(seed: u64, first_id: u64, n: usize, eps: Linf, n_classes: usize) -> Problem {
    let ids: Vec<u64> = (first_id..first_id + n as u64).collect();
    let y: Vec<u32> = ids.iter().map(|id| (id % n_classes as u64) as u32).collect();
    let device = test_device(); // where the points of attacks that work on tensors then stay
    let y = Tensor::new(y, &device).expect("a list is a tensor");
    let x_nat = images(seed, first_id, n).to_device(&device).expect("images fit a device");
    let ball = Ball::new(&x_nat, eps).expect("images are in [0, 1]");
    Problem::new(ball, &y, ids, Draws::Keyed { seed, epoch: 0 }).expect("ids are different")
}

pub(crate) fn bits(t: &Tensor) -> Vec<u32> {
    let values = t.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("a tensor of f32");
    values.into_iter().map(f32::to_bits).collect()
}

fn draws(
    stream: &mut Stream,
    draw: impl Fn(&mut Stream) -> f32,
    shape: impl Into<candle_core::Shape>,
) -> Tensor {
    let shape = shape.into();
    let values: Vec<f32> = (0..shape.elem_count()).map(|_| draw(stream)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape has")
}
