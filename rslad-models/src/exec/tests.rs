//! Plans against the reference, on random networks: every op in every shape, alone and fused.

use super::{Engine, Executor, Frozen, Isa, Training};
use crate::classifier::{Classifier, ClosureObjective, Objective};
use crate::graph::{Graph, GraphBuilder, NodeId, Op, Pad};
use crate::network::Network;
use crate::randomness::{Key, Purpose};
use candle_core::{D, DType, Device, Tensor};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::num::NonZeroUsize;

mod again;
mod shared;

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
    let sides = || [0..=2usize, 0..=2usize, 0..=2usize, 0..=2usize];
    let window = || (1..=5usize, 1..=3usize, sides());
    let channels = prop_oneof![1..=40usize, Just(8), Just(16), Just(32)];
    prop_oneof![
        4 => (channels, window()).prop_map(|(out, (kernel, stride, pad))| Part::Conv { out, kernel, stride, pad }),
        4 => (1..=40usize).prop_map(|out| Part::Conv { out, kernel: 3, stride: 1, pad: [1; 4] }),
        2 => sides().prop_map(|pad| Part::Conv { out: 33, kernel: 3, stride: 1, pad }),
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
        let weights = weights.to_dtype(logits.dtype())?;
        Ok((logits * weights)?.sum(D::Minus1)?)
    })
}

fn engine(executor: Executor, threads: usize) -> Engine {
    Engine { executor, threads: NonZeroUsize::new(threads).unwrap() }
}

fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.available())
}

/// What runs a program: plans on every instruction set that is here, and a GPU's on the twins of its kernels.
fn executors() -> impl Iterator<Item = Executor> {
    isas().map(Executor::Plan).chain([Executor::Twin])
}

fn values(t: &Tensor) -> Vec<f32> {
    t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
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
        for executor in executors() {
            let plan = Frozen::with_engine(&network, engine(executor, 2)).unwrap();
            let logits = plan.logits(&x).unwrap();
            let ours = plan.gradient(&x, &objective).unwrap();
            prop_assert!(error(&logits, &truth.logits) < 2e-5, "{executor:?} logits: {}", error(&logits, &truth.logits));
            prop_assert_eq!(bits(&ours.logits), bits(&logits), "{:?}", executor);
            prop_assert!(error(&ours.loss, &truth.loss) < 1e-4, "{executor:?} loss");
            prop_assert!(error(&ours.dx, &truth.dx) < 2e-5, "{executor:?} gradient: {}", error(&ours.dx, &truth.dx));
        }
    }

    #[test]
    fn wide_convolutions_equal_the_reference(
        height in 3..=14usize, width in 3..=14usize, pad in [0..=2usize, 0..=2usize, 0..=2usize, 0..=2usize],
        out in 32..=50usize, seed in any::<u64>(),
    ) {
        let conv = |out, pad| Part::Conv { out, kernel: 3, stride: 1, pad };
        let parts = vec![conv(35, [1; 4]), Part::Relu, conv(out, pad), Part::Norm, conv(40, pad), Part::Add(1)];
        let case = Case { parts, normalized: None, images: [3, 2, height, width], classes: 5, seed };
        let network = case.network();
        let reference = Frozen::with_engine(&network, engine(Executor::Reference, 1)).unwrap();
        let objective = linear_objective(3, 5);
        let truth = reference.gradient(&case.x(), &objective).unwrap();
        for isa in isas() {
            let plan = Frozen::with_engine(&network, engine(Executor::Plan(isa), 1)).unwrap();
            let ours = plan.gradient(&case.x(), &objective).unwrap();
            let errors = [error(&ours.logits, &truth.logits), error(&ours.dx, &truth.dx)];
            prop_assert!(errors.iter().all(|e| *e < 2e-5), "{isa:?}: {errors:?}");
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
    let wide = || Part::Conv { out: 33, kernel: 3, stride: 1, pad: [1; 4] };
    let tiles = vec![wide(), Part::Relu, wide(), Part::Relu];
    for parts in [relu, silu, tiles] {
        let case = Case { parts, normalized: Some(()), images: [3, 2, 5, 7], classes: 3, seed: 1 };
        let (network, clean) = (case.network(), values(&case.x()));
        for executor in executors() {
            let plan = Frozen::with_engine(&network, engine(executor, 1)).unwrap();
            for poison in [f32::NAN, f32::INFINITY] {
                let mut pixels = clean.clone();
                pixels[70 + 33] = poison; // in the second image
                let x = Tensor::from_vec(pixels, case.images.as_slice(), &Device::Cpu).unwrap();
                let logits = values(&plan.logits(&x).unwrap());
                let finite: Vec<bool> =
                    logits.chunks(3).map(|row| row.iter().any(|v| v.is_finite())).collect();
                assert_eq!(finite, [true, false, true], "{executor:?} {poison}: {logits:?}");
                let gradient = plan.gradient(&x, &linear_objective(3, 3)).unwrap();
                assert_eq!(bits(&gradient.logits), bits(&plan.logits(&x).unwrap()));
            }
        }
    }
}

#[test]
fn in_train_mode_what_is_not_finite_reaches_every_image_and_gradient() {
    let wide = || Part::Conv { out: 17, kernel: 3, stride: 1, pad: [1; 4] };
    let parts = vec![wide(), Part::Norm, Part::Relu, wide(), Part::Norm];
    let case = Case { parts, normalized: None, images: [3, 2, 5, 7], classes: 3, seed: 1 };
    let network = case.network();
    let mut pixels = values(&case.x());
    pixels[70 + 33] = f32::NAN;
    let x = Tensor::from_vec(pixels, case.images.as_slice(), &Device::Cpu).unwrap();
    for executor in executors() {
        let mut training = Training::with_engine(&network, engine(executor, 1));
        let pass = training.forward(&x).unwrap();
        assert!(values(pass.logits()).iter().all(|v| v.is_nan()), "{executor:?}");
        training.backward(pass, &drawn(&[3, 3], 5, "dlogits")).unwrap();
        let first = &training.take_gradients().unwrap()[0];
        assert!(values(first).iter().all(|v| v.is_nan()), "{executor:?}");
    }
}

#[test]
fn several_ways_back_after_one_forward_are_those_of_one_each() {
    let parts = vec![Part::Conv { out: 9, kernel: 3, stride: 2, pad: [1; 4] }, Part::Norm, Part::Relu];
    let case = Case { parts, normalized: None, images: [5, 3, 6, 6], classes: 4, seed: 1 };
    let weights = drawn(&[4], 3, "weights");
    let of_class = |k: usize| {
        let weight = f64::from(values(&weights)[k]);
        ClosureObjective(move |_: &[u32], logits: &Tensor| {
            Ok((logits.sqr()?.narrow(1, k, 1)?.squeeze(1)? * weight)?)
        })
    };
    let objectives: Vec<_> = (0..4).map(of_class).collect();
    let objectives: Vec<&dyn Objective> = objectives.iter().map(|o| o as &dyn Objective).collect();
    for executor in [Executor::Reference, Executor::Plan(Isa::best()), Executor::Twin] {
        let frozen = Frozen::with_engine(&case.network(), engine(executor, 2)).unwrap();
        let together = frozen.gradients(&case.x(), &objectives).unwrap();
        assert_eq!(together.len(), 4);
        for (ours, objective) in together.iter().zip(&objectives) {
            let alone = frozen.gradient(&case.x(), *objective).unwrap();
            assert_eq!(bits(&ours.dx), bits(&alone.dx), "{executor:?}");
            assert_eq!(bits(&ours.loss), bits(&alone.loss), "{executor:?}");
            assert_eq!(bits(&ours.logits), bits(&alone.logits), "{executor:?}");
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
    for executor in [Executor::Plan(Isa::best()), Executor::Twin] {
        let (old, new, x) = (case.network(), Case { seed: 2, ..case.clone() }.network(), case.x());
        let mut frozen = Frozen::with_engine(&old, engine(executor, 1)).unwrap();
        let before = bits(&frozen.logits(&x).unwrap());
        old.params().load_state_dict(&new.params().state_dict().unwrap().into_iter().collect()).unwrap();
        assert_eq!(bits(&frozen.logits(&x).unwrap()), before, "a snapshot does not follow by itself");
        frozen.refresh(&old).unwrap();
        let fresh = Frozen::with_engine(&new, engine(executor, 1)).unwrap();
        assert_eq!(bits(&frozen.logits(&x).unwrap()), bits(&fresh.logits(&x).unwrap()));
    }
}

/// What one forward and backward in train mode give.
struct TrainStep {
    logits: Tensor,
    gradients: Vec<Tensor>,
    dx: Tensor,
    running: Vec<Tensor>,
}

impl TrainStep {
    fn run(case: &Case, engine: Engine) -> crate::Result<Self> {
        Self::of(&case.network(), case, engine)
    }

    /// The reference in double precision.
    fn truth(case: &Case) -> crate::Result<Self> {
        Self::of(&case.network().in_double_precision()?, case, engine(Executor::Reference, 1))
    }

    fn of(network: &Network, case: &Case, engine: Engine) -> crate::Result<Self> {
        let x = case.x().to_dtype(network.dtype())?;
        let dlogits = drawn(&[case.images[0], case.classes], 5, "dlogits").to_dtype(network.dtype())?;
        let mut training = Training::with_engine(network, engine);
        let first = training.forward(&x)?;
        let pass = training.forward(&(&x * 0.9)?)?; // two are alive
        let logits = pass.logits().clone();
        training.backward(first, &(&dlogits * 0.5)?)?;
        training.backward(pass, &dlogits)?;
        let gradients = training.take_gradients()?;
        let objective = linear_objective(case.images[0], case.classes);
        let dx = training.attack_view().gradient(&x, &objective)?.dx;
        let running = network.params().state_dict()?.into_iter().map(|(_, t)| t.to_dtype(DType::F32));
        Ok(Self { logits, gradients, dx, running: running.collect::<candle_core::Result<_>>()? })
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        [&self.logits, &self.dx].into_iter().chain(&self.gradients).chain(&self.running)
    }

    /// Largest differences over largest values: of logits, parameter gradients together, image
    /// gradients, running statistics.
    fn errors(&self, truth: &Self) -> [f32; 4] {
        let joined = |tensors: &[Tensor]| {
            let flat: Vec<f32> = tensors.iter().flat_map(values).collect();
            Tensor::new(flat, &Device::Cpu).unwrap()
        };
        [
            error(&self.logits, &truth.logits),
            error(&joined(&self.gradients), &joined(&truth.gradients)),
            error(&self.dx, &truth.dx),
            error(&joined(&self.running), &joined(&truth.running)),
        ]
    }
}

fn train_case() -> impl Strategy<Value = Case> {
    let wide = |mut case: Case| {
        case.images[0] += 6; // enough values for statistics that mean something
        case
    };
    case().prop_map(wide)
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn training_plans_equal_the_reference(case in train_case()) {
        let truth = TrainStep::truth(&case).unwrap();
        // Statistics over few values lose digits, in the reference too.
        let reference = TrainStep::run(&case, engine(Executor::Reference, 1)).unwrap().errors(&truth);
        for executor in executors() {
            let errors = TrainStep::run(&case, engine(executor, 2)).unwrap().errors(&truth);
            let good = errors.iter().zip(&reference).all(|(e, r)| *e < 2e-5_f32.max(10.0 * r));
            prop_assert!(good, "{executor:?}: {errors:?}, reference {reference:?}");
        }
    }

    #[test]
    fn wide_convolutions_train_as_the_reference(
        height in 3..=14usize, width in 3..=14usize, pad in [0..=2usize, 0..=2usize, 0..=2usize, 0..=2usize],
        channels in [16..=50usize, 16..=50usize, 16..=50usize], seed in any::<u64>(),
    ) {
        let conv = |out, pad| Part::Conv { out, kernel: 3, stride: 1, pad };
        let [a, b, c] = channels;
        let parts = vec![conv(a, [1; 4]), Part::Norm, Part::Relu, conv(b, pad), Part::Norm, conv(c, pad)];
        let case = Case { parts, normalized: None, images: [7, 2, height, width], classes: 5, seed };
        let truth = TrainStep::truth(&case).unwrap();
        let reference = TrainStep::run(&case, engine(Executor::Reference, 1)).unwrap().errors(&truth);
        for isa in isas() {
            let errors = TrainStep::run(&case, engine(Executor::Plan(isa), 2)).unwrap().errors(&truth);
            let good = errors.iter().zip(&reference).all(|(e, r)| *e < 2e-5_f32.max(10.0 * r));
            prop_assert!(good, "{isa:?}: {errors:?}, reference {reference:?}");
        }
    }

    #[test]
    fn training_bits_do_not_depend_on_threads(case in train_case()) {
        let isa = Isa::best();
        let one = TrainStep::run(&case, engine(Executor::Plan(isa), 1)).unwrap();
        for threads in [2, 3, 8] {
            let more = TrainStep::run(&case, engine(Executor::Plan(isa), threads)).unwrap();
            for (a, b) in one.tensors().zip(more.tensors()) {
                prop_assert_eq!(bits(a), bits(b), "{} threads", threads);
            }
        }
    }
}
