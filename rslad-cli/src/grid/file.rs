//! The GRID file: cells in the order in which they can be done.
//!
//! ```toml
//! schema = 1
//! name = "demo"
//! title = "Two students"
//!
//! [[cell]]
//! kind = "train"
//! name = "teacher"
//! recipe = "digits/resnet18-teacher"
//! seed = 0
//! set = { "schedule.epochs" = 2 }
//!
//! [[cell]]
//! kind = "train"
//! name = "student"
//! recipe = "digits/resnet18-rslad"
//! seed = 0
//! teacher = { cell = "teacher", checkpoint = "best" }
//!
//! [[cell]]
//! kind = "eval"
//! name = "student-best"
//! model = { cell = "student", checkpoint = "best" }
//! data = "digits"
//! split = "test"
//! n = 64
//! suite = ["quick"]
//! eps = ["0.15"]
//! seed = 0
//! row = { student = "resnet18", method = "rslad", checkpoint = "best" }
//! ```

use crate::exit::Ended;
use crate::result_file::Shard;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A GRID file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GridFile {
    schema: u32,
    /// What files and plans call it.
    pub(crate) name: String,
    /// The head of its report.
    pub(crate) title: String,
    /// What must stand over every number of it, such as that it is not comparable with a paper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stamp: Option<String>,
    /// Published values, a file beside this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<String>,
    /// The command that makes all of this again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remake: Option<String>,
    /// The cells; one may build on those above it.
    pub(crate) cell: Vec<Cell>,
}

/// One unit of work.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Cell {
    /// A training run.
    Train(Training),
    /// A model under a suite of attacks.
    Eval(Evaluating),
    /// Pictures of models: attacked images and slices of the loss.
    Look(Looking),
    /// The parts of an evaluation, put together.
    Merge(Merging),
}

/// A training run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Training {
    pub(crate) name: String,
    /// An embedded recipe, or a file beside the grid.
    pub(crate) recipe: String,
    /// Keys of the recipe, such as `"schedule.epochs" = 2`.
    #[serde(default)]
    pub(crate) set: BTreeMap<String, toml::Value>,
    pub(crate) seed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) teacher: Option<Model>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) second_teacher: Option<Model>,
}

/// A model under a suite of attacks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evaluating {
    pub(crate) name: String,
    pub(crate) model: Model,
    /// A surrogate: the points of attacks that need gradients are made on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<Model>,
    pub(crate) data: String,
    pub(crate) split: String,
    /// The first so many images; 0 for all.
    pub(crate) n: usize,
    /// Suites by name, or files beside the grid.
    pub(crate) suite: Vec<String>,
    /// The radii; with more than one it is the curve of robustness against radius.
    pub(crate) eps: Vec<String>,
    pub(crate) seed: u64,
    /// Only this block of the images, such as "2/5"; a cell that merges puts the blocks together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shard: Option<String>,
    /// Which row of the table it fills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) row: Option<Row>,
}

/// Pictures of models.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Looking {
    pub(crate) name: String,
    /// The models by the names that the pictures give them.
    pub(crate) models: BTreeMap<String, Model>,
    pub(crate) data: String,
    pub(crate) split: String,
    /// How many images: the first that all models classify correctly.
    pub(crate) n: usize,
    pub(crate) attack: String,
    pub(crate) eps: String,
    pub(crate) seed: u64,
}

/// The parts of an evaluation, put together.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Merging {
    pub(crate) name: String,
    /// The cells that evaluate the blocks, all of them.
    pub(crate) parts: Vec<String>,
    /// Which row of the table it fills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) row: Option<Row>,
}

/// Weights: what a cell has made, or a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Model {
    /// Of a training cell above.
    Cell { cell: String, checkpoint: Checkpoint },
    /// A weight file, beside the grid if its path is relative, or the name of a teacher that comes with
    /// rslad. `arch` says what it will be where the file is not there yet.
    File {
        file: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arch: Option<String>,
    },
}

/// Which weights of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Checkpoint {
    /// Best on the images that select.
    Best,
    /// After the last epoch.
    Last,
}

impl Checkpoint {
    /// As in tables and file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Last => "last",
        }
    }
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    #[serde(default)]
    pub(crate) role: Role,
    pub(crate) student: String,
    pub(crate) method: String,
    pub(crate) checkpoint: Checkpoint,
    /// What sets it apart from others of the method, such as `width 8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// Whose row it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// One that students learn from.
    Teacher,
    /// A student.
    #[default]
    Student,
}

impl Cell {
    /// What it is called in the grid.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Train(cell) => &cell.name,
            Self::Eval(cell) => &cell.name,
            Self::Look(cell) => &cell.name,
            Self::Merge(cell) => &cell.name,
        }
    }

    /// The weights that it builds on.
    pub(crate) fn models(&self) -> Vec<&Model> {
        match self {
            Self::Train(cell) => cell.teacher.iter().chain(&cell.second_teacher).collect(),
            Self::Eval(cell) => std::iter::once(&cell.model).chain(&cell.source).collect(),
            Self::Look(cell) => cell.models.values().collect(),
            Self::Merge(_) => vec![],
        }
    }

    /// The names of the cells that it builds on.
    pub(crate) fn builds_on(&self) -> Vec<&str> {
        let mut names: Vec<&str> = vec![];
        for model in self.models() {
            if let Model::Cell { cell, .. } = model {
                names.push(cell);
            }
        }
        if let Self::Merge(cell) = self {
            names.extend(cell.parts.iter().map(String::as_str));
        }
        names
    }
}

/// A GRID file and where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    pub(crate) file: GridFile,
    pub(crate) path: PathBuf,
}

impl Grid {
    /// Reads and checks a GRID file.
    ///
    /// # Errors
    /// Names the cell, the key, what is there and what was expected.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let failed = |message: String| Ended::Usage(format!("{}: {message}", path.display()));
        let text = std::fs::read_to_string(path)
            .map_err(|e| failed(format!("cannot be read ({e}), expected a grid in TOML")))?;
        let file: GridFile = toml::from_str(&text)
            .map_err(|e| failed(format!("{}; see `rslad grid --help`", e.to_string().trim_end())))?;
        match file.problem() {
            Some(problem) => Err(failed(problem).into()),
            None => Ok(Self { file, path: path.into() }),
        }
    }

    /// A file that the grid names, which lies beside it; other names stay as they are.
    pub(crate) fn beside(&self, name: &str) -> String {
        let there = self.path.parent().map(|folder| folder.join(name)).filter(|path| path.is_file());
        there.map_or(name.to_string(), |path| path.display().to_string())
    }
}

impl GridFile {
    /// A grid of these cells.
    pub(crate) fn new(name: &str, title: &str, cell: Vec<Cell>) -> Self {
        Self {
            schema: 1,
            name: name.into(),
            title: title.into(),
            stamp: None,
            table: None,
            remake: None,
            cell,
        }
    }

    fn problem(&self) -> Option<String> {
        if self.schema != 1 {
            return Some(format!("`schema` is {}, expected 1; it was written by another rslad", self.schema));
        }
        if self.cell.is_empty() {
            return Some("it has no cell, expected a `[[cell]]` for each unit of work".into());
        }
        let mut above: Vec<&Cell> = vec![];
        for (index, cell) in self.cell.iter().enumerate() {
            if let Some(problem) = cell.problem(&above) {
                return Some(format!("cell {index} (`{}`): {problem}", cell.name()));
            }
            above.push(cell);
        }
        None
    }
}

impl Cell {
    fn problem(&self, above: &[&Cell]) -> Option<String> {
        let name = self.name();
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.+".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Some(
                "`name` is part of a directory's, expected letters, digits, `_`, `-`, `.`, `+`".into(),
            );
        }
        if above.iter().any(|other| other.name() == name) {
            return Some("the name is taken, expected a name of its own".into());
        }
        for name in self.builds_on() {
            let merges = matches!(self, Self::Merge(_));
            match above.iter().find(|other| other.name() == name) {
                Some(Self::Train(_)) if !merges => {}
                Some(Self::Eval(part)) if merges && part.shard.is_some() => {}
                Some(_) if merges => return Some(format!("merges `{name}`, which evaluates no `shard`")),
                Some(_) => return Some(format!("builds on `{name}`, which trains nothing")),
                None => return Some(format!("builds on `{name}`, expected the name of a cell above it")),
            }
        }
        match self {
            Self::Eval(cell) if cell.eps.is_empty() => {
                Some("`eps` is empty, expected a radius such as \"8/255\"".into())
            }
            Self::Eval(Evaluating { shard: Some(shard), eps, .. }) => match shard.parse::<Shard>() {
                Err(expected) => Some(format!("`shard` is {shard:?}, {expected}")),
                Ok(_) if eps.len() > 1 => Some("`shard` is of one radius, expected one in `eps`".into()),
                Ok(_) => None,
            },
            Self::Merge(cell) if cell.parts.is_empty() => {
                Some("`parts` is empty, expected the names of cells with a `shard`".into())
            }
            Self::Look(cell) if cell.n == 0 => Some("`n` is 0, expected at least 1 image".into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "schema = 1\nname = 'a'\ntitle = 'b'\n";
    const TRAIN: &str = "[[cell]]\nkind = 'train'\nname = 't'\nrecipe = 'r'\nseed = 0\n";

    fn problem(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("grid.toml");
        std::fs::write(&path, text).unwrap();
        Grid::load(&path).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_grid_is_told_where() {
        let check = |rest: &str, expected: &str| {
            let message = problem(&format!("{HEAD}{rest}"));
            assert!(message.contains(expected), "{message}");
        };
        check("cell = []", "it has no cell");
        check(&format!("{TRAIN}{TRAIN}"), "cell 1 (`t`): the name is taken");
        check(&TRAIN.replace("'t'", "'../t'"), "expected letters, digits");
        check(&TRAIN.replace("seed", "sede"), "unknown field `sede`");
        check(&format!("{TRAIN}teacher = {{ cell = 'x', checkpoint = 'best' }}"), "the name of a cell above");
        check(&TRAIN.replace("'train'", "'tarin'"), "unknown variant `tarin`");
        let merge = "[[cell]]\nkind = 'merge'\nname = 'm'\n";
        check(&format!("{TRAIN}{merge}parts = []"), "`parts` is empty");
        check(&format!("{TRAIN}{merge}parts = ['t']"), "merges `t`, which evaluates no `shard`");
        check(&format!("{TRAIN}{merge}parts = ['x']"), "the name of a cell above");
        let eval = "[[cell]]\nkind = 'eval'\nname = 'e'\nmodel = { cell = 't', checkpoint = 'best' }\n\
                    data = 'digits'\nsplit = 'test'\nn = 0\nsuite = ['quick']\nseed = 0\n";
        check(&format!("{TRAIN}{eval}eps = ['0.1']\nshard = '6/5'"), "`shard` is \"6/5\", expected a part");
        check(&format!("{TRAIN}{eval}eps = ['0', '0.1']\nshard = '1/5'"), "of one radius");
        assert!(problem(&format!("{}{TRAIN}", HEAD.replace('1', "2"))).contains("`schema` is 2"));
    }
}
