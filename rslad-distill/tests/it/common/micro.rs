//! A run of a second: every part of a real one, on a few dozen digits.

use candle_core::Device;
use rslad_data::{Dataset, Split, split_validation};
use rslad_distill::observer::{Beginning, EpochEvent, EvalEvent, SavedEvent, StepEvent};
use rslad_distill::{Inputs, Observer, Outcome, Recipe, RunDir, train};
use rslad_models::{ArchSpec, Frozen, Network};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Three steps an epoch, the last of them smaller; four epochs, so that the rate drops twice; two
/// evaluations.
pub const MICRO: &str = r#"
about = "a run of a second"
seed = 7

[data]
set = "digits"
limit = 100
batch = 32
augment = { crop = 1, flip = "horizontal" }

[student]
arch = "tiny_cnn"
classes = 10
in_channels = 1
norm = "none"
width = 2

[teacher]
file = "a teacher made by the test"

[method]
name = "rslad"
alpha = 0.8333333333333334
kl_scale = 1.0

[inner]
eps = 0.15
step_size = "eps/2"
steps = 2
start = "gaussian"
start_std = 0.001
clip_start = "keep"
order = "project_clamp"
view = "frozen"

[optim]
lr = 0.1
momentum = 0.9
weight_decay = 2e-4

[schedule]
epochs = 4
warmup = 1.5
drops = [2, 3]
factor = 0.5

[select]
suite = "select"
eps = 0.15
on = "validation"
hold_out = 20
by = "robust"
every = 2
"#;

pub fn micro(changes: &[(&str, &str)]) -> Recipe {
    let changes: Vec<_> = changes.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Recipe::parse("micro", MICRO, &changes).unwrap()
}

/// The images that a recipe asks for, with a teacher where it asks for one.
pub fn inputs(recipe: &Recipe) -> Inputs {
    inputs_of(recipe, &rslad_data::open(&recipe.data.set, Split::Train).unwrap())
}

pub fn inputs_of(recipe: &Recipe, images: &Dataset) -> Inputs {
    let images = match recipe.data.limit {
        0 => images.clone(),
        n => images.limit(n).unwrap(),
    };
    let (train, selection) = split_validation(&images, recipe.select.hold_out, 0).unwrap();
    let teacher = recipe.teacher.as_ref().map(|_| teacher());
    Inputs { train, selection, teacher, second_teacher: None, soft_labels: None, device: Device::Cpu }
}

/// An untrained network: to a student, a teacher is any function of the images.
pub fn teacher() -> Frozen {
    let options = "classes = 10\nin_channels = 1\nnorm = '0.3/0.2'\nwidth = 3";
    Network::new(&ArchSpec::parse("tiny_cnn", options).unwrap(), 99).unwrap().freeze().unwrap()
}

pub fn train_in(path: &Path, recipe: &Recipe, inputs: &Inputs, observer: &mut dyn Observer) -> Outcome {
    let dir = RunDir::open(path, recipe).unwrap();
    train(recipe, inputs, &dir, observer, &AtomicBool::new(false)).unwrap()
}

/// Writes every event down.
#[derive(Debug, Default, PartialEq)]
pub struct Log {
    pub beginnings: Vec<Beginning>,
    pub steps: Vec<StepEvent>,
    pub epochs: Vec<EpochEvent>,
    pub evals: Vec<EvalEvent>,
    pub saved: Vec<SavedEvent>,
}

impl Observer for Log {
    fn begin(&mut self, e: &Beginning) {
        self.beginnings.push(e.clone());
    }
    fn step(&mut self, e: &StepEvent) {
        self.steps.push(e.clone());
    }
    fn epoch(&mut self, e: &EpochEvent) {
        self.epochs.push(e.clone());
    }
    fn eval(&mut self, e: &EvalEvent) {
        self.evals.push(e.clone());
    }
    fn saved(&mut self, e: &SavedEvent) {
        self.saved.push(e.clone());
    }
}
