//! A second opinion on what a graph computes: plain loops in f64, sharing no code with the executors.

use crate::common::values;
use candle_core::Tensor;
use rslad_models::Network;
use rslad_models::graph::{Node, Op, Pad};
use std::collections::HashMap;

/// Where batch normalization takes its statistics from.
#[derive(Clone, Copy, PartialEq)]
pub enum Statistics {
    Running,
    Batch,
}

/// `[N, C, H, W]`, row-major.
struct Maps {
    shape: [usize; 4],
    v: Vec<f64>,
}

/// What came out.
pub struct Outcome {
    /// The logits, `[N, K]`.
    pub logits: Vec<f64>,
    /// ReLU inputs that are zero to within f32 rounding: each may fall on either side.
    pub undecided_relus: usize,
}

pub fn run(network: &Network, x: &Tensor, statistics: Statistics) -> Outcome {
    let state = network.params().state_dict().unwrap();
    let state: HashMap<String, Vec<f64>> = state.into_iter().map(|(name, t)| (name, values(&t))).collect();
    let (n, c, h, w) = x.dims4().unwrap();
    let mut maps: Vec<Maps> = Vec::new();
    let mut undecided_relus = 0;
    for node in network.graph().nodes() {
        let own = |field: &str| &state[&format!("{}.{field}", node.name)];
        let input = |k: usize| &maps[node.inputs[k].index()];
        let out = match &node.op {
            Op::Input { .. } => Maps { shape: [n, c, h, w], v: values(x) },
            Op::Normalize { mean, std } => input(0).each(|c, v| (v - f64::from(mean[c])) / f64::from(std[c])),
            Op::Conv2d { .. } => conv(input(0), own("weight"), node),
            Op::BatchNorm { eps, .. } => {
                let (mean, var) = match statistics {
                    Statistics::Running => (own("running_mean").clone(), own("running_var").clone()),
                    Statistics::Batch => moments(input(0)),
                };
                let (weight, bias) = (own("weight"), own("bias"));
                input(0).each(|c, v| (v - mean[c]) / (var[c] + eps).sqrt() * weight[c] + bias[c])
            }
            Op::Relu => {
                let largest = input(0).v.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                undecided_relus += input(0).v.iter().filter(|v| v.abs() < 1e-6 * largest).count();
                input(0).each(|_, v| v.max(0.0))
            }
            Op::Silu => input(0).each(|_, v| v / (1.0 + (-v).exp())),
            Op::Add => {
                let sum = input(0).v.iter().zip(&input(1).v).map(|(a, b)| a + b);
                Maps { shape: input(0).shape, v: sum.collect() }
            }
            Op::GlobalAvgPool => pool(input(0)),
            Op::Linear { out } => linear(input(0), own("weight"), own("bias"), *out),
        };
        maps.push(out);
    }
    Outcome { logits: maps.pop().unwrap().v, undecided_relus }
}

impl Maps {
    fn at(&self, [n, c, y, x]: [usize; 4]) -> f64 {
        let [_, channels, h, w] = self.shape;
        self.v[((n * channels + c) * h + y) * w + x]
    }

    /// A function of channel and value, everywhere.
    fn each(&self, f: impl Fn(usize, f64) -> f64) -> Maps {
        let [_, channels, h, w] = self.shape;
        let v = self.v.iter().enumerate().map(|(i, &v)| f(i / (h * w) % channels, v));
        Maps { shape: self.shape, v: v.collect() }
    }
}

fn conv(x: &Maps, weight: &[f64], node: &Node) -> Maps {
    let Op::Conv2d { out, kernel, stride, pad, groups } = node.op else { panic!("a convolution") };
    let Pad { left, right, top, bottom } = pad;
    let [n, channels, h, w] = x.shape;
    let (per_group, out_per_group) = (channels / groups, out / groups);
    let (oh, ow) = ((h + top + bottom - kernel) / stride + 1, (w + left + right - kernel) / stride + 1);
    let mut v = Vec::with_capacity(n * out * oh * ow);
    for (image, o, oy, ox) in indices([n, out, oh, ow]) {
        let mut sum = 0.0;
        for c in 0..per_group {
            let channel = o / out_per_group * per_group + c;
            for ky in 0..kernel {
                for kx in 0..kernel {
                    let (y, column) = (oy * stride + ky, ox * stride + kx); // in the padded image
                    if y >= top && y < h + top && column >= left && column < w + left {
                        let tap = weight[((o * per_group + c) * kernel + ky) * kernel + kx];
                        sum += tap * x.at([image, channel, y - top, column - left]);
                    }
                }
            }
        }
        v.push(sum);
    }
    Maps { shape: [n, out, oh, ow], v }
}

fn indices([a, b, c, d]: [usize; 4]) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..a * b * c * d).map(move |i| (i / (b * c * d), i / (c * d) % b, i / d % c, i % d))
}

/// Mean and biased variance of each channel.
fn moments(x: &Maps) -> (Vec<f64>, Vec<f64>) {
    let [n, channels, h, w] = x.shape;
    let mean_of = |f: &dyn Fn(usize, f64) -> f64| {
        let mut sums = vec![0.0; channels];
        x.v.iter().enumerate().for_each(|(i, &v)| {
            let c = i / (h * w) % channels;
            sums[c] += f(c, v);
        });
        sums.into_iter().map(|sum| sum / (n * h * w) as f64).collect::<Vec<f64>>()
    };
    let mean = mean_of(&|_, v| v);
    let variance = mean_of(&|c, v| (v - mean[c]) * (v - mean[c]));
    (mean, variance)
}

fn pool(x: &Maps) -> Maps {
    let [n, channels, h, w] = x.shape;
    let means = x.v.chunks(h * w).map(|pixels| pixels.iter().sum::<f64>() / (h * w) as f64);
    Maps { shape: [n, channels, 1, 1], v: means.collect() }
}

fn linear(x: &Maps, weight: &[f64], bias: &[f64], out: usize) -> Maps {
    let [n, features, ..] = x.shape;
    let dot = |row: &[f64], k: usize| -> f64 {
        row.iter().zip(&weight[k * features..]).map(|(a, b)| a * b).sum::<f64>() + bias[k]
    };
    let rows = x.v.chunks(features);
    Maps { shape: [n, out, 1, 1], v: rows.flat_map(|row| (0..out).map(move |k| dot(row, k))).collect() }
}
