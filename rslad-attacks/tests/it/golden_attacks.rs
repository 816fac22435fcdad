//! The attacks of the official codes, replayed with their random draws.
//!
//! The limits are above what PyTorch's own f32 shows against its f64: sign ascent amplifies rounding,
//! since a gradient near zero may take either sign.

use crate::goldens::{Goldens, Twin, flat, network, relative_error, share_within};
use candle_core::{DType, Device, Tensor};
use rslad_attacks::objectives::{CrossEntropy, KlTo};
use rslad_attacks::{
    Ball, ClipStart, Draws, Linf, Order, Problem, SignAscent, Start, ascend, attacks, losses, perturb,
};
use rslad_models::randomness::{Key, Purpose};
use rslad_models::{Classifier, Frozen, Network, Objective};

/// A network, the attacks recorded on it, and how much of the pixels must agree.
pub(crate) struct Record {
    network: Network,
    pub(crate) f: Frozen,
    pub(crate) file: Goldens,
    /// What `file` holds in f32 only, in double precision.
    pub(crate) double: Goldens,
    pixels: f64,
    pixels_of_trades_inner: f64,
}

pub(crate) fn tiny() -> Record {
    let options = "classes = 10\nin_channels = 3\nnorm = 'none'\nwidth = 16";
    let network = network("tiny_cnn", options, "net_tiny.safetensors");
    Record { pixels: 0.99, pixels_of_trades_inner: 0.90, ..Record::open(network, "tiny") }
}

pub(crate) fn resnet() -> Record {
    let options = "classes = 10\nin_channels = 3\nnorm = 'none'\nwidth = 8\nblocks = '2,2,2,2'";
    let network = network("resnet18", options, "net_resnet.safetensors");
    Record { pixels: 0.90, pixels_of_trades_inner: 0.60, ..Record::open(network, "resnet") }
}

impl Record {
    fn open(network: Network, name: &str) -> Self {
        Self {
            f: network.freeze().unwrap(),
            network,
            file: Goldens::open(&format!("attacks_{name}.safetensors")),
            double: Goldens::open(&format!("double_{name}.safetensors")),
            pixels: 1.0,
            pixels_of_trades_inner: 1.0,
        }
    }

    /// The network in double precision.
    pub(crate) fn twin(&self) -> Twin {
        Twin::new(&self.network)
    }

    /// The problem with random numbers of our own.
    pub(crate) fn keyed(&self, eps: f64, seed: u64) -> Problem {
        let p = self.problem(eps);
        let draws = Draws::Keyed { seed, epoch: 0 };
        Problem::new(p.ball().clone(), p.y(), p.ids().to_vec(), draws).unwrap()
    }

    fn x_nat(&self) -> Tensor {
        // `/ 255.0` would multiply by the inverse, which gives other last bits than the division of the official codes.
        self.file.f32("x_u8").broadcast_div(&Tensor::new(255f32, &Device::Cpu).unwrap()).unwrap()
    }

    fn uniform(&self) -> Tensor {
        ((self.file.f32("noise/uniform_u8") * 2.0).unwrap() - 255.0)
            .unwrap()
            .affine(1.0 / 256.0, 0.0)
            .unwrap()
    }

    pub(crate) fn problem(&self, eps: f64) -> Problem {
        self.scripted(eps, self.uniform())
    }

    /// The problem whose draws lead APGD to the recorded start: the operations that made it round in another order, which
    /// the draws make up for.
    pub(crate) fn with_recorded_start(&self) -> Problem {
        let (x_nat, start) = (flat(&self.x_nat()), flat(&self.file.f64("apgd/x_init")));
        let drawn = self.uniform();
        let largest = flat(&drawn.abs().unwrap().flatten_from(1).unwrap().max(1).unwrap());
        let t = flat(&drawn);
        let draw = |i: usize| {
            let t = t[i] / largest[i / (t.len() / largest.len())];
            let clipped = start[i] == 0.0 || start[i] == 1.0;
            if clipped { t } else { ((start[i] - x_nat[i]) / EPS).clamp(-1.0, 1.0) }
        };
        let draws = Tensor::from_iter((0..t.len()).map(draw), &Device::Cpu).unwrap();
        self.scripted(EPS, draws.to_dtype(DType::F32).unwrap().reshape(drawn.shape()).unwrap())
    }

    fn scripted(&self, eps: f64, uniform: Tensor) -> Problem {
        let ball = Ball::new(&self.x_nat(), Linf::new(eps).unwrap()).unwrap();
        let normal = (self.file.f32("noise/normal_i8") / 32.0).unwrap();
        let ids = (0..ball.n() as u64).collect();
        Problem::new(ball, &self.file.labels("y"), ids, Draws::Scripted { uniform, normal }).unwrap()
    }

    fn replay(&self, name: &str, eps: f64, ascent: &SignAscent, objective: Box<dyn Objective>, pixels: f64) {
        let p = self.problem(eps);
        let mut search = ascent.search(&p, Purpose::INNER_START, objective).unwrap();
        let x_adv = ascend(&self.f, search.as_mut(), p.ball(), p.ids()).unwrap();
        self.compare(name, &p, &x_adv, pixels);
    }

    fn compare(&self, name: &str, p: &Problem, x_adv: &Tensor, pixels: f64) {
        assert!(p.ball().contains(x_adv).unwrap(), "{name}");
        let recorded = self.file.f32(&format!("{name}/x_adv"));
        let share = share_within(&x_adv.narrow(0, 0, recorded.dim(0).unwrap()).unwrap(), &recorded, 1e-5);
        assert!(share >= pixels, "{name}: {share} of the pixels agree, expected {pixels}");

        let logits = self.f.logits(x_adv).unwrap();
        let mean = |v: Vec<f64>| v.iter().sum::<f64>() / v.len() as f64;
        let ce = mean(flat(&losses::cross_entropy(&logits, p.y()).unwrap()));
        let ce64 = mean(flat(&self.file.f64(&format!("{name}/ce64"))));
        assert!((ce - ce64).abs() < 1e-3, "{name}: mean cross-entropy {ce}, expected {ce64}");

        let robust = |logits: &Tensor| {
            let lead = flat(&losses::margin(logits, p.y()).unwrap());
            lead.iter().filter(|lead| **lead > 0.0).count()
        };
        let (ours, theirs) = (robust(&logits), robust(&self.file.f32(&format!("{name}/logits"))));
        assert!(ours.abs_diff(theirs) <= 1, "{name}: {ours} robust, expected {theirs}");
    }

    fn cross_entropy(&self) -> Box<dyn Objective> {
        Box::new(CrossEntropy::new(&self.file.labels("y")).unwrap())
    }
}

pub(crate) const EPS: f64 = 8.0 / 255.0;
const STEP: f64 = 2.0 / 255.0;

/// RSLAD's evaluation attack.
fn rslad_evaluation(steps: usize, step_size: f64) -> SignAscent {
    let (start, clip_start, order) = (Start::Uniform, ClipStart::Clip, Order::ClampProject);
    SignAscent { steps, step_size, start, clip_start, order }
}

/// The training attacks, and TRADES' evaluation: the start is kept as drawn.
fn training(steps: usize, step_size: f64, start: Start) -> SignAscent {
    let (clip_start, order) = (ClipStart::Keep, Order::ProjectClamp);
    SignAscent { steps, step_size, start, clip_start, order }
}

fn pgd_matches(r: &Record) {
    let natural = SignAscent { start: Start::Natural, ..rslad_evaluation(20, STEP) };
    for (name, eps, ascent) in [
        ("pgd10_s2", EPS, rslad_evaluation(10, STEP)),
        ("pgd20_s003", EPS, rslad_evaluation(20, 0.003)),
        ("pgd20_nostart_s2", EPS, natural),
        ("pgdtrades20_e031_s003", 0.031, training(20, 0.003, Start::Uniform)),
        ("ard10_s2", EPS, training(10, STEP, Start::Uniform)),
    ] {
        r.replay(name, eps, &ascent, r.cross_entropy(), r.pixels);
    }
}

fn registered_attacks_match(r: &Record) {
    let uniform = "start = 'uniform'\nclip_start = 'clip'";
    for (name, attack, keys) in [
        ("fgsm", "fgsm", String::new()),
        ("pgd20_s2", "pgd", format!("steps = 20\nstep_size = 'eps/4'\n{uniform}")),
        ("cw30_s003", "cw_inf", format!("steps = 30\nstep_size = 0.003\nconfidence = 50\n{uniform}")),
    ] {
        let attack = attacks::find(attack).unwrap().build(&keys.parse().unwrap()).unwrap();
        let p = r.problem(EPS);
        let out = perturb(&r.f, attack.as_ref(), &p).unwrap();
        let pixels = if name == "fgsm" { 0.999 } else { r.pixels };
        r.compare(name, &p, &out.x_adv, pixels);
    }
}

fn inner_maximizations_match(r: &Record) {
    let start = || Start::Gaussian { std: 0.001 };
    let teacher = KlTo::new(&r.file.f32("kl/teacher_logits")).unwrap();
    r.replay("rslad_inner10_s2", EPS, &training(10, STEP, start()), Box::new(teacher), r.pixels);
    let clean = KlTo::new(&r.f.logits(&r.x_nat()).unwrap()).unwrap();
    let ascent = training(10, 0.003, start());
    r.replay("trades_inner10_s003_e031", 0.031, &ascent, Box::new(clean), r.pixels_of_trades_inner);
}

/// Each step of PGD-20 from the recorded iterate before it, so that rounding has one step to act.
fn single_steps_match(r: &Record) {
    let (xs, grads) = (r.file.f32("traj_pgd20_s2/x"), r.file.f32("traj_pgd20_s2/grad"));
    let (steps, n) = (xs.dim(0).unwrap(), xs.dim(1).unwrap());
    let rows: Vec<u32> = (0..n as u32).collect();
    let p = r.problem(EPS).rows(&rows).unwrap();
    let objective = || Box::new(CrossEntropy::new(p.y()).unwrap());
    for step in 0..steps {
        let start = match step {
            0 => Start::Uniform,
            _ => Start::Given(xs.get(step - 1).unwrap()),
        };
        let one = SignAscent { start, ..rslad_evaluation(1, STEP) };
        let mut search = one.search(&p, Purpose::INNER_START, objective()).unwrap();
        let x = ascend(&r.f, search.as_mut(), p.ball(), p.ids()).unwrap();
        let share = share_within(&x, &xs.get(step).unwrap(), 1e-5);
        assert!(share >= 0.999, "step {step}: {share} of the pixels agree");
        if step > 0 {
            let gradient = r.f.gradient(&xs.get(step - 1).unwrap(), objective().as_ref()).unwrap();
            let mean = (gradient.dx / n as f64).unwrap(); // recorded: of the mean over these images
            let x = xs.get(step - 1).unwrap();
            compare_gradients(r, &format!("step {step}"), &x, &mean, &grads.get(step).unwrap());
        }
    }
}

fn clean_logits_and_gradients_match(r: &Record) {
    let logits = r.f.logits(&r.x_nat()).unwrap().to_dtype(DType::F64).unwrap();
    let error = relative_error(&logits, &r.file.f64("clean/logits64"));
    assert!(error < 1e-5, "logits are off by {error:e}");

    let gradient = r.f.gradient(&r.x_nat(), r.cross_entropy().as_ref()).unwrap();
    let expected = r.file.f32("fgsm/grad64_as_f32");
    let n = gradient.dx.dim(0).unwrap();
    let mean = (gradient.dx / n as f64).unwrap();
    let mean = mean.narrow(0, 0, expected.dim(0).unwrap()).unwrap();
    compare_gradients(r, "fgsm", &r.x_nat(), &mean, &expected);
}

/// Every image agrees closely, or all but a few do and a kink explains each of these: some ReLU input is
/// so near zero that the order of summation decides its side, and a step far below a pixel's resolution
/// takes our gradient to the recorded one.
fn compare_gradients(r: &Record, what: &str, x: &Tensor, got: &Tensor, expected: &Tensor) {
    let off = |i: &usize| relative_error(&got.get(*i).unwrap(), &expected.get(*i).unwrap()) >= 2e-5;
    let flipped: Vec<usize> = (0..expected.dim(0).unwrap()).filter(off).collect();
    assert!(flipped.len() <= 2, "{what}: the gradients of images {flipped:?} are off");
    for i in flipped {
        let error = r.error_across_a_kink(x, i, &expected.get(i).unwrap());
        assert!(error < 1e-4, "{what}: no kink explains the gradient of image {i}, off by {error:e}");
    }
}

impl Record {
    /// How far the gradient of image `i` is from `expected` at the best of 192 points within 1.6e-5 of it.
    fn error_across_a_kink(&self, x: &Tensor, i: usize, expected: &Tensor) -> f64 {
        let image = x.get(i).unwrap();
        let mut draws = Key::new(i as u64, Purpose::named("test points")).stream(0);
        let mut near = |reach: f32| {
            let shift: Vec<f32> = (0..image.elem_count()).map(|_| reach * draws.symmetric()).collect();
            (&image + Tensor::from_vec(shift, image.shape(), image.device()).unwrap()).unwrap()
        };
        let points: Vec<Tensor> = (0..192).map(|k| near([1e-6, 4e-6, 1.6e-5][k % 3])).collect();
        let labels = self.file.labels("y").narrow(0, i, 1).unwrap().repeat(points.len()).unwrap();
        let objective = CrossEntropy::new(&labels).unwrap();
        let dx = self.f.gradient(&Tensor::stack(&points, 0).unwrap(), &objective).unwrap().dx;
        let size = |t: &Tensor| flat(t).iter().map(|v| v * v).sum::<f64>().sqrt();
        let wanted = (expected / size(expected)).unwrap(); // recorded gradients are means over images
        let error = |k| {
            let dx = dx.get(k).unwrap();
            relative_error(&(&dx / size(&dx)).unwrap(), &wanted)
        };
        (0..points.len()).map(error).fold(f64::INFINITY, f64::min)
    }
}

#[test]
fn pgd_matches_the_official_codes_on_the_tiny_network() {
    pgd_matches(&tiny());
}

#[test]
fn pgd_matches_the_official_codes_on_the_resnet() {
    pgd_matches(&resnet());
}

#[test]
fn registered_attacks_match_the_official_codes_on_the_tiny_network() {
    registered_attacks_match(&tiny());
}

#[test]
fn registered_attacks_match_the_official_codes_on_the_resnet() {
    registered_attacks_match(&resnet());
}

#[test]
fn inner_maximizations_match_the_official_codes_on_the_tiny_network() {
    inner_maximizations_match(&tiny());
}

#[test]
fn inner_maximizations_match_the_official_codes_on_the_resnet() {
    inner_maximizations_match(&resnet());
}

#[test]
fn single_steps_match_the_recorded_trajectories() {
    single_steps_match(&tiny());
    single_steps_match(&resnet());
}

#[test]
fn clean_logits_and_input_gradients_match_double_precision() {
    clean_logits_and_gradients_match(&tiny());
    clean_logits_and_gradients_match(&resnet());
}
