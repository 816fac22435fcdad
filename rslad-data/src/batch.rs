//! What crosses from data to training and evaluation: images, labels, and who they are.
//!
//! A batch is checked once, when it is built. Behind that door nobody asks again whether images are in
//! `[0,1]` or labels are as many as images.

use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};

/// The crop and the flip that an image went through. With the example's id it determines the image,
/// so whatever is a function of the augmented image can be kept under (id, view).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct View {
    /// The first row of the window in the padded image, `0..=2 * crop`.
    pub dy: u16,
    /// The first column of the window in the padded image, `0..=2 * crop`.
    pub dx: u16,
    /// Whether the window was mirrored left to right afterwards.
    pub flip: bool,
}

/// Images with their labels, ids and views: at least one, all finite and in `[0,1]`.
#[derive(Clone, Debug)]
pub struct Batch {
    ids: Vec<u64>,
    views: Vec<View>,
    x: Tensor,
    y: Tensor,
}

impl Batch {
    /// Checks the parts and puts them together.
    ///
    /// # Shapes
    /// `ids`, `views`: `[N]`; `x`: `[N, C, H, W]`, f32 in `[0,1]`; `y`: `[N]`, u32. That labels have a
    /// class is the data set's promise: a batch does not know how many classes there are.
    ///
    /// # Errors
    /// When a shape or a type differs, N is 0, or a value is not a number in `[0,1]`.
    pub fn new(ids: Vec<u64>, views: Vec<View>, x: Tensor, y: Tensor) -> Result<Self> {
        let n = ids.len();
        if n == 0 {
            return Err(Error::Batch("no examples, expected at least 1".to_owned()));
        }
        if views.len() != n {
            return Err(Error::Batch(format!("{} views for {n} ids, expected as many", views.len())));
        }
        check_tensor("x", &x, DType::F32, x.rank() == 4 && x.dims()[0] == n, &format!("[{n}, C, H, W]"))?;
        check_tensor("y", &y, DType::U32, y.dims() == [n], &format!("[{n}]"))?;
        check_range(&ids, &x)?;
        Ok(Self { ids, views, x, y })
    }

    /// A batch of a data set, whose values and shapes were checked when it was built.
    pub(crate) fn of_dataset(ids: Vec<u64>, views: Vec<View>, x: Tensor, y: Tensor) -> Self {
        Self { ids, views, x, y }
    }

    /// The number of examples N.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The position of each example in its full split, `[N]`.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The crop and flip of each image, `[N]`.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// The images, `[N, C, H, W]`, f32 in `[0,1]`.
    pub fn x(&self) -> &Tensor {
        &self.x
    }

    /// The labels, `[N]`, u32.
    pub fn y(&self) -> &Tensor {
        &self.y
    }

    /// The same batch on another device.
    ///
    /// # Errors
    /// When candle cannot move the tensors.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self { x: self.x.to_device(device)?, y: self.y.to_device(device)?, ..self.clone() })
    }
}

fn check_tensor(name: &str, tensor: &Tensor, dtype: DType, fits: bool, expected: &str) -> Result<()> {
    if fits && tensor.dtype() == dtype {
        return Ok(());
    }
    let (dims, got) = (tensor.dims(), tensor.dtype().as_str());
    Err(Error::Batch(format!("`{name}` is {got} {dims:?}, expected {} {expected}", dtype.as_str())))
}

fn check_range(ids: &[u64], x: &Tensor) -> Result<()> {
    let values = x.flatten_all()?.to_vec1::<f32>()?;
    let Some(at) = values.iter().position(|v| !(0.0..=1.0).contains(v)) else {
        return Ok(()); // NaN is in no range
    };
    let size = values.len() / ids.len();
    Err(Error::Batch(format!(
        "`x` has a value of {} in the image with id {}, expected [0,1]; divide by the full scale of the data",
        values[at],
        ids[at / size]
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(ids: usize, views: usize, x: Tensor, y: Tensor) -> Result<Batch> {
        Batch::new((0..ids as u64).collect(), vec![View::default(); views], x, y)
    }

    fn zeros(shape: &[usize], dtype: DType) -> Tensor {
        Tensor::zeros(shape, dtype, &Device::Cpu).expect("zeros")
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let (x, y) = (|| zeros(&[2, 1, 3, 3], DType::F32), || zeros(&[2], DType::U32));
        let check = |result: Result<Batch>, expected: &str| {
            assert_eq!(result.expect_err(expected).to_string(), format!("batch: {expected}"));
        };
        check(build(0, 0, x(), y()), "no examples, expected at least 1");
        check(build(2, 3, x(), y()), "3 views for 2 ids, expected as many");
        check(build(3, 3, x(), y()), "`x` is f32 [2, 1, 3, 3], expected f32 [3, C, H, W]");
        check(build(2, 2, zeros(&[2, 9], DType::F32), y()), "`x` is f32 [2, 9], expected f32 [2, C, H, W]");
        check(
            build(2, 2, zeros(&[2, 1, 3, 3], DType::F64), y()),
            "`x` is f64 [2, 1, 3, 3], expected f32 [2, C, H, W]",
        );
        check(build(2, 2, x(), zeros(&[3], DType::U32)), "`y` is u32 [3], expected u32 [2]");
        check(build(2, 2, x(), zeros(&[2], DType::I64)), "`y` is i64 [2], expected u32 [2]");
        assert_eq!(build(2, 2, x(), y()).expect("fits").len(), 2);
    }

    proptest! {
        #[test]
        fn one_bad_value_anywhere_is_found(
            at in 0usize..36,
            bad in prop_oneof![
                Just(f32::NAN), Just(f32::INFINITY), Just(-f32::MIN_POSITIVE), Just(1.0 + f32::EPSILON),
                1.0f32 + f32::EPSILON..1e9, -1e9f32..-1e-30,
            ],
        ) {
            let mut values: Vec<f32> = (0..36).map(|i| i as f32 / 35.0).collect();
            let images = |v: &[f32]| Tensor::from_slice(v, (4, 1, 3, 3), &Device::Cpu).expect("36 values");
            prop_assert!(build(4, 4, images(&values), zeros(&[4], DType::U32)).is_ok());
            values[at] = bad;
            let message = build(4, 4, images(&values), zeros(&[4], DType::U32)).expect_err("bad").to_string();
            let expected = format!("a value of {bad} in the image with id {}, expected [0,1]", at / 9);
            prop_assert!(message.contains(&expected), "{}", message);
        }
    }
}
