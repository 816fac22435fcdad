//! The seam between what is computed and the GPU that computes it.

use crate::device::Precision;
use crate::error::Result;
use candle_core::Tensor;

/// What has memory and runs kernels: a GPU, or in tests the kernels' twins.
pub(crate) trait Launch: Clone + Send + Sync + 'static {
    /// A run of numbers of one kind.
    type Memory: Send + Sync;

    /// What convolutions multiply: of bf16 if it says so, else of f32.
    fn precision(&self) -> Precision;

    /// Room for so many numbers, of any value.
    ///
    /// # Errors
    /// When there is not so much.
    fn room(&self, len: usize, number: Number) -> Result<Self::Memory>;

    /// Runs a kernel: `total`, its first parameter, is the number of its threads, and `arguments` are the others
    /// in order.
    ///
    /// # Errors
    /// When the launch is refused.
    fn launch(
        &self,
        kernel: Kernel,
        total: usize,
        arguments: &mut [Argument<'_, Self::Memory>],
    ) -> Result<()>;

    /// A convolution, or a way back through one: `from` and `into` as [`Way`] says, all of one kind of number.
    ///
    /// # Errors
    /// When it is refused.
    fn convolve(
        &self,
        way: Way,
        convolution: &Convolution,
        from: [&Self::Memory; 2],
        into: &mut Self::Memory,
    ) -> Result<()>;

    /// A copy of a tensor's values, in their order.
    ///
    /// # Errors
    /// When the tensor is not of f32 on this device.
    fn take(&self, tensor: &Tensor) -> Result<Self::Memory>;

    /// Memory as a tensor.
    ///
    /// # Errors
    /// When the memory is not of f32.
    fn give(&self, memory: Self::Memory, shape: &[usize]) -> Result<Tensor>;
}

/// The kind of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Bf16,
    F32,
    F64,
}

/// An argument of a kernel.
pub(crate) enum Argument<'a, M> {
    /// Numbers that are read.
    In(&'a M),
    /// Numbers that are written.
    Out(&'a mut M),
    /// What is left out.
    Nothing,
    Count(u32),
    F32(f32),
    F64(f64),
}

macro_rules! kernels {
    ($($kernel:ident $name:literal,)*) => {
        /// A kernel of `kernels.cu`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Kernel { $($kernel,)* }

        impl Kernel {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$kernel,)*];

            /// Its name in the source.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$kernel => $name,)* }
            }
        }
    };
}

kernels! {
    ImportRows "import_rows",
    ExportRows "export_rows",
    Affine "affine",
    SwishBack "swish_back",
    Combine "combine",
    Mean "mean",
    MeanBack "mean_back",
    Moments "moments",
    MergeMoments "merge_moments",
    GradientSums "gradient_sums",
    AddGroups "add_groups",
    Floats "floats",
    NormFactors "norm_factors",
    NormGradient "norm_gradient",
    RunningFactors "running_factors",
    Fold "fold",
    Pad "pad",
    Crop "crop",
    Depthwise "depthwise",
    DepthwiseBack "depthwise_back",
    DepthwiseSums "depthwise_sums",
    SignStep "sign_step",
    Narrow "narrow",
    Widen "widen",
}

/// Rows that one thread sums: `SLAB` of the source.
pub(super) const SLAB: usize = 64;

/// Which way through a convolution of x by w to y.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// From x and w to y.
    Forward,
    /// From dy and w to dx.
    ToImages,
    /// From x and dy to dw.
    ToWeights,
}

/// A convolution over all channels, with the same zeros on all sides. Images and weights have their channels last:
/// x `[n, h, w, inputs]`, w `[outputs, kernel, kernel, inputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Convolution {
    pub(crate) images: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Height and width of x.
    pub(crate) from: [usize; 2],
    /// Height and width of y.
    pub(crate) to: [usize; 2],
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) pad: usize,
}

impl Convolution {
    /// How many numbers x, w and y have.
    fn lens(&self) -> [usize; 3] {
        let Self { images, inputs, outputs, from: [h, w], to: [oh, ow], kernel, .. } = *self;
        [images * h * w * inputs, outputs * kernel * kernel * inputs, images * oh * ow * outputs]
    }

    /// The product of matrices that it is, where it is of single pixels: then nothing has to be moved.
    #[cfg_attr(not(any(test, feature = "cudnn")), allow(dead_code))]
    pub(crate) fn product(&self, way: Way) -> Option<Product> {
        let Self { images, inputs, outputs, from: [h, w], .. } = *self;
        let pixels = images * h * w;
        let (turned, size, heights) = match way {
            Way::Forward => ([true, false], [outputs, pixels, inputs], [inputs, inputs, outputs]), // y = w^T x
            Way::ToImages => ([false, false], [inputs, pixels, outputs], [inputs, outputs, inputs]), // dx = w dy
            Way::ToWeights => ([false, true], [inputs, outputs, pixels], [inputs, outputs, inputs]), // dw = x dy^T
        };
        let weights_first = way != Way::ToWeights;
        ((self.kernel, self.stride, self.pad) == (1, 1, 0)).then_some(Product {
            weights_first,
            turned,
            size,
            heights,
        })
    }

    /// How many numbers are read on both sides of a way, and written.
    pub(crate) fn lens_of(&self, way: Way) -> [usize; 3] {
        let [x, w, y] = self.lens();
        match way {
            Way::Forward => [x, w, y],
            Way::ToImages => [y, w, x],
            Way::ToWeights => [x, y, w],
        }
    }
}

/// A product of two matrices in columns, as cuBLAS has them. What are rows of channels here are columns there: x is
/// `[inputs, pixels]`, w `[inputs, outputs]` and y `[outputs, pixels]`.
#[cfg_attr(not(any(test, feature = "cudnn")), allow(dead_code))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    /// Whether the second of both sides of a way is the first factor.
    pub(crate) weights_first: bool,
    /// Which factors are turned.
    pub(crate) turned: [bool; 2],
    /// m, n and k: `[m, k]` times `[k, n]`, after turning.
    pub(crate) size: [usize; 3],
    /// How high the columns of both factors are, as they lie, and those of what is written.
    pub(crate) heights: [usize; 3],
}
