//! Plans against the reference, on random networks: every op in every shape, alone and fused.

use super::{Engine, Executor, Frozen, Isa};
use crate::classifier::{Classifier, ClosureObjective, Objective};
use crate::graph::{Graph, GraphBuilder, NodeId, Op, Pad};
use crate::network::Network;
use crate::randomness::{Key, Purpose};
use candle_core::{D, Device, Tensor};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::num::NonZeroUsize;

/// A part of a random network. One that does not fit where it falls is left out.
#[derive(Clone, Debug)]
enum Part {
    Conv {
        out: usize,
        kernel: usize,
        stride: usize,
        pad: [usize; 4],
    },
    Depthwise {
        kernel: usize,
        stride: usize,
        pad: [usize; 4],
    },
    Norm,
    Relu,
    Silu,
    /// Adds the latest earlier value of the same shape, counted back from here.
    Add(usize),
}

#[derive(Clone, Debug)]
struct Case {
    parts: Vec<Part>,
    normalized: Option<()>,
    images: [usize; 4],
    classes: usize,
    seed: u64,
}

fn part() -> impl Strategy<Value = Part> {
    let window = || (1..=5usize, 1..=3usize, [0..=2usize, 0..=2usize, 0..=2usize, 0..=2usize]);
    let channels = prop_oneof![1..=40usize, Just(8), Just(16), Just(32)];
    prop_oneof![
        4 => (channels, window()).prop_map(|(out, (kernel, stride, pad))| Part::Conv { out, kernel, stride, pad }),
        4 => (1..=40usize).prop_map(|out| Part::Conv { out, kernel: 3, stride: 1, pad: [1; 4] }),
        2 => window().prop_map(|(kernel, stride, pad)| Part::Depthwise { kernel, stride, pad }),
        4 => Just(Part::Norm),
        4 => Just(Part::Relu),
        1 => Just(Part::Silu),
        3 => (0..4usize).prop_map(Part::Add),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let parts = prop::collection::vec(part(), 0..12);
    let images = [1..=5usize, 1..=4usize, 1..=11usize, 1..=11usize];
    let normalized = prop::option::of(Just(()));
    (parts, normalized, images, 2..=11usize, any::<u64>()).prop_map(
        |(parts, normalized, images, classes, seed)| Case { parts, normalized, images, classes, seed },
    )
}

fn cases(n: u32) -> ProptestConfig {
    // One seed: a rectifier input that rounds to the other side of 0 would be a failure of no interest.
    ProptestConfig { cases: n, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Default::default() }
}

impl Case {
    fn graph(&self) -> Graph {
        let [_, channels, height, width] = self.images;
        let (mut g, mut x) = GraphBuilder::new(channels);
        let (mut size, mut earlier) = ((height, width), Vec::new());
        if self.normalized.is_some() {
            x = g.normalize(x, &vec![0.4; channels], &vec![0.3; channels]);
        }
        for (i, part) in self.parts.iter().enumerate() {
            earlier.push((x, size));
            x = place(&mut g, x, &mut size, &format!("part{i}"), part, &earlier);
        }
        g.head(x, "linear", self.classes)
    }

    fn network(&self) -> Network {
        Network::of_graph(self.graph(), self.seed).unwrap()
    }

    fn x(&self) -> Tensor {
        drawn(&self.images, self.seed, "images")
    }
}

fn place(
    g: &mut GraphBuilder,
    x: NodeId,
    size: &mut (usize, usize),
    name: &str,
    part: &Part,
    earlier: &[(NodeId, (usize, usize))],
) -> NodeId {
    let (out, groups, (kernel, stride, [left, right, top, bottom])) = match *part {
        Part::Conv { out, kernel, stride, pad } => (out, 1, (kernel, stride, pad)),
        Part::Depthwise { kernel, stride, pad } => (g.channels(x), g.channels(x), (kernel, stride, pad)),
        Part::Norm => return g.batch_norm(x, name),
        Part::Relu => return g.relu(x),
        Part::Silu => return g.silu(x),
        Part::Add(skip) => {
            let alike = |(node, other): &&(NodeId, (usize, usize))| {
                other == size && g.channels(*node) == g.channels(x)
            };
            let other = earlier.iter().rev().filter(alike).nth(skip).map(|(node, _)| *node);
            return other.map_or(x, |other| g.add(x, other));
        }
    };
    let side = |n: usize, pad: usize| (n + pad).checked_sub(kernel).map(|rest| rest / stride + 1);
    let Some(after) = side(size.0, top + bottom).zip(side(size.1, left + right)) else { return x };
    *size = after;
    g.conv_with(x, name, Op::Conv2d { out, kernel, stride, pad: Pad { left, right, top, bottom }, groups })
}

fn drawn(shape: &[usize], seed: u64, what: &'static str) -> Tensor {
    let mut draws = Key::new(seed, Purpose::named(what)).stream(0);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| draws.symmetric()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A different linear function of the logits for each example.
fn linear_objective(n: usize, classes: usize) -> impl Objective {
    let weights = drawn(&[n, classes], 3, "objective");
    ClosureObjective(move |rows: &[u32], logits: &Tensor| {
        let weights = weights.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?;
        Ok((logits * weights)?.sum(D::Minus1)?)
    })
}

fn engine(executor: Executor, threads: usize) -> Engine {
    Engine { executor, threads: NonZeroUsize::new(threads).unwrap() }
}

fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.available())
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(t: &Tensor) -> Vec<u32> {
    values(t).into_iter().map(f32::to_bits).collect()
}

/// Largest difference over largest value.
fn error(ours: &Tensor, truth: &Tensor) -> f32 {
    let (ours, truth) = (values(ours), values(truth));
    assert_eq!(ours.len(), truth.len());
    let largest = truth.iter().fold(1e-6, |m: f32, v| m.max(v.abs()));
    ours.iter().zip(&truth).fold(0.0, |m: f32, (a, b)| m.max((a - b).abs())) / largest
}

proptest! {
    #![proptest_config(cases(192))]

    #[test]
    fn frozen_plans_equal_the_reference(case in case()) {
        let (network, x) = (case.network(), case.x());
        let objective = linear_objective(case.images[0], case.classes);
        let reference = Frozen::with_engine(&network, engine(Executor::Reference, 1)).unwrap();
        let truth = reference.gradient(&x, &objective).unwrap();
        for isa in isas() {
            let plan = Frozen::with_engine(&network, engine(Executor::Plan(isa), 2)).unwrap();
            let logits = plan.logits(&x).unwrap();
            let ours = plan.gradient(&x, &objective).unwrap();
            prop_assert!(error(&logits, &truth.logits) < 2e-5, "{isa:?} logits: {}", error(&logits, &truth.logits));
            prop_assert_eq!(bits(&ours.logits), bits(&logits), "{:?}", isa);
            prop_assert!(error(&ours.loss, &truth.loss) < 1e-4, "{isa:?} loss");
            prop_assert!(error(&ours.dx, &truth.dx) < 2e-5, "{isa:?} gradient: {}", error(&ours.dx, &truth.dx));
        }
    }

    #[test]
    fn frozen_bits_do_not_depend_on_threads_or_batches(case in case()) {
        let (network, x) = (case.network(), case.x());
        let n = case.images[0];
        let many = Tensor::cat(&[&x; 9], 0).unwrap(); // enough for several groups
        let objective = linear_objective(9 * n, case.classes);
        for isa in isas() {
            let one = Frozen::with_engine(&network, engine(Executor::Plan(isa), 1)).unwrap();
            let truth = one.gradient(&many, &objective).unwrap();
            for threads in [2, 3, 8] {
                let plan = Frozen::with_engine(&network, engine(Executor::Plan(isa), threads)).unwrap();
                let ours = plan.gradient(&many, &objective).unwrap();
                prop_assert_eq!(bits(&ours.dx), bits(&truth.dx), "{:?}, {} threads", isa, threads);
                prop_assert_eq!(bits(&plan.logits(&many).unwrap()), bits(&truth.logits));
            }
            let alone = one.logits(&x.narrow(0, n - 1, 1).unwrap()).unwrap();
            prop_assert_eq!(bits(&alone), bits(&truth.logits.narrow(0, n - 1, 1).unwrap()));
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    let relu = vec![Part::Conv { out: 5, kernel: 3, stride: 1, pad: [1; 4] }, Part::Norm, Part::Relu];
    let silu = vec![Part::Depthwise { kernel: 3, stride: 2, pad: [1; 4] }, Part::Silu];
    for parts in [relu, silu] {
        let case = Case { parts, normalized: Some(()), images: [3, 2, 5, 7], classes: 3, seed: 1 };
        let (network, clean) = (case.network(), values(&case.x()));
        for isa in isas() {
            let plan = Frozen::with_engine(&network, engine(Executor::Plan(isa), 1)).unwrap();
            for poison in [f32::NAN, f32::INFINITY] {
                let mut pixels = clean.clone();
                pixels[70 + 33] = poison; // in the second image
                let x = Tensor::from_vec(pixels, case.images.as_slice(), &Device::Cpu).unwrap();
                let logits = values(&plan.logits(&x).unwrap());
                let finite: Vec<bool> =
                    logits.chunks(3).map(|row| row.iter().any(|v| v.is_finite())).collect();
                assert_eq!(finite, [true, false, true], "{isa:?} {poison}: {logits:?}");
            }
        }
    }
}

#[test]
fn other_groups_fall_back_to_the_reference() {
    let (mut g, x) = GraphBuilder::new(4);
    let op = Op::Conv2d { out: 6, kernel: 3, stride: 1, pad: Pad::all(1), groups: 2 };
    let x = g.conv_with(x, "grouped", op);
    let network = Network::of_graph(g.head(x, "linear", 3), 1).unwrap();
    let images = drawn(&[2, 4, 5, 5], 1, "images");
    let logits = |executor| {
        bits(&Frozen::with_engine(&network, engine(executor, 1)).unwrap().logits(&images).unwrap())
    };
    assert_eq!(logits(Executor::Plan(Isa::best())), logits(Executor::Reference));
}

#[test]
fn a_refreshed_snapshot_equals_a_new_one() {
    let parts =
        vec![Part::Norm, Part::Conv { out: 9, kernel: 3, stride: 2, pad: [1; 4] }, Part::Norm, Part::Relu];
    let case = Case { parts, normalized: None, images: [2, 3, 6, 6], classes: 4, seed: 1 };
    let (old, new, x) = (case.network(), Case { seed: 2, ..case.clone() }.network(), case.x());
    let mut frozen = Frozen::with_engine(&old, engine(Executor::Plan(Isa::best()), 1)).unwrap();
    let before = bits(&frozen.logits(&x).unwrap());
    old.params().load_state_dict(&new.params().state_dict().unwrap().into_iter().collect()).unwrap();
    assert_eq!(bits(&frozen.logits(&x).unwrap()), before, "a snapshot does not follow by itself");
    frozen.refresh(&old).unwrap();
    let fresh = Frozen::with_engine(&new, engine(Executor::Plan(Isa::best()), 1)).unwrap();
    assert_eq!(bits(&frozen.logits(&x).unwrap()), bits(&fresh.logits(&x).unwrap()));
}
