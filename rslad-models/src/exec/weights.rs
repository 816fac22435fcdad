//! The numbers of a network as the kernels read them: batch normalization folded in, weights packed.

use super::engine::Threads;
use super::program::{Conv, Kind, Program, Scale, Step};
use crate::error::Result;
use crate::graph::{Graph, Op};
use crate::kernels::Isa;
use crate::kernels::conv::{Panels, phases};
use candle_core::{CpuStorage, Storage, Tensor};
use std::sync::OnceLock;

/// What each step of a program needs; refilled in place when the network has changed.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    pub(super) steps: Vec<Numbers>,
    isa: Isa,
    /// Of each step that is a convolution, a set for each phase.
    backward: OnceLock<Vec<Vec<Panels>>>,
}

/// The numbers of a step.
#[derive(Clone, Debug)]
pub(super) enum Numbers {
    None,
    /// The way back reads other panels, made of these.
    Conv {
        forward: Panels,
        bias: Option<Vec<f32>>,
    },
    /// `[tap][stored channel]`, in the same places.
    Depthwise {
        forward: Vec<f32>,
        backward: Vec<Vec<f32>>,
        bias: Option<Vec<f32>>,
    },
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
}

/// Calls `f` with the values of a contiguous f32 tensor on the CPU.
pub(super) fn with_values<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => {
            let first = layout.start_offset();
            Ok(f(&values[first..first + layout.shape().elem_count()]))
        }
        _ => Err(crate::Error::Other(format!(
            "a tensor is {:?} on {:?}, expected f32 on the CPU",
            tensor.dtype(),
            tensor.device().location()
        ))),
    }
}

fn stored(channels: usize) -> usize {
    channels.next_multiple_of(8)
}

fn padded(values: impl Iterator<Item = f64>, channels: usize) -> Vec<f32> {
    let mut out: Vec<f32> = values.map(|v| v as f32).collect();
    out.resize(stored(channels), 0.0);
    out
}

impl Weights {
    /// Room for the numbers of a program.
    pub(super) fn new(graph: &Graph, program: &Program, isa: Isa) -> Self {
        let numbers = |step: &Step| {
            let channels = [step.source, step.target].map(|v| program.values[v].channels);
            match step.kind {
                Kind::Conv(conv) => conv_room(&conv, isa, channels),
                Kind::Depthwise(conv) => depthwise_room(&conv, channels[0]),
                Kind::Affine(scale, _) => affine_constants(graph, scale, channels[0]),
                Kind::Norm(_) | Kind::Mean => Numbers::None,
            }
        };
        Self { steps: program.steps.iter().map(numbers).collect(), isa, backward: OnceLock::new() }
    }

    /// Whether these are the present values of `params`, of a network in train mode.
    pub(super) fn hold(&self, program: &Program, params: &[Tensor], threads: &Threads) -> Result<bool> {
        for (step, numbers) in program.steps.iter().zip(&self.steps) {
            let same = match (step.kind, numbers) {
                (Kind::Conv(c), Numbers::Conv { forward, bias }) => {
                    let inputs = program.values[step.source].channels;
                    let same_bias = match (c.bias, bias) {
                        (None, _) => true,
                        (Some(entry), Some(bias)) => with_values(&params[entry], |b| same_bits(b, bias))?,
                        (Some(_), None) => false,
                    };
                    same_bias
                        && with_values(&params[c.weight], |w| are_packed(w, inputs, &c, forward, threads))?
                }
                (Kind::Depthwise(c), Numbers::Depthwise { forward, .. }) => {
                    let stride = stored(program.values[step.target].channels);
                    let taps = forward.len() / stride;
                    let at = |(i, &w): (usize, &f32)| (w, forward[i % taps * stride + i / taps]);
                    with_values(&params[c.weight], |w| w.iter().enumerate().map(at).all(is_same))?
                }
                _ => true,
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The panels of all ways back; made when they are first asked for, kept from then on.
    pub(super) fn backward(&self, program: &Program, threads: &Threads) -> &[Vec<Panels>] {
        let of_step = |step| self.way_back(program, step, threads, |floats| vec![0.0; floats]);
        self.backward.get_or_init(|| (0..self.steps.len()).map(of_step).collect())
    }

    /// The panels of the way back through one step, in given room of zeros; none where it is no convolution.
    pub(super) fn way_back(
        &self,
        program: &Program,
        step: usize,
        threads: &Threads,
        mut room: impl FnMut(usize) -> Vec<f32>,
    ) -> Vec<Panels> {
        let Step { kind, source, target, .. } = program.steps[step];
        let (Kind::Conv(conv), Numbers::Conv { forward, .. }) = (kind, &self.steps[step]) else {
            return Vec::new();
        };
        let [inputs, outputs] = [source, target].map(|v| program.values[v].channels);
        let room = |taps| Panels::within(self.isa, [taps, outputs, stored(inputs)], &mut room);
        let mut backward: Vec<Panels> = phases(&conv.window).iter().map(|p| p.taps.len()).map(room).collect();
        turn(&conv, inputs, forward, &mut backward, threads);
        backward
    }

    /// Takes the present values of `params`, in the order of the graph's entries.
    pub(super) fn fill(
        &mut self,
        graph: &Graph,
        program: &Program,
        params: &[Tensor],
        threads: &Threads,
    ) -> Result<()> {
        for (step, numbers) in program.steps.iter().zip(&mut self.steps) {
            match (step.kind, numbers) {
                (Kind::Conv(c), Numbers::Conv { forward, bias }) => {
                    let outputs = program.values[step.target].channels;
                    let inputs = program.values[step.source].channels;
                    let folded = Folded::new(graph, &c, params, outputs)?;
                    with_values(&params[c.weight], |w| {
                        pack(&c, &folded.scale, w, inputs, forward, threads);
                    })?;
                    *bias = folded.bias;
                }
                (Kind::Depthwise(c), Numbers::Depthwise { forward, backward, bias }) => {
                    let channels = program.values[step.target].channels;
                    let folded = Folded::new(graph, &c, params, channels)?;
                    with_values(&params[c.weight], |w| {
                        pack_depthwise(&c, &folded.scale, w, forward, backward);
                    })?;
                    *bias = folded.bias;
                }
                (Kind::Affine(Scale::Running(node), _), Numbers::Affine { scale, shift }) => {
                    let (a, b) = running(graph, node, params)?;
                    (*scale, *shift) = (padded(a.iter().copied(), a.len()), padded(b.into_iter(), a.len()));
                }
                _ => {}
            }
        }
        for (i, backward) in self.backward.get_mut().into_iter().flatten().enumerate() {
            let Step { kind: Kind::Conv(conv), source, .. } = program.steps[i] else { continue };
            let Numbers::Conv { forward, .. } = &self.steps[i] else { continue };
            turn(&conv, program.values[source].channels, forward, backward, threads);
        }
        Ok(())
    }
}

fn conv_room(conv: &Conv, isa: Isa, [inputs, outputs]: [usize; 2]) -> Numbers {
    let taps = conv.window.kernel * conv.window.kernel;
    Numbers::Conv { forward: Panels::new(isa, taps, inputs, stored(outputs)), bias: None }
}

fn depthwise_room(conv: &Conv, channels: usize) -> Numbers {
    let room = |taps: usize| vec![0.0; taps * stored(channels)];
    Numbers::Depthwise {
        forward: room(conv.window.kernel * conv.window.kernel),
        backward: phases(&conv.window).iter().map(|p| room(p.taps.len())).collect(),
        bias: None,
    }
}

fn affine_constants(graph: &Graph, scale: Scale, channels: usize) -> Numbers {
    let (scale, shift) = match scale {
        Scale::Constants(node) => match &graph.nodes()[node].op {
            Op::Normalize { mean, std } => {
                let inverse = |s: &f32| 1.0 / f64::from(*s);
                let shift = mean.iter().zip(std).map(|(m, s)| -f64::from(*m) * inverse(s));
                (padded(std.iter().map(inverse), channels), padded(shift, channels))
            }
            _ => unreachable!("constants belong to a normalization"),
        },
        Scale::One | Scale::Running(_) => (vec![1.0; stored(channels)], vec![0.0; stored(channels)]),
    };
    Numbers::Affine { scale, shift }
}

fn pack(conv: &Conv, scale: &[f64], w: &[f32], inputs: usize, forward: &mut Panels, threads: &Threads) {
    let area = conv.window.kernel * conv.window.kernel;
    let threads = threads.for_work(w.len() as u64 * WORK_OF_PACKING);
    let at = |o: usize, tap: usize, i: usize| (f64::from(w[(o * inputs + i) * area + tap]) * scale[o]) as f32;
    threads.each(&mut forward.panels(), |_, panel| panel.fill(scale.len(), at));
}

/// Packs the way back, given the way forward.
fn turn(conv: &Conv, inputs: usize, forward: &Panels, backward: &mut [Panels], threads: &Threads) {
    let (side, at) = (conv.window.kernel, forward.reader());
    for (panels, phase) in backward.iter_mut().zip(phases(&conv.window)) {
        let taps: Vec<usize> = phase.taps.iter().map(|(y, x)| y * side + x).collect();
        let threads = threads.for_work(panels.floats() as u64 * WORK_OF_PACKING);
        threads.each(&mut panels.panels(), |_, panel| panel.fill(inputs, |i, tap, o| at(o, taps[tap], i)));
    }
}

/// Whether panels hold these weights, unscaled.
fn are_packed(w: &[f32], inputs: usize, conv: &Conv, forward: &Panels, threads: &Threads) -> bool {
    let (area, at) = (conv.window.kernel * conv.window.kernel, forward.reader());
    let mut outputs: Vec<(&[f32], bool)> = w.chunks_exact(inputs * area).map(|w| (w, false)).collect();
    threads.for_work(w.len() as u64 * WORK_OF_PACKING).each(&mut outputs, |o, (w, same)| {
        *same = w.iter().enumerate().all(|(i, &w)| is_same((w, at(o, i % area, i / area))));
    });
    outputs.iter().all(|&(_, same)| same)
}

fn same_bits(some: &[f32], more: &[f32]) -> bool {
    some.iter().copied().zip(more.iter().copied()).all(is_same)
}

fn is_same((a, b): (f32, f32)) -> bool {
    a.to_bits() == b.to_bits()
}

/// Packing a number costs about as much as this many multiply-adds.
const WORK_OF_PACKING: u64 = 16;

fn pack_depthwise(conv: &Conv, scale: &[f64], w: &[f32], forward: &mut [f32], backward: &mut [Vec<f32>]) {
    let (side, channels) = (conv.window.kernel, scale.len());
    let stride = stored(channels);
    let at = |c: usize, tap: usize| (f64::from(w[c * side * side + tap]) * scale[c]) as f32;
    let fill = |row: &mut [f32], tap: usize| (0..channels).for_each(|c| row[c] = at(c, tap));
    forward.chunks_exact_mut(stride).enumerate().for_each(|(tap, row)| fill(row, tap));
    for (rows, phase) in backward.iter_mut().zip(phases(&conv.window)) {
        let taps = phase.taps.iter().map(|(y, x)| y * side + x);
        rows.chunks_exact_mut(stride).zip(taps).for_each(|(row, tap)| fill(row, tap));
    }
}

/// What a folded batch normalization multiplies the weights of each output channel by, and adds.
struct Folded {
    scale: Vec<f64>,
    bias: Option<Vec<f32>>,
}

impl Folded {
    fn new(graph: &Graph, conv: &Conv, params: &[Tensor], outputs: usize) -> Result<Self> {
        if let Some(node) = conv.folded {
            let (scale, shift) = running(graph, node, params)?;
            return Ok(Self { bias: Some(padded(shift.into_iter(), outputs)), scale });
        }
        let bias =
            |entry: usize| with_values(&params[entry], |b| padded(b.iter().map(|&v| v.into()), outputs));
        Ok(Self { scale: vec![1.0; outputs], bias: conv.bias.map(bias).transpose()? })
    }
}

/// Scale and shift of a batch normalization by its running statistics.
fn running(graph: &Graph, node: usize, params: &[Tensor]) -> Result<(Vec<f64>, Vec<f64>)> {
    let Op::BatchNorm { eps, .. } = graph.nodes()[node].op else {
        unreachable!("running statistics belong to a batch normalization")
    };
    let first = graph.first_entry(node);
    let wide =
        |i: usize| with_values(&params[first + i], |v| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
    let (weight, bias, mean, variance) = (wide(0)?, wide(1)?, wide(2)?, wide(3)?);
    let scale: Vec<f64> = weight.iter().zip(&variance).map(|(w, v)| w / (v + eps).sqrt()).collect();
    let shift = bias.iter().zip(mean.iter().zip(&scale)).map(|(b, (m, s))| b - m * s).collect();
    Ok((scale, shift))
}
