//! What cells will cost: seconds measured here, times how often.
//!
//! A training step is taken with the cell's own networks, method and attack, on a few images that are
//! not the data's, so it can be measured before data or teacher are there. What was measured is kept in
//! `speed.json` beside the cells, for the same processor and number of threads.

use super::file::{Cell, Model};
use super::plan::{Plan, Planned, Task, name_of_spec, open};
use crate::inputs;
use crate::result_file::Shard;
use crate::run_info::Host;
use crate::weight_files::hex;
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use rslad_attacks::{Draws, attacks};
use rslad_distill::Recipe;
use rslad_distill::method::{Progress, Who};
use rslad_distill::step::{Players, StepConfig, StepInput, step};
use rslad_models::{ArchSpec, Classifier, Frozen, Network, durable};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// Multiply-accumulates that one measurement may take, about a second of one core.
const BUDGET: f64 = 2e10;

/// Measures, and keeps what it measured.
pub(crate) struct Speeds {
    path: PathBuf,
    known: BTreeMap<String, f64>,
    here: String,
}

/// What a cell costs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    /// How the seconds come about.
    pub(crate) how: String,
    pub(crate) bytes: u64,
}

/// The images that a cell works on, known or as published.
struct Images {
    shape: [usize; 3],
    classes: usize,
    n: usize,
}

impl Speeds {
    pub(crate) fn open(plan: &Plan<'_>) -> Self {
        let path = plan.out.join("speed.json");
        let known = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let host = Host::here();
        let here = format!("{} {} {}", host.processor, host.threads, env!("CARGO_PKG_VERSION"));
        Self { path, known: known.unwrap_or_default(), here }
    }

    /// Keeps what was measured where the directory is there; it is a convenience.
    pub(crate) fn keep(&self) {
        let text = serde_json::to_string_pretty(&self.known).unwrap_or_default();
        if self.path.parent().is_some_and(|folder| folder.is_dir()) {
            let _ = durable::write(&self.path, text.as_bytes());
        }
    }

    /// What is left of a cell, at most.
    pub(crate) fn cost(&mut self, plan: &Plan<'_>, cell: &Planned<'_>) -> Result<Cost> {
        match (cell.cell, &cell.task) {
            (Cell::Train(training), Task::Train { recipe }) => {
                self.training(plan, recipe, [&training.teacher, &training.second_teacher])
            }
            (Cell::Eval(evaluating), Task::Eval { suite }) => {
                let Some(model) = arch(plan, &evaluating.model)? else { return Ok(Cost::default()) };
                let source = match &evaluating.source {
                    Some(source) => arch(plan, source)?,
                    None => None,
                };
                let mut images = images(&evaluating.data, &evaluating.split, evaluating.n);
                if let Some(shard) = evaluating.shard.as_ref().and_then(|shard| shard.parse::<Shard>().ok()) {
                    images.n = shard.rows(images.n).len();
                }
                let passes = Passes::of(&suite.text)?;
                let attacked = source.as_ref().unwrap_or(&model);
                self.evaluation([&model, attacked], &images, passes, evaluating.eps.len())
            }
            _ => Ok(Cost::default()),
        }
    }

    fn training(&mut self, plan: &Plan<'_>, recipe: &Recipe, models: [&Option<Model>; 2]) -> Result<Cost> {
        let images = images(&recipe.data.set, "train", recipe.data.limit);
        let mut teachers = [None, None];
        for (slot, model) in teachers.iter_mut().zip(models) {
            *slot = model.as_ref().map(|model| arch(plan, model)).transpose()?.flatten();
        }
        let n = images.n.saturating_sub(recipe.select.hold_out);
        let steps = recipe.schedule.epochs * n.div_ceil(recipe.data.batch) as u64;
        let key = self.key(&(
            &recipe.student,
            &teachers,
            &recipe.method,
            &recipe.inner,
            recipe.data.batch,
            images.shape,
        ));
        let seconds = match self.known.get(&key) {
            Some(seconds) => *seconds,
            None => step_seconds(recipe, &teachers, &images).context("measuring a step")?,
        };
        self.known.insert(key, seconds);
        let parameters = recipe.student.graph()?.n_parameters() as u64;
        Ok(Cost {
            seconds: seconds * steps as f64,
            how: format!("{steps} steps x {seconds:.3} s"),
            bytes: 4 * parameters * 6, // two states of weights and momentum, best and last
        })
    }

    /// Of passes forward through the model and gradients of the network that points are made on.
    fn evaluation(
        &mut self,
        [model, attacked]: [&ArchSpec; 2],
        images: &Images,
        passes: Passes,
        radii: usize,
    ) -> Result<Cost> {
        let forward = self.passes(model, images)?.0;
        let gradient = self.passes(attacked, images)?.1;
        let each = passes.forward * forward + passes.gradient * gradient;
        Ok(Cost {
            seconds: each * (images.n * radii) as f64,
            how: format!(
                "{} images x {:.0} passes at most",
                images.n * radii,
                passes.forward + passes.gradient
            ),
            bytes: (images.n * radii * 64) as u64,
        })
    }

    /// Seconds an image of a forward pass and of a gradient.
    fn passes(&mut self, arch: &ArchSpec, images: &Images) -> Result<(f64, f64)> {
        let key = self.key(&("evaluation", arch, images.shape));
        let (forward, gradient) =
            match (self.known.get(&format!("{key} f")), self.known.get(&format!("{key} g"))) {
                (Some(f), Some(g)) => (*f, *g),
                _ => pass_seconds(arch, images).context("measuring a pass")?,
            };
        self.known.insert(format!("{key} f"), forward);
        self.known.insert(format!("{key} g"), gradient);
        Ok((forward, gradient))
    }

    fn key(&self, what: &impl serde::Serialize) -> String {
        let text = serde_json::to_string(what).unwrap_or_default();
        hex(format!("{} {text}", self.here).as_bytes())[..16].to_string()
    }
}

/// The data, or what is known of them where they are not there.
fn images(spec: &str, split: &str, n: usize) -> Images {
    match open(spec, split, n) {
        Ok(data) => Images { shape: data.shape(), classes: data.n_classes(), n: data.len() },
        Err(_) => {
            let classes = if name_of_spec(spec) == "cifar100" { 100 } else { 10 };
            let all = if split == "train" { 50_000 } else { 10_000 };
            Images { shape: [3, 32, 32], classes, n: if n == 0 { all } else { n } }
        }
    }
}

/// The architecture of a model that may not be there yet.
fn arch(plan: &Plan<'_>, model: &Model) -> Result<Option<ArchSpec>> {
    match model {
        Model::Cell { cell, .. } => match &plan.named(cell).task {
            Task::Train { recipe } => Ok(Some(recipe.student.clone())),
            _ => Ok(None),
        },
        Model::File { file, arch } => match inputs::model(&PathBuf::from(plan.grid.beside(file))) {
            Ok((network, _)) => Ok(Some(network.arch().clone())),
            Err(_) => {
                Ok(arch.as_ref().map(|name| ArchSpec::published(name, &toml::Table::new())).transpose()?)
            }
        },
    }
}

fn step_seconds(recipe: &Recipe, teachers: &[Option<ArchSpec>; 2], images: &Images) -> Result<f64> {
    let [_, h, w] = images.shape;
    let method = recipe.method()?;
    let steps = recipe.inner.as_ref().map_or(0, |inner| inner.steps) as f64;
    let mut macs = recipe.student.graph()?.macs(h, w)? as f64 * (2.0 * steps + 6.0);
    for teacher in teachers.iter().flatten() {
        macs += teacher.graph()?.macs(h, w)? as f64;
    }
    let n = ((BUDGET / macs) as usize).clamp(2, recipe.data.batch);
    let student = Network::new(&recipe.student, 0)?;
    let frozen = |who: Who, arch: &Option<ArchSpec>| -> Result<Option<Frozen>> {
        let reads = method.plan().runs(who);
        let arch = arch.as_ref().filter(|_| reads).or(reads.then_some(&recipe.student));
        arch.map(|arch| Ok(Network::new(&fitting(arch, images), 1)?.freeze()?)).transpose()
    };
    let (first, second) = (frozen(Who::Teacher, &teachers[0])?, frozen(Who::SecondTeacher, &teachers[1])?);
    let mut players = Players::new(&student, first.as_ref(), second.as_ref())?;
    let (x, y) = pattern(images, n)?;
    let ids: Vec<u64> = (0..n as u64).collect();
    let input = StepInput {
        x: &x,
        y: &y,
        ids: &ids,
        soft_labels: None,
        draws: Draws::Keyed { seed: 0, epoch: 1 },
        progress: Progress { epoch: 1, epochs: recipe.schedule.epochs },
    };
    let config = StepConfig { inner: recipe.inner.as_ref(), awp: recipe.awp.as_ref(), micro_batch: None };
    let seconds = timed(|| Ok(step(method.as_ref(), &config, &mut players, &input).map(drop)?))?;
    Ok(seconds / n as f64 * recipe.data.batch as f64)
}

/// The architecture for these images: that of a file that is not there yet is known by name only.
fn fitting(arch: &ArchSpec, images: &Images) -> ArchSpec {
    let mut arch = arch.clone();
    arch.options.insert("in_channels".into(), (images.shape[0] as i64).into());
    arch.options.insert("classes".into(), (images.classes as i64).into());
    arch
}

/// Seconds an image of a forward pass, and of a gradient with respect to the image.
fn pass_seconds(arch: &ArchSpec, images: &Images) -> Result<(f64, f64)> {
    let [_, h, w] = images.shape;
    let n = ((BUDGET / 4.0 / arch.graph()?.macs(h, w)? as f64) as usize).clamp(2, 250);
    let f = Network::new(arch, 0)?.freeze()?;
    let (x, y) = pattern(images, n)?;
    let forward = timed(|| Ok(f.logits(&x).map(drop)?))?;
    let problem = rslad_attacks::Problem::new(
        rslad_attacks::Ball::new(&x, "8/255".parse()?)?,
        &y,
        (0..n as u64).collect(),
        Draws::Keyed { seed: 0, epoch: 0 },
    )?;
    let fgsm = attacks::find("fgsm")?.usually();
    let attack = timed(|| Ok(rslad_attacks::perturb(&f, fgsm.as_ref(), &problem).map(drop)?))?;
    Ok((forward / n as f64, (attack - forward).max(forward) / n as f64))
}

/// The second of two calls, or the first where it is long already.
fn timed(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut seconds = 0.0;
    for _ in 0..2 {
        let clock = Instant::now();
        work()?;
        seconds = clock.elapsed().as_secs_f64();
        if seconds > 0.5 {
            break;
        }
    }
    Ok(seconds)
}

/// Images in [0, 1] that are nobody's data, and labels of all classes.
fn pattern(images: &Images, n: usize) -> Result<(Tensor, Tensor)> {
    let [c, h, w] = images.shape;
    let values = (0..n * c * h * w).map(|i| ((i * 2_654_435_761) % 256) as f32 / 255.0);
    let x = Tensor::from_vec(values.collect(), (n, c, h, w), &Device::Cpu)?;
    let y: Vec<u32> = (0..n).map(|i| (i % images.classes) as u32).collect();
    Ok((x, Tensor::new(y, &Device::Cpu)?))
}

/// How often an image goes through the network, where it resists to the end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Passes {
    forward: f64,
    gradient: f64,
}

impl Passes {
    fn of(suite: &str) -> Result<Self> {
        let suite: toml::Table = suite.parse()?;
        let columns = suite.get("column").and_then(|c| c.as_array()).cloned().unwrap_or_default();
        let all = columns.iter().filter_map(|column| column.as_table()).map(Self::of_column);
        Ok(all.fold(Self { forward: 1.0, gradient: 0.0 }, Self::plus))
    }

    fn plus(self, other: Self) -> Self {
        Self { forward: self.forward + other.forward, gradient: self.gradient + other.gradient }
    }

    fn of_column(column: &toml::Table) -> Self {
        if let Some(stages) = column.get("stages").and_then(|stages| stages.as_array()) {
            let stages = stages.iter().filter_map(|stage| stage.as_table()).map(Self::of_column);
            return stages.fold(Self::default(), Self::plus);
        }
        let number = |key: &str| column.get(key).and_then(|v| v.as_integer()).map(|n| n as f64);
        let attack = column.get("attack").and_then(|a| a.as_str()).unwrap_or_default();
        let steps = number("steps").or(number("iterations")).unwrap_or(1.0);
        let times = number("restarts").unwrap_or(1.0) * number("targets").unwrap_or(1.0);
        match attack {
            "square" => Self { forward: number("queries").unwrap_or(5000.0), gradient: 0.0 },
            "auto_attack" => Self { forward: 900.0 + 5000.0, gradient: 100.0 + 900.0 + 900.0 },
            "fab" | "fab_t" => Self { forward: 1.0 + steps * times, gradient: steps * times },
            _ => Self { forward: 1.0, gradient: steps * times },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_counted_from_the_suite() {
        let suite = "[[column]]\nattack = 'fgsm'\n[[column]]\nattack = 'pgd'\nsteps = 20\n\
                     [[column]]\nattack = 'worst_case'\n[[column.stages]]\nattack = 'square'\nqueries = 500\n";
        assert_eq!(Passes::of(suite).unwrap(), Passes { forward: 503.0, gradient: 21.0 });
    }
}
