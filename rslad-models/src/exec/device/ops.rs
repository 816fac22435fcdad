//! What a step needs, as launches: which kernel, how many threads, which arguments.

use super::launch::{Argument, Convolution, Kernel, Launch, Number, SLAB, Way};
use super::shape::{Dims, End, Geometry, Norm, NormBack, count, given, small};
use crate::device::Precision;
use crate::error::Result;
use crate::kernels::pointwise::Curve;
use candle_core::Tensor;

/// The operations of a device.
#[derive(Clone, Debug)]
pub(super) struct Ops<L>(pub(super) L);

use Argument::{Count, F32, F64, In, Nothing, Out};

impl<L: Launch> Ops<L> {
    /// A tensor's values with channels last; `dims` says how it is read as `[N, C, H, W]`.
    pub(super) fn import(&self, tensor: &Tensor, dims: Dims) -> Result<L::Memory> {
        let values = self.0.take(tensor)?;
        if dims.pixels() == 1 {
            return Ok(values);
        }
        self.write(
            Kernel::ImportRows,
            dims.len(),
            [count(dims.channels)?, count(dims.pixels())?, In(&values)],
        )
    }

    /// `[N, C, H, W]`, shaped as wanted.
    pub(super) fn export(&self, values: L::Memory, dims: Dims, shape: &[usize]) -> Result<Tensor> {
        if dims.pixels() == 1 {
            return self.0.give(values, shape);
        }
        let sizes = [count(dims.channels)?, count(dims.pixels())?, In(&values)];
        self.0.give(self.write(Kernel::ExportRows, dims.len(), sizes)?, shape)
    }

    /// One number per channel, from a tensor.
    pub(super) fn vector(&self, tensor: &Tensor) -> Result<L::Memory> {
        self.0.take(tensor)
    }

    /// One number per channel, as a tensor.
    pub(super) fn tensor(&self, vector: L::Memory, len: usize) -> Result<Tensor> {
        self.0.give(vector, &[len])
    }

    /// Numbers in the order of the shape.
    pub(super) fn shaped(&self, numbers: L::Memory, shape: &[usize]) -> Result<Tensor> {
        self.0.give(numbers, shape)
    }

    /// Another copy of some numbers.
    pub(super) fn copy(&self, x: &L::Memory, len: usize) -> Result<L::Memory> {
        let dims = Dims { images: 1, channels: len, height: 1, width: 1 };
        self.affine(dims, x, [None, None], Curve::Identity, End::NOTHING)
    }

    /// `end(curve(scale x + shift))`; what is left out is 1 or 0.
    pub(super) fn affine(
        &self,
        dims: Dims,
        x: &L::Memory,
        [scale, shift]: [Option<&L::Memory>; 2],
        curve: Curve,
        end: End<'_, L::Memory>,
    ) -> Result<L::Memory> {
        let curve = Count(u32::from(curve == Curve::Silu));
        let [add, gate, rectify] = end.arguments();
        let arguments = [count(dims.channels)?, In(x), given(scale), given(shift), curve, add, gate, rectify];
        self.write(Kernel::Affine, dims.len(), arguments)
    }

    /// `end(x + bias)`, or `x` itself where nothing is to be done.
    fn ended(
        &self,
        dims: Dims,
        x: L::Memory,
        bias: Option<&L::Memory>,
        end: End<'_, L::Memory>,
    ) -> Result<L::Memory> {
        if bias.is_none() && end.is_nothing() {
            return Ok(x);
        }
        self.affine(dims, &x, [None, bias], Curve::Identity, end)
    }

    /// The way back through `silu(scale x + shift)`.
    pub(super) fn swish_back(
        &self,
        dims: Dims,
        [x, g]: [&L::Memory; 2],
        [scale, shift]: [Option<&L::Memory>; 2],
        end: End<'_, L::Memory>,
    ) -> Result<L::Memory> {
        let [add, gate, rectify] = end.arguments();
        let arguments = [count(dims.channels)?, In(x), In(g), given(scale), given(shift), add, gate, rectify];
        self.write(Kernel::SwishBack, dims.len(), arguments)
    }

    /// `end(x + add)` of two gradients, or a copy of one.
    pub(super) fn merge(&self, dims: Dims, x: &L::Memory, end: End<'_, L::Memory>) -> Result<L::Memory> {
        self.affine(dims, x, [None, None], Curve::Identity, end)
    }

    pub(super) fn mean(&self, from: Dims, x: &L::Memory) -> Result<L::Memory> {
        let total = from.images * from.channels;
        self.write(Kernel::Mean, total, [count(from.channels)?, count(from.pixels())?, In(x)])
    }

    pub(super) fn mean_back(&self, to: Dims, g: &L::Memory, end: End<'_, L::Memory>) -> Result<L::Memory> {
        let [add, gate, rectify] = end.arguments();
        let arguments = [count(to.channels)?, count(to.pixels())?, In(g), add, gate, rectify];
        self.write(Kernel::MeanBack, to.len(), arguments)
    }

    /// The statistics of a batch and how they act on it.
    pub(super) fn norm(
        &self,
        dims: Dims,
        x: &L::Memory,
        [weight, bias]: [&L::Memory; 2],
        eps: f64,
    ) -> Result<Norm<L::Memory>> {
        let (rows, c) = (dims.rows(), dims.channels);
        let mut parts = rows.div_ceil(SLAB);
        let [mut mean, mut m2] = [self.doubles(parts * c)?, self.doubles(parts * c)?];
        let arguments = [count(rows)?, count(c)?, In(x), Out(&mut mean), Out(&mut m2)];
        self.launch(Kernel::Moments, parts * c, arguments)?;
        let mut unit = SLAB;
        while parts > 1 {
            let groups = parts.div_ceil(SLAB);
            let [mut mean_out, mut m2_out] = [self.doubles(groups * c)?, self.doubles(groups * c)?];
            let sizes = [count(parts)?, count(unit)?, count(rows)?, count(c)?];
            let memory = [In(&mean), In(&m2), Out(&mut mean_out), Out(&mut m2_out)];
            self.launch(Kernel::MergeMoments, groups * c, sizes.into_iter().chain(memory))?;
            (mean, m2, parts, unit) = (mean_out, m2_out, groups, unit.saturating_mul(SLAB));
        }
        let vector = || self.0.room(c, Number::F32);
        let mut norm = Norm {
            mean: vector()?,
            variance: vector()?,
            inverse: vector()?,
            scale: vector()?,
            shift: vector()?,
        };
        let read = [count(rows)?, In(&mean), In(&m2), In(weight), In(bias), F64(eps)];
        let Norm { mean, variance, inverse, scale, shift } = &mut norm;
        let written = [Out(mean), Out(variance), Out(inverse), Out(scale), Out(shift)];
        self.launch(Kernel::NormFactors, c, read.into_iter().chain(written))?;
        Ok(norm)
    }

    /// The gradients of a normalization's weight and bias, and its way back.
    pub(super) fn norm_back(
        &self,
        dims: Dims,
        [x, g]: [&L::Memory; 2],
        norm: &Norm<L::Memory>,
    ) -> Result<NormBack<L::Memory>> {
        let (rows, c) = (dims.rows(), dims.channels);
        let parts = rows.div_ceil(SLAB);
        let [mut plain, mut weighted] = [self.doubles(parts * c)?, self.doubles(parts * c)?];
        let read = [count(rows)?, count(c)?, In(x), In(g), In(&norm.mean), In(&norm.inverse)];
        let written = [Out(&mut plain), Out(&mut weighted)];
        self.launch(Kernel::GradientSums, parts * c, read.into_iter().chain(written))?;
        let [plain, weighted] = [self.added(plain, parts, c)?, self.added(weighted, parts, c)?];
        let vector = || self.0.room(c, Number::F32);
        let mut back = NormBack { weight: vector()?, bias: vector()?, slope: vector()?, shift: vector()? };
        let Norm { mean, inverse, scale, .. } = norm;
        let read = [count(rows)?, In(&plain), In(&weighted), In(mean), In(inverse), In(scale)];
        let NormBack { weight, bias, slope, shift } = &mut back;
        let written = [Out(weight), Out(bias), Out(slope), Out(shift)];
        self.launch(Kernel::NormGradient, c, read.into_iter().chain(written))?;
        Ok(back)
    }

    /// `end(slope x + scale g + shift)`.
    pub(super) fn combine(
        &self,
        dims: Dims,
        [x, g]: [&L::Memory; 2],
        [slope, scale, shift]: [&L::Memory; 3],
        end: End<'_, L::Memory>,
    ) -> Result<L::Memory> {
        let [add, gate, rectify] = end.arguments();
        let arguments =
            [count(dims.channels)?, In(x), In(g), In(slope), In(scale), In(shift), add, gate, rectify];
        self.write(Kernel::Combine, dims.len(), arguments)
    }

    /// The sum of all rows, per channel.
    pub(super) fn channel_sums(&self, dims: Dims, g: &L::Memory) -> Result<L::Memory> {
        let (rows, c) = (dims.rows(), dims.channels);
        let parts = rows.div_ceil(SLAB);
        let mut plain = self.doubles(parts * c)?;
        let arguments = [count(rows)?, count(c)?, Nothing, In(g), Nothing, Nothing, Out(&mut plain), Nothing];
        self.launch(Kernel::GradientSums, parts * c, arguments)?;
        self.floats(&self.added(plain, parts, c)?, c, 1)
    }

    /// Scale and shift of a normalization by its running statistics.
    pub(super) fn running(
        &self,
        channels: usize,
        [weight, bias, mean, variance]: [&L::Memory; 4],
        eps: f64,
    ) -> Result<[L::Memory; 2]> {
        let [mut scale, mut shift] =
            [self.0.room(channels, Number::F32)?, self.0.room(channels, Number::F32)?];
        let read = [In(weight), In(bias), In(mean), In(variance), F64(eps)];
        let written = [Out(&mut scale), Out(&mut shift)];
        self.launch(Kernel::RunningFactors, channels, read.into_iter().chain(written))?;
        Ok([scale, shift])
    }

    /// Weights `[outputs][per_output]`, each output times its scale.
    pub(super) fn fold(
        &self,
        w: &L::Memory,
        [outputs, per_output]: [usize; 2],
        scale: &L::Memory,
    ) -> Result<L::Memory> {
        self.write(Kernel::Fold, outputs * per_output, [count(per_output)?, In(w), In(scale)])
    }

    /// `end(convolution(x, w) + bias)`.
    pub(super) fn conv(
        &self,
        geometry: &Geometry,
        [x, w]: [&L::Memory; 2],
        bias: Option<&L::Memory>,
        end: End<'_, L::Memory>,
    ) -> Result<L::Memory> {
        let (convolution, inside) = geometry.convolution();
        let padded = inside.map(|big| self.padded(geometry, big, x)).transpose()?;
        let y = self.convolve(Way::Forward, &convolution, [padded.as_ref().unwrap_or(x), w])?;
        self.ended(geometry.to, y, bias, end)
    }

    /// The way back to the images.
    pub(super) fn conv_back(
        &self,
        geometry: &Geometry,
        [g, w]: [&L::Memory; 2],
        end: End<'_, L::Memory>,
    ) -> Result<L::Memory> {
        let (convolution, inside) = geometry.convolution();
        let dx = self.convolve(Way::ToImages, &convolution, [g, w])?;
        let dx = match inside {
            Some(big) => self.moved(Kernel::Crop, geometry, big, geometry.from.len(), &dx)?,
            None => dx,
        };
        self.ended(geometry.from, dx, None, end)
    }

    /// The gradient of the weights, `[outputs, k, k, inputs]`.
    pub(super) fn conv_weights(&self, geometry: &Geometry, [x, g]: [&L::Memory; 2]) -> Result<L::Memory> {
        let (convolution, inside) = geometry.convolution();
        let padded = inside.map(|big| self.padded(geometry, big, x)).transpose()?;
        self.convolve(Way::ToWeights, &convolution, [padded.as_ref().unwrap_or(x), g])
    }

    /// In bf16, where that is asked for, both sides are rounded to it on the way in and the result is one that it
    /// can hold, as in PyTorch's autocast.
    fn convolve(&self, way: Way, convolution: &Convolution, from: [&L::Memory; 2]) -> Result<L::Memory> {
        let [a, b, into] = convolution.lens_of(way);
        if self.0.precision() != Precision::Bf16 {
            let mut y = self.0.room(into, Number::F32)?;
            self.0.convolve(way, convolution, from, &mut y)?;
            return Ok(y);
        }
        let narrow = |x, len| self.write_as(Number::Bf16, Kernel::Narrow, len, [In(x)]);
        let (a, b) = (narrow(from[0], a)?, narrow(from[1], b)?);
        let mut y = self.0.room(into, Number::Bf16)?;
        self.0.convolve(way, convolution, [&a, &b], &mut y)?;
        self.write(Kernel::Widen, into, [In(&y)])
    }

    pub(super) fn depthwise(
        &self,
        geometry: &Geometry,
        [x, w]: [&L::Memory; 2],
        bias: Option<&L::Memory>,
        end: End<'_, L::Memory>,
    ) -> Result<L::Memory> {
        let arguments = geometry.depthwise()?.into_iter().chain([In(x), In(w)]);
        let y = self.write(Kernel::Depthwise, geometry.to.len(), arguments)?;
        self.ended(geometry.to, y, bias, end)
    }

    pub(super) fn depthwise_back(
        &self,
        geometry: &Geometry,
        [g, w]: [&L::Memory; 2],
        end: End<'_, L::Memory>,
    ) -> Result<L::Memory> {
        let arguments = geometry.depthwise()?.into_iter().chain([In(g), In(w)]);
        let dx = self.write(Kernel::DepthwiseBack, geometry.from.len(), arguments)?;
        self.ended(geometry.from, dx, None, end)
    }

    /// The gradient of the weights, `[channels, k, k]`.
    pub(super) fn depthwise_weights(
        &self,
        geometry: &Geometry,
        [x, g]: [&L::Memory; 2],
    ) -> Result<L::Memory> {
        let (rows, taps) = (geometry.to.rows(), geometry.window.kernel * geometry.window.kernel);
        let (parts, columns) = (rows.div_ceil(SLAB), taps * geometry.to.channels);
        let mut sums = self.doubles(parts * columns)?;
        let sizes = std::iter::once(count(rows)?).chain(geometry.depthwise()?);
        self.launch(Kernel::DepthwiseSums, parts * columns, sizes.chain([In(x), In(g), Out(&mut sums)]))?;
        self.floats(&self.added(sums, parts, columns)?, geometry.to.channels, taps)
    }

    /// A projected step: see `Ball::sign_step` of rslad-attacks.
    pub(super) fn sign_step(&self, len: usize, step: f32, tensors: [&L::Memory; 5]) -> Result<L::Memory> {
        self.write(Kernel::SignStep, len, std::iter::once(F32(step)).chain(tensors.map(In)))
    }

    fn padded(&self, geometry: &Geometry, big: Dims, x: &L::Memory) -> Result<L::Memory> {
        self.moved(Kernel::Pad, geometry, big, big.len(), x)
    }

    fn moved(
        &self,
        kernel: Kernel,
        geometry: &Geometry,
        big: Dims,
        total: usize,
        x: &L::Memory,
    ) -> Result<L::Memory> {
        let (Dims { channels, height, width, .. }, pad) = (geometry.from, geometry.window.pad);
        let sizes = [channels, height, width, big.height, big.width, pad.top, pad.left];
        let sizes = sizes.into_iter().map(count).collect::<Result<Vec<_>>>()?;
        self.write(kernel, total, sizes.into_iter().chain([In(x)]))
    }

    /// The sums of `parts` sums, for each of `columns`.
    fn added(&self, mut sums: L::Memory, mut parts: usize, columns: usize) -> Result<L::Memory> {
        while parts > 1 {
            let groups = parts.div_ceil(SLAB);
            let mut out = self.doubles(groups * columns)?;
            let arguments = [count(parts)?, count(columns)?, In(&sums), Out(&mut out)];
            self.launch(Kernel::AddGroups, groups * columns, arguments)?;
            (sums, parts) = (out, groups);
        }
        Ok(sums)
    }

    fn floats(&self, sums: &L::Memory, channels: usize, taps: usize) -> Result<L::Memory> {
        self.write(Kernel::Floats, channels * taps, [count(channels)?, count(taps)?, In(sums)])
    }

    fn doubles(&self, len: usize) -> Result<L::Memory> {
        self.0.room(len, Number::F64)
    }

    /// A launch whose last argument is a new tensor with a number for each thread.
    fn write<'a>(
        &self,
        kernel: Kernel,
        total: usize,
        arguments: impl IntoIterator<Item = Argument<'a, L::Memory>>,
    ) -> Result<L::Memory>
    where
        L::Memory: 'a,
    {
        self.write_as(Number::F32, kernel, total, arguments)
    }

    fn write_as<'a>(
        &self,
        number: Number,
        kernel: Kernel,
        total: usize,
        arguments: impl IntoIterator<Item = Argument<'a, L::Memory>>,
    ) -> Result<L::Memory>
    where
        L::Memory: 'a,
    {
        let mut y = self.0.room(total, number)?;
        let mut arguments: Vec<Argument<'_, L::Memory>> = arguments.into_iter().collect();
        arguments.push(Out(&mut y));
        small(total)?;
        self.0.launch(kernel, total, &mut arguments)?;
        drop(arguments);
        Ok(y)
    }

    fn launch<'a>(
        &self,
        kernel: Kernel,
        total: usize,
        arguments: impl IntoIterator<Item = Argument<'a, L::Memory>>,
    ) -> Result<()>
    where
        L::Memory: 'a,
    {
        small(total)?;
        self.0.launch(kernel, total, &mut arguments.into_iter().collect::<Vec<_>>())
    }
}
