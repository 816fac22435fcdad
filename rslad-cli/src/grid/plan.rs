//! A grid with everything that its cells name opened, hashed and put in its place.

use super::done::{self, State};
use super::file::{Cell, Checkpoint, Evaluating, Grid, Looking, Model, Training};
use crate::exit;
use crate::inputs;
use crate::say;
use crate::suite::{self, Resolved};
use crate::weight_files::hex;
use anyhow::{Context, Result};
use rslad_attacks::suite::Use;
use rslad_data::fetch::{FETCHABLE, RemoteFile};
use rslad_data::{Dataset, Split};
use rslad_distill::Recipe;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Goes into every hash, and is raised when what a cell does changes.
const FORMAT: u32 = 1;

/// A grid, ready to be worked on in a directory.
pub(crate) struct Plan<'g> {
    pub(crate) grid: &'g Grid,
    pub(crate) out: PathBuf,
    pub(crate) cells: Vec<Planned<'g>>,
}

/// A cell with what it names.
pub(crate) struct Planned<'g> {
    pub(crate) index: usize,
    pub(crate) cell: &'g Cell,
    /// The cells that must be finished before.
    pub(crate) needs: Vec<usize>,
    pub(crate) task: Task,
    pub(crate) place: Result<Place, Missing>,
}

/// What there is to do.
pub(crate) enum Task {
    Train { recipe: Box<Recipe> },
    Eval { suite: Resolved },
    Look,
    Merge,
}

/// Where a cell's results are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) hash: String,
}

/// What keeps a cell from being done.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    pub(crate) what: String,
    /// The files that it is published as, with their sizes, hashes and addresses.
    pub(crate) published: Vec<String>,
    pub(crate) code: u8,
}

impl<'g> Plan<'g> {
    /// Opens and hashes what the cells name. What is missing is part of the plan, what is wrong an error.
    pub(crate) fn of(grid: &'g Grid, out: &Path) -> Result<Self> {
        let mut plan = Self { grid, out: out.into(), cells: vec![] };
        let mut hashes = Hashes::default();
        for (index, cell) in grid.file.cell.iter().enumerate() {
            let planned = plan
                .planned(index, cell, &mut hashes)
                .with_context(|| format!("{}: cell {index} (`{}`)", grid.path.display(), cell.name()))?;
            plan.cells.push(planned);
        }
        Ok(plan)
    }

    /// How far a cell is.
    pub(crate) fn state(&self, index: usize) -> State {
        match &self.cells[index].place {
            Ok(place) => done::state(&place.dir, &place.hash),
            Err(missing) => State::Missing(missing.what.clone()),
        }
    }

    /// What keeps cells from being done, each once.
    pub(crate) fn missing(&self) -> Vec<&Missing> {
        let mut all: Vec<&Missing> = vec![];
        for missing in self.cells.iter().filter_map(|cell| cell.place.as_ref().err()) {
            if missing.code != WAITS && all.iter().all(|other| other.what != missing.what) {
                all.push(missing);
            }
        }
        all
    }

    /// The weight file of a model.
    pub(crate) fn file_of(&self, model: &Model) -> Result<PathBuf, Missing> {
        match model {
            Model::Cell { cell, checkpoint } => {
                let place = self.named(cell).place.clone()?;
                Ok(place.dir.join(weights_file(*checkpoint)))
            }
            Model::File { file, .. } => Ok(self.grid.beside(file).into()),
        }
    }

    pub(crate) fn named(&self, name: &str) -> &Planned<'g> {
        self.cells.iter().find(|cell| cell.cell.name() == name).expect("checked: cells build on those above")
    }

    fn planned(&self, index: usize, cell: &'g Cell, hashes: &mut Hashes) -> Result<Planned<'g>> {
        let mut needs: Vec<usize> = cell.builds_on().iter().map(|name| self.named(name).index).collect();
        needs.dedup();
        let task = match cell {
            Cell::Train(cell) => Task::Train { recipe: Box::new(self.recipe(cell)?) },
            Cell::Eval(cell) => Task::Eval { suite: self.suite(cell)? },
            Cell::Look(_) => Task::Look,
            Cell::Merge(_) => Task::Merge,
        };
        let place = self.content(cell, &task, hashes).map(|content| {
            let hash = hex(content.join("\n").as_bytes());
            Place { dir: self.out.join(format!("{}-{}", cell.name(), &hash[..12])), hash }
        });
        Ok(Planned { index, cell, needs, task, place })
    }

    /// The recipe of a training cell. Its teachers are named from the run's own directory.
    fn recipe(&self, cell: &Training) -> Result<Recipe> {
        let mut changes: Vec<(String, String)> =
            cell.set.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
        changes.push(("seed".into(), cell.seed.to_string()));
        for (slot, model) in [("teacher", &cell.teacher), ("second_teacher", &cell.second_teacher)] {
            let Some(model) = model else { continue };
            changes.push((format!("{slot}.file"), toml::Value::String(self.name_of(model)).to_string()));
        }
        inputs::recipe(&self.grid.beside(&cell.recipe), &changes)
    }

    fn name_of(&self, model: &Model) -> String {
        match model {
            Model::File { file, .. } => file.clone(),
            Model::Cell { cell, checkpoint } => {
                let place = self.named(cell).place.as_ref();
                let dir =
                    place.ok().and_then(|place| place.dir.file_name()).map(|name| name.to_string_lossy());
                format!("../{}/{}", dir.as_deref().unwrap_or(cell), weights_file(*checkpoint))
            }
        }
    }

    /// The attacks of an evaluating cell.
    pub(crate) fn suite(&self, cell: &Evaluating) -> Result<Resolved> {
        let names: Vec<String> = cell.suite.iter().map(|name| self.grid.beside(name)).collect();
        suite::check_use(&names, if cell.source.is_some() { Use::Transfer } else { Use::Evaluation })?;
        suite::resolve(&names, &[])
    }

    /// Everything that the result of a cell depends on.
    fn content(&self, cell: &Cell, task: &Task, hashes: &mut Hashes) -> Result<Vec<String>, Missing> {
        let mut content = vec![format!("format {FORMAT}")];
        for model in cell.models() {
            content.push(self.model_hash(model, hashes)?);
        }
        match (cell, task) {
            (Cell::Train(training), Task::Train { recipe }) => {
                let own = [
                    (&training.teacher, &recipe.teacher),
                    (&training.second_teacher, &recipe.second_teacher),
                ];
                for (_, config) in own.iter().filter(|(model, _)| model.is_none()) {
                    if let Some(config) = config {
                        content.push(hashes.file(&config.file)?);
                    }
                }
                content.push(hashes.data(&recipe.data.set, "train", 0)?);
                for extra in recipe.data.extra.iter().flatten() {
                    content.push(hashes.data(&extra.set, "train", extra.limit)?);
                }
                let mut located = (**recipe).clone();
                located.data.set = name_of_spec(&recipe.data.set).into(); // where it lies does not matter
                content.push(located.to_toml());
            }
            (Cell::Eval(Evaluating { data, split, n, eps, seed, shard, .. }), Task::Eval { suite }) => {
                content.push(hashes.data(data, split, *n)?);
                content.push(format!("eval {split} {n} {} {seed}\n{}", eps.join(" "), suite.text));
                content.extend(shard.iter().map(|shard| format!("shard {shard}")));
            }
            (Cell::Merge(merging), _) => {
                for part in &merging.parts {
                    content.push(self.hash_of(part)?);
                }
            }
            (Cell::Look(Looking { data, split, n, eps, seed, attack, models, .. }), _) => {
                content.push(hashes.data(data, split, 0)?);
                let names: Vec<&str> = models.keys().map(String::as_str).collect();
                content.push(format!("look {split} {n} {eps} {seed} {attack} {}", names.join(" ")));
            }
            _ => unreachable!("a task is made from its cell"),
        }
        Ok(content)
    }

    fn model_hash(&self, model: &Model, hashes: &mut Hashes) -> Result<String, Missing> {
        match model {
            Model::Cell { cell, checkpoint } => Ok(format!("{} {}", self.hash_of(cell)?, checkpoint.name())),
            Model::File { file, .. } => hashes.file(&self.grid.beside(file)),
        }
    }
}

impl Plan<'_> {
    /// The hash of a cell that another builds on.
    fn hash_of(&self, cell: &str) -> Result<String, Missing> {
        match &self.named(cell).place {
            Ok(place) => Ok(place.hash.clone()),
            Err(_) => {
                let what = format!("waits for `{cell}`");
                Err(Missing { what, published: vec![], code: WAITS })
            }
        }
    }
}

/// The code of what waits for something else that is missing.
const WAITS: u8 = 75;

fn weights_file(checkpoint: Checkpoint) -> String {
    format!("{}.safetensors", checkpoint.name())
}

/// A data spec without where the data lie.
pub(crate) fn name_of_spec(spec: &str) -> &str {
    spec.split(':').next().unwrap_or(spec)
}

/// Opens data as cells name them.
pub(crate) fn open(spec: &str, split: &str, n: usize) -> Result<Dataset> {
    let data = rslad_data::open(spec, split.parse::<Split>()?)?;
    Ok(if n == 0 { data } else { data.limit(n)? })
}

/// Hashes that many cells ask for.
#[derive(Default)]
struct Hashes {
    data: HashMap<(String, String, usize), Result<String, Missing>>,
    files: HashMap<String, Result<String, Missing>>,
}

impl Hashes {
    fn data(&mut self, spec: &str, split: &str, n: usize) -> Result<String, Missing> {
        let key = (spec.to_string(), split.to_string(), n);
        self.data
            .entry(key)
            .or_insert_with(|| open(spec, split, n).map(|d| d.sha256()).map_err(|e| missing_data(e, spec)))
            .clone()
    }

    fn file(&mut self, file: &str) -> Result<String, Missing> {
        let hash = || inputs::model(Path::new(file)).map(|(_, sha256)| sha256).map_err(missing);
        self.files.entry(file.to_string()).or_insert_with(hash).clone()
    }
}

fn missing(error: anyhow::Error) -> Missing {
    Missing { what: exit::describe(&error), published: vec![], code: exit::code(&error) }
}

/// What keeps data from being opened, and what they are published as.
fn missing_data(error: anyhow::Error, spec: &str) -> Missing {
    let set = FETCHABLE.iter().find(|set| set.name == name_of_spec(spec));
    let offer = set.and_then(|set| (set.offers)().into_iter().next());
    let line = |RemoteFile { name, size, sha256, urls }: RemoteFile| {
        let size = size.map_or(String::new(), |size| format!(" ({} bytes)", say::count(size)));
        format!("{name}{size}, SHA-256 {sha256}, {}", urls.first().map_or("", String::as_str))
    };
    let published = offer.into_iter().flat_map(|offer| offer.files).map(line).collect();
    Missing { published, ..missing(error) }
}
