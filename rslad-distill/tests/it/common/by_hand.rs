//! A training step done plainly: the declared forwards one after the other, and finite differences in
//! double precision instead of a backward.

use candle_core::{DType, Device, Tensor};
use rslad_attacks::Draws;
use rslad_distill::Method;
use rslad_distill::inner::InnerConfig;
use rslad_distill::method::{Forwards, Plan, Point, Progress, Who};
use rslad_distill::step::{Players, StepConfig, StepInput, StepOutput, step};
use rslad_models::device::test_device;
use rslad_models::randomness::{Key, Purpose, Stream};
use rslad_models::{ArchSpec, Classifier, Frozen, Network};

/// A student, two teachers and a batch of six images of 8x8 in four classes.
pub struct Scene {
    pub student: Network,
    pub teacher: Frozen,
    pub second_teacher: Frozen,
    pub x: Tensor,
    pub y: Tensor,
    pub ids: Vec<u64>,
    pub progress: Progress,
}

impl Scene {
    pub fn new() -> Self {
        let mut draws = stream("images", 0);
        let pixels: Vec<f32> = (0..6 * 64).map(|_| draws.unit()).collect();
        let y: Vec<u32> = (0..6).map(|_| draws.below(4)).collect();
        Self {
            student: tiny(3, 1),
            teacher: tiny(4, 2).freeze().unwrap(),
            second_teacher: tiny(2, 3).freeze().unwrap(),
            x: Tensor::from_vec(pixels, (6, 1, 8, 8), &Device::Cpu).unwrap(),
            y: Tensor::from_vec(y, 6, &Device::Cpu).unwrap(),
            ids: (10..16).collect(),
            progress: Progress { epoch: 9, epochs: 20 },
        }
    }

    pub fn step(&self, method: &dyn Method, inner: &InnerConfig) -> rslad_distill::Result<StepOutput> {
        self.step_as(method, &StepConfig { inner: Some(inner), ..StepConfig::default() })
    }

    pub fn step_as(&self, method: &dyn Method, config: &StepConfig<'_>) -> rslad_distill::Result<StepOutput> {
        step(method, config, &mut self.players()?, &self.input())
    }

    pub fn step_of(
        &self,
        players: &mut Players<'_>,
        method: &dyn Method,
        inner: &InnerConfig,
    ) -> rslad_distill::Result<StepOutput> {
        step(method, &StepConfig { inner: Some(inner), ..StepConfig::default() }, players, &self.input())
    }

    pub fn players(&self) -> rslad_distill::Result<Players<'_>> {
        Players::new(&self.student, Some(&self.teacher), Some(&self.second_teacher))
    }

    pub fn input(&self) -> StepInput<'_> {
        StepInput {
            x: &self.x,
            y: &self.y,
            ids: &self.ids,
            soft_labels: None,
            draws: Draws::Keyed { seed: 5, epoch: 9 },
            progress: self.progress,
        }
    }

    /// Runs the declared forwards in order, each once: the logits by name.
    pub fn forwards(&self, plan: &Plan, student: &Network, x_adv: &Tensor) -> Vec<(&'static str, Tensor)> {
        let dtype = student.parameters().next().unwrap().1.dtype();
        let frozen = student.freeze().unwrap();
        let mut training = student.training();
        let mut all = Vec::new();
        for spec in plan.forwards() {
            let x = match spec.point {
                Point::Nat => self.x.clone(),
                Point::Adv => x_adv.clone(),
                Point::Along(t) => (&self.x + ((x_adv - &self.x).unwrap() * t).unwrap()).unwrap(),
            };
            let logits = match spec.who {
                Who::Student => training.forward(&x.to_dtype(dtype).unwrap()).unwrap().logits().clone(),
                Who::FrozenStudent => frozen.logits(&x.to_dtype(dtype).unwrap()).unwrap().detach(),
                Who::Teacher => self.teacher.logits(&x).unwrap().to_dtype(dtype).unwrap().detach(),
                Who::SecondTeacher => {
                    self.second_teacher.logits(&x).unwrap().to_dtype(dtype).unwrap().detach()
                }
            };
            all.push((spec.name, logits));
        }
        all
    }

    /// d loss / d t of the student's weights `w + t direction` at 0, by central differences in double
    /// precision, with the attack's points and everything but the student's train-mode forwards fixed.
    pub fn slope(&self, method: &dyn Method, x_adv: &Tensor, direction: &[Tensor]) -> f64 {
        let plan = method.plan();
        let here = self.student.in_double_precision().unwrap();
        let fixed = self.forwards(&plan, &here, x_adv);
        let loss = |t: f64| {
            let there = self.student.in_double_precision().unwrap();
            for ((_, w), d) in there.parameters().zip(direction) {
                let moved = w.as_detached_tensor() + (d.to_dtype(DType::F64).unwrap() * t).unwrap();
                w.set(&moved.unwrap()).unwrap();
            }
            let mut forwards = Forwards::new(&self.y, plan.labels, self.progress);
            let moved = self.forwards(&plan, &there, x_adv);
            for ((spec, moved), fixed) in plan.forwards().zip(moved).zip(&fixed) {
                let logits = if spec.who == Who::Student { moved.1 } else { fixed.1.clone() };
                forwards.push(spec.name, logits);
            }
            method.outer(&forwards).unwrap().value().unwrap()
        };
        let h = 1e-6;
        (loss(h) - loss(-h)) / (2.0 * h)
    }

    /// The gradient of a step is the slope of its loss along the gradient and along random directions.
    pub fn check_gradient(&self, name: &str, method: &dyn Method, out: &StepOutput) {
        let mut draws = stream("directions", 0);
        let mut random = || -> Vec<Tensor> {
            let like = |t: &Tensor| {
                let values: Vec<f32> = (0..t.elem_count()).map(|_| draws.normal()).collect();
                Tensor::from_vec(values, t.dims(), t.device()).unwrap()
            };
            out.gradients.iter().map(like).collect()
        };
        let norm = dot(&out.gradients, &out.gradients).sqrt();
        let along: Vec<Tensor> = out.gradients.iter().map(|g| (g / norm).unwrap()).collect();
        for direction in [along, random(), random()] {
            let (ours, truth) = (dot(&out.gradients, &direction), self.slope(method, &out.x_adv, &direction));
            assert!(
                (ours - truth).abs() < 1e-4 * (norm + truth.abs()),
                "{name}: slope {ours}, expected {truth}"
            );
        }
    }

    /// All `num_batches_tracked` of the student, which are equal.
    pub fn batches_tracked(&self) -> i64 {
        let state = self.student.params().state_dict().unwrap();
        let counters: Vec<i64> = state
            .iter()
            .filter(|(name, _)| name.ends_with("num_batches_tracked"))
            .map(|(_, t)| t.to_scalar().unwrap())
            .collect();
        assert!(counters.windows(2).all(|w| w[0] == w[1]), "{counters:?}");
        counters[0]
    }
}

pub fn inner(steps: usize, view: &str) -> InnerConfig {
    toml::from_str(&format!(
        "eps = 0.1\nstep_size = 'eps/3'\nsteps = {steps}\nstart = 'uniform'\nstart_std = 0.0\n\
         clip_start = 'clip'\norder = 'project_clamp'\nview = '{view}'"
    ))
    .unwrap()
}

pub fn tiny(width: usize, seed: u64) -> Network {
    let options = format!("classes = 4\nin_channels = 1\nnorm = '0.5/0.25'\nwidth = {width}");
    Network::new(&ArchSpec::parse("tiny_cnn", &options).unwrap(), seed)
        .unwrap()
        .to_device(&test_device())
        .unwrap()
}

pub fn stream(what: &str, id: u64) -> Stream {
    Key::new(0, Purpose::named("test").within(what)).stream(id)
}

/// The bits of a tensor.
pub fn bits(t: &Tensor) -> Vec<u32> {
    t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// All tensors of a network, by name, as bits (counters as numbers).
pub fn state_bits(network: &Network) -> Vec<(String, Vec<u64>)> {
    let bits = |t: &Tensor| match t.dtype() {
        DType::I64 => vec![t.to_scalar::<i64>().unwrap() as u64],
        _ => bits(t).into_iter().map(u64::from).collect(),
    };
    network.params().state_dict().unwrap().iter().map(|(name, t)| (name.clone(), bits(t))).collect()
}

fn dot(a: &[Tensor], b: &[Tensor]) -> f64 {
    let one = |(a, b): (&Tensor, &Tensor)| {
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        (wide(a) * wide(b)).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
    };
    a.iter().zip(b).map(one).sum()
}
