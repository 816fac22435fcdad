//! The kernels' twins in Rust: the same arithmetic in the same order, one number after the other.
//!
//! Every launch is held against the signature of its kernel in the source, so that arguments in a wrong order or
//! of a wrong kind fail here and not on a GPU; and it is written down, for `source.rs` to run again.

mod sums;
mod windows;

use super::launch::{Argument, Convolution, Kernel, Launch, Number, Product, SLAB, Way};
use crate::device::Precision;
use crate::error::Result;
use candle_core::{Device, Tensor};
use half::bf16;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

pub(super) const SOURCE: &str = include_str!("../../kernels/cuda/kernels.cu");

/// A device that is the processor.
#[derive(Clone, Default)]
pub(super) struct Twin {
    /// What was launched, where somebody wants to know.
    pub(super) record: Option<Arc<Mutex<Vec<Launched>>>>,
    pub(super) precision: Precision,
}

/// A launch: what it was given, and what it wrote.
#[derive(Clone, Debug)]
pub(super) struct Launched {
    pub(super) kernel: Kernel,
    pub(super) total: usize,
    pub(super) arguments: Vec<Given>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    In(Memory),
    Out(Memory),
    Nothing,
    Count(u32),
    F32(f32),
    F64(f64),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Memory {
    Bf16(Vec<bf16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Memory {
    fn floats(&self) -> &[f32] {
        match self {
            Self::F32(values) => values,
            other => panic!("{other:?} where f32 is read"),
        }
    }

    fn doubles(&self) -> &[f64] {
        match self {
            Self::F64(values) => values,
            other => panic!("{other:?} where f64 is read"),
        }
    }

    fn floats_mut(&mut self) -> &mut [f32] {
        match self {
            Self::F32(values) => values,
            other => panic!("{other:?} where f32 is written"),
        }
    }

    fn doubles_mut(&mut self) -> &mut [f64] {
        match self {
            Self::F64(values) => values,
            other => panic!("{other:?} where f64 is written"),
        }
    }

    /// The numbers of a convolution, of either kind.
    fn numbers(&self) -> Vec<f64> {
        match self {
            Self::Bf16(values) => values.iter().map(|&v| v.into()).collect(),
            other => other.floats().iter().map(|&v| v.into()).collect(),
        }
    }
}

/// The types of a kernel's parameters, as its source has them.
pub(super) static SIGNATURES: LazyLock<HashMap<String, Vec<String>>> = LazyLock::new(|| {
    let kernels = SOURCE.split("extern \"C\" __global__ void ").skip(1);
    let signature = |text: &str| {
        let (name, rest) = text.split_once('(').unwrap();
        let (parameters, _) = rest.split_once(')').unwrap();
        let types = parameters.split(',').map(|parameter| {
            let words: Vec<&str> = parameter.split_whitespace().collect();
            words[..words.len() - 1].join(" ")
        });
        (name.to_string(), types.collect())
    };
    kernels.map(signature).collect()
});

fn check(kernel: Kernel, arguments: &[Argument<'_, Memory>]) {
    let types = &SIGNATURES[kernel.name()];
    let fits = |(parameter, argument): (&String, &Argument<'_, Memory>)| match argument {
        Argument::In(Memory::Bf16(_)) => parameter == "const ushort*",
        Argument::Out(Memory::Bf16(_)) => parameter == "ushort*",
        Argument::In(Memory::F32(_)) => parameter == "const float*",
        Argument::In(Memory::F64(_)) => parameter == "const double*",
        Argument::Out(Memory::F32(_)) => parameter == "float*",
        Argument::Out(Memory::F64(_)) => parameter == "double*",
        Argument::Nothing => parameter.ends_with('*'),
        Argument::Count(_) => parameter == "uint",
        Argument::F32(_) => parameter == "float",
        Argument::F64(_) => parameter == "double",
    };
    assert_eq!(types[0], "uint", "{kernel:?} begins with its number of threads");
    assert_eq!(types.len(), arguments.len() + 1, "{kernel:?} takes {types:?}");
    for (i, pair) in types[1..].iter().zip(arguments).enumerate() {
        assert!(fits(pair), "argument {i} of {kernel:?} does not fit {}", pair.0);
    }
}

impl Launch for Twin {
    type Memory = Memory;

    fn precision(&self) -> Precision {
        self.precision
    }

    /// Of NaN: what is read before it is written shows.
    fn room(&self, len: usize, number: Number) -> Result<Memory> {
        Ok(match number {
            Number::Bf16 => Memory::Bf16(vec![bf16::NAN; len]),
            Number::F32 => Memory::F32(vec![f32::NAN; len]),
            Number::F64 => Memory::F64(vec![f64::NAN; len]),
        })
    }

    fn launch(&self, kernel: Kernel, total: usize, arguments: &mut [Argument<'_, Memory>]) -> Result<()> {
        check(kernel, arguments);
        run(kernel, total, arguments);
        if let Some(record) = &self.record {
            let given = |argument: &Argument<'_, Memory>| match argument {
                Argument::In(memory) => Given::In((*memory).clone()),
                Argument::Out(memory) => Given::Out((**memory).clone()),
                Argument::Nothing => Given::Nothing,
                Argument::Count(n) => Given::Count(*n),
                Argument::F32(v) => Given::F32(*v),
                Argument::F64(v) => Given::F64(*v),
            };
            let arguments = arguments.iter().map(given).collect();
            record.lock().unwrap().push(Launched { kernel, total, arguments });
        }
        Ok(())
    }

    fn convolve(&self, way: Way, g: &Convolution, [a, b]: [&Memory; 2], into: &mut Memory) -> Result<()> {
        let (a, b) = (a.numbers(), b.numbers());
        let [h, w] = g.from;
        let [oh, ow] = g.to;
        assert_eq!((oh, ow), (g.side(h), g.side(w)), "{g:?}");
        let [a_len, b_len, len] = g.lens_of(way);
        assert_eq!([a.len(), b.len(), into.numbers().len()], [a_len, b_len, len], "{way:?} {g:?}");
        let mut sums = vec![0.0; len];
        for_taps(g, |x, w, y| match way {
            Way::Forward => sums[y] += a[x] * b[w],
            Way::ToImages => sums[x] += a[y] * b[w],
            Way::ToWeights => sums[w] += a[x] * b[y],
        });
        match into {
            Memory::Bf16(out) => *out = sums.into_iter().map(|sum| bf16::from_f32(sum as f32)).collect(),
            out => out.floats_mut().iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32),
        }
        Ok(())
    }

    fn take(&self, tensor: &Tensor) -> Result<Memory> {
        Ok(Memory::F32(tensor.contiguous()?.flatten_all()?.to_vec1()?))
    }

    fn give(&self, memory: Memory, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_vec(memory.floats().to_vec(), shape, &Device::Cpu)?)
    }
}

impl Convolution {
    fn side(&self, from: usize) -> usize {
        (from + 2 * self.pad - self.kernel) / self.stride + 1
    }
}

/// Every product of a convolution, by the places of its three numbers.
fn for_taps(g: &Convolution, mut f: impl FnMut(usize, usize, usize)) {
    let Convolution { images, inputs, outputs, from: [h, w], to: [oh, ow], kernel: k, stride, pad } = *g;
    for (image, row, column) in (0..images * oh * ow).map(|i| (i / (oh * ow), i / ow % oh, i % ow)) {
        for (dy, dx) in (0..k * k).map(|tap| (tap / k, tap % k)) {
            let (Some(y), Some(x)) =
                ((row * stride + dy).checked_sub(pad), (column * stride + dx).checked_sub(pad))
            else {
                continue;
            };
            if y >= h || x >= w {
                continue;
            }
            for (o, i) in (0..outputs * inputs).map(|oi| (oi / inputs, oi % inputs)) {
                let at_x = ((image * h + y) * w + x) * inputs + i;
                let at_w = ((o * k + dy) * k + dx) * inputs + i;
                f(at_x, at_w, ((image * oh + row) * ow + column) * outputs + o);
            }
        }
    }
}

use Argument::{Count, F32, In, Nothing, Out};
use sums::sums;
use windows::{depthwise, depthwise_sums, moved};

fn at(n: &u32) -> usize {
    *n as usize
}

/// What an optional vector holds at a place.
fn maybe(argument: &Argument<'_, Memory>, i: usize) -> Option<f32> {
    match argument {
        In(memory) => Some(memory.floats()[i]),
        _ => None,
    }
}

fn finish(mut v: f32, i: usize, [add, gate, rectify]: [&Argument<'_, Memory>; 3]) -> f32 {
    if let Some(add) = maybe(add, i) {
        v += add;
    }
    match (rectify, maybe(gate, i)) {
        (Count(1), _) if v <= 0.0 => 0.0,
        (Count(2), Some(gate)) if gate <= 0.0 => 0.0,
        _ => v,
    }
}

fn scaled(x: f32, channel: usize, [scale, shift]: [&Argument<'_, Memory>; 2]) -> f32 {
    let x = maybe(scale, channel).map_or(x, |scale| x * scale);
    maybe(shift, channel).map_or(x, |shift| x + shift)
}

fn slab(i: usize, rows: usize) -> std::ops::Range<usize> {
    i * SLAB..rows.min((i + 1) * SLAB)
}

fn run(kernel: Kernel, total: usize, arguments: &mut [Argument<'_, Memory>]) {
    match (kernel, arguments) {
        (Kernel::ImportRows, [Count(c), Count(p), In(x), Out(y)]) => {
            let (c, p, x) = (at(c), at(p), x.floats());
            each(y, total, |i| x[(i / c / p * c + i % c) * p + i / c % p]);
        }
        (Kernel::ExportRows, [Count(c), Count(p), In(x), Out(y)]) => {
            let (c, p, x) = (at(c), at(p), x.floats());
            each(y, total, |i| x[(i / (p * c) * p + i % p) * c + i / p % c]);
        }
        (Kernel::Affine, [Count(c), In(x), scale, shift, Count(curve), add, gate, rectify, Out(y)]) => {
            let (c, x) = (at(c), x.floats());
            each(y, total, |i| {
                let v = scaled(x[i], i % c, [scale, shift]);
                let v = if *curve == 1 { v / (1.0 + libm::expf(-v)) } else { v };
                finish(v, i, [add, gate, rectify])
            });
        }
        (Kernel::SwishBack, [Count(c), In(x), In(g), scale, shift, add, gate, rectify, Out(y)]) => {
            let (c, x, g) = (at(c), x.floats(), g.floats());
            each(y, total, |i| {
                let v = scaled(x[i], i % c, [scale, shift]);
                let s = 1.0 / (1.0 + libm::expf(-v));
                let slope = s * (1.0 + v * (1.0 - s));
                let slope = maybe(scale, i % c).map_or(slope, |scale| slope * scale);
                finish(g[i] * slope, i, [add, gate, rectify])
            });
        }
        (
            Kernel::Combine,
            [Count(c), In(x), In(g), In(slope), In(scale), In(shift), add, gate, rectify, Out(y)],
        ) => {
            let c = at(c);
            let [x, g, slope, scale, shift] = [x, g, slope, scale, shift].map(|m| m.floats());
            each(y, total, |i| {
                let v = slope[i % c] * x[i] + scale[i % c] * g[i] + shift[i % c];
                finish(v, i, [add, gate, rectify])
            });
        }
        (Kernel::Mean, [Count(c), Count(p), In(x), Out(y)]) => {
            let (c, p, x) = (at(c), at(p), x.floats());
            each(y, total, |i| {
                let sum: f64 = (0..p).map(|pixel| f64::from(x[(i / c * p + pixel) * c + i % c])).sum();
                (sum / p as f64) as f32
            });
        }
        (Kernel::MeanBack, [Count(c), Count(p), In(g), add, gate, rectify, Out(y)]) => {
            let (c, p, g) = (at(c), at(p), g.floats());
            each(y, total, |i| {
                let v = (f64::from(g[i / (p * c) * c + i % c]) / p as f64) as f32;
                finish(v, i, [add, gate, rectify])
            });
        }
        (Kernel::Floats, [Count(c), Count(taps), In(x), Out(y)]) => {
            let (c, taps, x) = (at(c), at(taps), x.doubles());
            each(y, total, |i| x[i % taps * c + i / taps] as f32);
        }
        (Kernel::Narrow, [In(x), Out(Memory::Bf16(y))]) => {
            y.iter_mut().zip(x.floats()).for_each(|(y, &x)| *y = bf16::from_f32(x));
        }
        (Kernel::Widen, [In(Memory::Bf16(x)), Out(y)]) => each(y, total, |i| x[i].to_f32()),
        (Kernel::Fold, [Count(per), In(w), In(scale), Out(y)]) => {
            let (per, w, scale) = (at(per), w.floats(), scale.floats());
            each(y, total, |i| w[i] * scale[i / per]);
        }
        (Kernel::SignStep, [F32(step), In(x), In(dx), In(x_nat), In(lower), In(upper), Out(y)]) => {
            let [x, dx, x_nat, lower, upper] = [x, dx, x_nat, lower, upper].map(|m| m.floats());
            each(y, total, |i| {
                let to = x[i] + *step * (f32::from(dx[i] > 0.0) - f32::from(dx[i] < 0.0));
                let to = if to.is_nan() { x_nat[i] } else { to };
                let to = if to < lower[i] { lower[i] } else { to };
                let to = if to > upper[i] { upper[i] } else { to };
                let to = if to < 0.0 { 0.0 } else { to };
                if to > 1.0 { 1.0 } else { to }
            });
        }
        (kernel @ (Kernel::Pad | Kernel::Crop), [sizes @ .., In(x), Out(y)]) => {
            moved(kernel, sizes, x, y, total)
        }
        (kernel @ (Kernel::Depthwise | Kernel::DepthwiseBack), [sizes @ .., In(x), In(w), Out(y)]) => {
            depthwise(kernel, sizes, [x.floats(), w.floats()], y, total);
        }
        (Kernel::DepthwiseSums, [Count(rows), sizes @ .., In(x), In(g), Out(y)]) => {
            depthwise_sums(at(rows), sizes, [x.floats(), g.floats()], y.doubles_mut(), total);
        }
        (kernel, arguments) => sums(kernel, total, arguments),
    }
}

fn each(y: &mut Memory, total: usize, f: impl Fn(usize) -> f32) {
    assert_eq!(y.floats().len(), total);
    y.floats_mut().iter_mut().enumerate().for_each(|(i, y)| *y = f(i));
}

fn numbers<const N: usize>(sizes: &[Argument<'_, Memory>]) -> [usize; N] {
    let number = |size: &Argument<'_, Memory>| match size {
        Count(n) => at(n),
        _ => panic!("a size is a count"),
    };
    sizes.iter().map(number).collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn every_kernel_is_in_the_source_under_its_name() {
    let mut known: Vec<&str> = Kernel::ALL.iter().map(|kernel| kernel.name()).collect();
    let mut written: Vec<&str> = SIGNATURES.keys().map(String::as_str).collect();
    known.sort_unstable();
    written.sort_unstable();
    assert_eq!(known, written);
    assert!(SOURCE.contains(&format!("#define SLAB {SLAB}u\n")));
    assert!(matches!(Argument::<Memory>::Nothing, Nothing));
}

/// What cuBLAS makes of a product, in whole numbers.
fn multiplied(product: &Product, from: [&[i64]; 2]) -> Vec<i64> {
    let Product { weights_first, turned, size: [m, n, k], heights } = *product;
    let (a, b) = if weights_first { (from[1], from[0]) } else { (from[0], from[1]) };
    let entry = |matrix: &[i64], side: usize, row: usize, column: usize| match turned[side] {
        true => matrix[row * heights[side] + column],
        false => matrix[column * heights[side] + row],
    };
    let sum = |row, column| (0..k).map(|i| entry(a, 0, row, i) * entry(b, 1, i, column)).sum();
    assert_eq!(heights[2], m);
    (0..n * m).map(|i| sum(i % m, i / m)).collect()
}

#[test]
fn convolutions_of_single_pixels_are_the_products_they_are_taken_for() {
    let (from, kernel, stride, pad) = ([2, 5], 1, 1, 0);
    let g = Convolution { images: 3, inputs: 4, outputs: 7, from, to: from, kernel, stride, pad };
    for way in [Way::Forward, Way::ToImages, Way::ToWeights] {
        let numbers = |len: usize, by: usize| (0..len).map(|i| (i * by % 23) as i64 - 11).collect::<Vec<_>>();
        let [a, b, len] = g.lens_of(way);
        let (a, b, mut sums) = (numbers(a, 7), numbers(b, 5), vec![0; len]);
        for_taps(&g, |x, w, y| match way {
            Way::Forward => sums[y] += a[x] * b[w],
            Way::ToImages => sums[x] += a[y] * b[w],
            Way::ToWeights => sums[w] += a[x] * b[y],
        });
        assert_eq!(multiplied(&g.product(way).unwrap(), [&a, &b]), sums, "{way:?}");
    }
    assert!(Convolution { stride: 2, to: [1, 3], ..g }.product(Way::Forward).is_none());
}
