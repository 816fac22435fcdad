//! Twenty training steps of each method against the released codes, from the same weights, images and
//! random starts: losses, gradients, perturbations, running statistics and weights.

use crate::common::{goldens, relative_error, relative_l2, values};
use candle_core::{DType, Tensor};
use rslad_attacks::Draws;
use rslad_attacks::losses::cross_entropy;
use rslad_distill::inner::InnerConfig;
use rslad_distill::method::Progress;
use rslad_distill::methods;
use rslad_distill::optim::{Sgd, global_norm};
use rslad_distill::step::{Players, StepConfig, StepInput, step};
use rslad_models::device::test_device;
use rslad_models::{ArchSpec, Classifier, ClosureObjective, Network};
use std::collections::HashMap;

struct Run {
    name: &'static str,
    method: &'static str,
    start: &'static str,
    view: &'static str,
    /// Steps before which the learning rate drops to a tenth.
    drops: &'static [usize],
    /// BatchNorm updates in a step.
    updates: i64,
    tolerances: Tolerances,
}

/// Relative, as in the table of the reference outputs.
struct Tolerances {
    loss_1: f64,
    gradient_1: f64,
    after_1: f64,
    steps_2_3: f64,
    steps_4_20: f64,
    running_mean: f64,
}

const USUAL: Tolerances = Tolerances {
    loss_1: 1e-5,
    gradient_1: 1e-6,
    after_1: 1e-5,
    steps_2_3: 5e-3,
    steps_4_20: 1e-2,
    running_mean: 1e-2,
};
/// The one run whose running mean is told apart by rounding: from initial weights that differ in the
/// seventh digit it is between 3e-3 and 2.5e-2 off after 20 steps (6 draws), its losses stay close. The
/// double-precision test below shows that nothing else is different.
const SAT: Tolerances = Tolerances { running_mean: 4e-2, ..USUAL };
/// PyTorch's own f32 run stays within 2e-5 until a ReLU input near zero takes the other sign in step 16;
/// in ours one does in step 6, and the runs part as any two do. The double-precision test below shows
/// that nothing else is different.
const NATURAL: Tolerances = Tolerances { steps_2_3: 1e-6, ..USUAL };
const ARD_T30: Tolerances = Tolerances { loss_1: 2e-5, ..USUAL };
const TRADES: Tolerances = Tolerances {
    loss_1: 1e-3,
    gradient_1: 1e-2,
    after_1: 1e-2,
    steps_2_3: 5e-3,
    steps_4_20: 3e-2,
    running_mean: 3e-2,
};

const RSLAD: &str = "name = 'rslad'\nalpha = 0.8333333333333334\nkl_scale = 0.1";
const UNIFORM: &str = "start = 'uniform'\nstart_std = 0.0\nclip_start = 'clip'\norder = 'clamp_project'";
const UNCLIPPED: &str = "start = 'uniform'\nstart_std = 0.0\nclip_start = 'keep'\norder = 'project_clamp'";
const GAUSSIAN: &str = "start = 'gaussian'\nstart_std = 0.001\nclip_start = 'keep'\norder = 'project_clamp'";

const RUNS: &[Run] = &[
    Run {
        name: "natural",
        method: "name = 'natural'",
        start: UNIFORM,
        view: "frozen",
        drops: &[],
        updates: 1,
        tolerances: NATURAL,
    },
    Run {
        name: "sat_evalattack",
        method: "name = 'sat'",
        start: UNIFORM,
        view: "frozen",
        drops: &[],
        updates: 1,
        tolerances: SAT,
    },
    Run {
        name: "sat_trainattack",
        method: "name = 'sat'",
        start: UNIFORM,
        view: "batch_statistics",
        drops: &[],
        updates: 11,
        tolerances: USUAL,
    },
    Run {
        name: "trades_b6",
        method: "name = 'trades'\nbeta = 6.0",
        start: GAUSSIAN,
        view: "frozen",
        drops: &[],
        updates: 3,
        tolerances: TRADES,
    },
    Run {
        name: "ard_a1_T30",
        method: "name = 'ard'\nalpha = 1.0\ntau = 30.0\nkl_scale = 0.1",
        start: UNCLIPPED,
        view: "batch_statistics",
        drops: &[],
        updates: 12,
        tolerances: ARD_T30,
    },
    Run {
        name: "ard_a0.5_T5",
        method: "name = 'ard'\nalpha = 0.5\ntau = 5.0\nkl_scale = 0.1",
        start: UNCLIPPED,
        view: "batch_statistics",
        drops: &[],
        updates: 12,
        tolerances: USUAL,
    },
    Run {
        name: "ard_iadrepo_a1_T1",
        method: "name = 'ard'\nalpha = 1.0\ntau = 1.0\nkl_scale = 1.0",
        start: UNCLIPPED,
        view: "batch_statistics",
        drops: &[],
        updates: 12,
        tolerances: USUAL,
    },
    Run {
        name: "iad1",
        method: "name = 'iad'\nalpha = 1.0\nbeta = 0.1\ntau = 1.0\nkl_scale = 1.0\nbegin = 0\n\
                 weighting = 'released'\nforwards = 'released'",
        start: UNCLIPPED,
        view: "batch_statistics",
        drops: &[],
        updates: 14,
        tolerances: USUAL,
    },
    Run {
        name: "iad2",
        method: "name = 'iad2'\nalpha1 = 0.5\nalpha2 = 0.25\nbeta = 0.1\ntau = 1.0\nkl_scale = 1.0\nbegin = 0",
        start: UNCLIPPED,
        view: "batch_statistics",
        drops: &[],
        updates: 12,
        tolerances: USUAL,
    },
    Run {
        name: "rslad",
        method: RSLAD,
        start: GAUSSIAN,
        view: "frozen",
        drops: &[],
        updates: 2,
        tolerances: USUAL,
    },
    Run {
        name: "rslad_lrdrop",
        method: RSLAD,
        start: GAUSSIAN,
        view: "frozen",
        drops: &[11, 16],
        updates: 2,
        tolerances: USUAL,
    },
    Run {
        name: "rslad_cifar100variant",
        method: "name = 'rslad'\nalpha = 0.8333333333333334\nkl_scale = 1.0",
        start: GAUSSIAN,
        view: "frozen",
        drops: &[],
        updates: 2,
        tolerances: USUAL,
    },
];

#[test]
fn twenty_steps_are_those_of_the_released_codes() {
    let goldens = goldens("train.safetensors");
    for run in RUNS {
        Comparison::new(run, &goldens).follow();
    }
}

#[test]
fn natural_training_in_double_precision_is_that_of_the_released_code() {
    follow_in_double_precision(&RUNS[0], |_, _, x, _| x.clone());
}

/// With the attack in double precision too, written out: the balls of this workspace are f32.
#[test]
fn sat_in_double_precision_is_that_of_the_released_code() {
    follow_in_double_precision(&RUNS[1], |comparison, s, x_nat, y| {
        let (eps, step_size) = (8.0 / 255.0, 2.0 / 255.0);
        let f = comparison.student.freeze().unwrap();
        let y = y.clone();
        let ce = ClosureObjective(move |_: &[u32], logits: &Tensor| Ok(cross_entropy(logits, &y).unwrap()));
        let start = (comparison.uniform(s).to_dtype(DType::F64).unwrap() * eps).unwrap();
        let mut x = (x_nat + start).unwrap().clamp(0.0, 1.0).unwrap();
        for _ in 0..10 {
            let sign = f.gradient(&x, &ce).unwrap().dx.sign().unwrap();
            x = (x + (sign * step_size).unwrap()).unwrap().clamp(0.0, 1.0).unwrap();
            x = x.maximum(&(x_nat - eps).unwrap()).unwrap().minimum(&(x_nat + eps).unwrap()).unwrap();
        }
        x
    });
}

/// Twenty steps on the images that `attack` makes of a step's.
fn follow_in_double_precision(
    run: &Run,
    attack: impl Fn(&Comparison<'_>, usize, &Tensor, &Tensor) -> Tensor,
) {
    let goldens = goldens("train.safetensors");
    let comparison = Comparison::new(run, &goldens);
    let comparison = Comparison { student: comparison.student.in_double_precision().unwrap(), ..comparison };
    let method = methods::build(&"name = 'natural'".parse().unwrap()).unwrap();
    let mut players = Players::new(&comparison.student, None, None).unwrap();
    let mut sgd = Sgd::new(0.9, 2e-4);
    let ids: Vec<u64> = (0..32).collect();
    for s in 1..=20 {
        let x_nat = comparison.image(s).to_dtype(DType::F64).unwrap();
        let y = comparison.of_step("y", s).to_dtype(DType::U32).unwrap();
        let x = attack(&comparison, s, &x_nat, &y);
        let draws = Draws::Keyed { seed: 0, epoch: 1 }; // natural training draws nothing
        let progress = Progress { epoch: 1, epochs: 1 };
        let input = StepInput { x: &x, y: &y, ids: &ids, soft_labels: None, draws, progress };
        let out = step(method.as_ref(), &StepConfig::default(), &mut players, &input).unwrap();
        sgd.step(comparison.student.parameters(), &out.gradients, 0.1).unwrap();
        comparison.scalar("loss64", s, out.terms.value().unwrap(), 1e-11);
        comparison.scalar("gnorm64", s, global_norm(&out.gradients).unwrap(), 1e-11);
        comparison.scalar("rm64", s, comparison.norm_of("bn3.running_mean"), 1e-11);
    }
}

/// Networks and images are on the device that is tested. A GPU's f32 rounds otherwise than PyTorch's on the processor,
/// within the same tolerances.
fn on_device(network: rslad_models::Result<Network>) -> Network {
    network.unwrap().to_device(&test_device()).unwrap()
}

struct Comparison<'g> {
    run: &'g Run,
    goldens: &'g HashMap<String, Tensor>,
    student: Network,
    teacher: rslad_models::Frozen,
    natural_teacher: rslad_models::Frozen,
}

impl<'g> Comparison<'g> {
    fn new(run: &'g Run, goldens: &'g HashMap<String, Tensor>) -> Self {
        let tiny = |width: i64| {
            ArchSpec::published("tiny_cnn", &format!("width = {width}").parse().unwrap()).unwrap()
        };
        let initial =
            goldens.iter().filter_map(|(k, v)| Some((k.strip_prefix("init/")?.to_string(), v.clone())));
        let student = on_device(Network::with_state_dict(&tiny(8), &initial.collect()));
        let teacher = |file| {
            on_device(Network::with_state_dict(&tiny(16), &crate::common::goldens(file))).freeze().unwrap()
        };
        let (teacher, natural_teacher) =
            (teacher("net_tiny.safetensors"), teacher("net_tiny_std.safetensors"));
        Self { run, goldens, student, teacher, natural_teacher }
    }

    fn follow(&self) {
        let method = methods::build(&self.run.method.parse().unwrap()).unwrap();
        let inner: InnerConfig = toml::from_str(&format!(
            "eps = '8/255'\nstep_size = '2/255'\nsteps = 10\n{}\nview = '{}'",
            self.run.start, self.run.view
        ))
        .unwrap();
        let config = StepConfig { inner: Some(&inner), ..StepConfig::default() };
        let mut players =
            Players::new(&self.student, Some(&self.teacher), Some(&self.natural_teacher)).unwrap();
        let mut sgd = Sgd::new(0.9, 2e-4);
        let mut lr = 0.1;
        let ids: Vec<u64> = (0..32).collect();
        for s in 1..=20 {
            if self.run.drops.contains(&s) {
                lr *= 0.1;
            }
            let (x, y) = (self.image(s), self.of_step("y", s).to_dtype(DType::U32).unwrap());
            let draws = Draws::Scripted { uniform: self.uniform(s), normal: self.normal(s) };
            let progress = Progress { epoch: 1, epochs: 1 };
            let input = StepInput { x: &x, y: &y, ids: &ids, soft_labels: None, draws, progress };
            let out = step(method.as_ref(), &config, &mut players, &input).unwrap();
            sgd.step(self.student.parameters(), &out.gradients, lr).unwrap();
            self.compare(s, &x, &out);
        }
    }

    fn compare(&self, s: usize, x: &Tensor, out: &rslad_distill::step::StepOutput) {
        let t = &self.run.tolerances;
        let loss = match s {
            1 => t.loss_1,
            2..=3 => t.steps_2_3,
            _ => t.steps_4_20,
        };
        self.scalar("loss64", s, out.terms.value().unwrap(), loss);
        if s == 1 {
            self.scalar("gnorm64", s, global_norm(&out.gradients).unwrap(), t.gradient_1);
        }
        let weights: Vec<Tensor> = self.student.parameters().map(|(_, v)| v.as_detached_tensor()).collect();
        self.scalar("wnorm64", s, global_norm(&weights).unwrap(), 5e-3);
        let moved = values(&(&out.x_adv - x).unwrap());
        self.scalar(
            "pert64",
            s,
            moved.iter().map(|v| v.abs()).sum::<f64>() / moved.len() as f64,
            t.steps_4_20,
        );
        self.scalar("rm64", s, self.norm_of("bn3.running_mean"), t.running_mean);
        if s == 1 {
            self.compare_first_step(out);
        }
    }

    fn compare_first_step(&self, out: &rslad_distill::step::StepOutput) {
        let name = self.run.name;
        for ((parameter, _), gradient) in self.student.parameters().zip(&out.gradients) {
            if let Some(truth) = self.goldens.get(&format!("{name}/step1_grad/{parameter}")) {
                let error = relative_l2(&values(gradient), &values(truth));
                assert!(
                    error < 10.0 * self.run.tolerances.gradient_1,
                    "{name}: gradient of {parameter} off by {error:e}"
                );
            }
        }
        if let Some(truth) = self.goldens.get(&format!("{name}/step1_x_adv")) {
            let off =
                values(&out.x_adv).iter().zip(values(truth)).filter(|(a, b)| (*a - b).abs() > 1e-5).count();
            let share = off as f64 / truth.elem_count() as f64;
            // TRADES starts where its objective is flat: the first signs are rounding noise. Another order of sums gives
            // other ones: 0.098 to 0.105 were seen of four orders, the reference executor's 0.099 among them.
            assert!(
                share < if name == "trades_b6" { 0.12 } else { 0.01 },
                "{name}: {share} of the pixels of x_adv differ"
            );
        }
        let (mut all_ours, mut all_truth) = (vec![], vec![]);
        for (entry, ours) in self.student.params().state_dict().unwrap() {
            let Some(truth) = self.goldens.get(&format!("{name}/after1/{entry}")) else { continue };
            if entry.ends_with("num_batches_tracked") {
                assert_eq!(ours.to_scalar::<i64>().unwrap(), self.run.updates, "{name} {entry}");
                assert_eq!(truth.to_scalar::<i64>().unwrap(), self.run.updates, "{name} {entry}");
                continue;
            }
            let (ours, truth) = (values(&ours), values(truth));
            let error = relative_l2(&ours, &truth);
            assert!(
                error < 10.0 * self.run.tolerances.gradient_1,
                "{name}: {entry} after one step off by {error:e}"
            );
            all_ours.extend(ours);
            all_truth.extend(truth);
        }
        if !all_truth.is_empty() {
            let error = relative_l2(&all_ours, &all_truth);
            assert!(error < self.run.tolerances.after_1, "{name}: state after one step off by {error:e}");
        }
    }

    fn scalar(&self, item: &str, s: usize, ours: f64, tolerance: f64) {
        let truth = values(&self.goldens[&format!("{}/{item}", self.run.name)])[s - 1];
        let error = relative_error(&[ours], &[truth]);
        assert!(
            error < tolerance,
            "{} step {s} {item}: {ours}, expected {truth}, off by {error:e}",
            self.run.name
        );
    }

    fn norm_of(&self, entry: &str) -> f64 {
        let state = self.student.params().state_dict().unwrap();
        let found = state.iter().find(|(name, _)| name == entry).unwrap();
        values(&found.1).iter().map(|v| v * v).sum::<f64>().sqrt()
    }

    fn of_step(&self, name: &str, s: usize) -> Tensor {
        self.goldens[name].get(s - 1).unwrap().to_device(&test_device()).unwrap()
    }

    fn image(&self, s: usize) -> Tensor {
        let levels = self.of_step("x_u8", s).to_dtype(DType::F32).unwrap();
        levels.broadcast_div(&Tensor::new(255f32, levels.device()).unwrap()).unwrap()
    }

    /// Recorded as k in 0..256: (2k + 1 - 256) / 256.
    fn uniform(&self, s: usize) -> Tensor {
        let k = self.of_step("noise_uniform_u8", s).to_dtype(DType::F32).unwrap();
        k.affine(2.0 / 256.0, -255.0 / 256.0).unwrap()
    }

    /// Recorded as 32 z.
    fn normal(&self, s: usize) -> Tensor {
        let bytes = self.of_step("noise_normal_i8", s);
        bytes.to_dtype(DType::F32).unwrap().affine(1.0 / 32.0, 0.0).unwrap()
    }
}
