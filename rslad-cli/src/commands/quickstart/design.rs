//! The design of the first run, and the grid that it is.

use crate::args::QuickstartArgs;
use crate::grid::file::{Cell, Checkpoint, Evaluating, GridFile, Model, Role, Row, Training};
use crate::inputs::value_of;
use crate::say;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `assets/quickstart.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Design {
    pub(super) data: String,
    pub(super) n: usize,
    suite: String,
    /// The labels that the teachers learned from.
    teacher_labels: u64,
    pub(super) radius: Vec<Radius>,
    student: Vec<Student>,
}

/// A radius and the teacher that resists within it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Radius {
    pub(super) eps: String,
    teacher: String,
}

/// A way to learn.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Student {
    method: String,
    labels: u64,
    seeds: u64,
    /// On so many images AutoAttack attacks the one of the first seed; 0 for none.
    auto_attack_n: usize,
    set: BTreeMap<String, toml::Value>,
}

/// The recipe of a method.
fn recipe(method: &str) -> String {
    format!("fashion-mnist/resnet18-{method}")
}

impl Design {
    /// The one that the program carries, on fewer test images if the arguments say so.
    pub(super) fn embedded(args: &QuickstartArgs) -> Result<Self> {
        let text = include_str!("../../../assets/quickstart.toml");
        let mut design: Self = toml::from_str(text).context("assets/quickstart.toml")?;
        if let Some(n) = args.n {
            design.n = n as usize;
            design.student.iter_mut().for_each(|s| s.auto_attack_n = s.auto_attack_n.min(n as usize));
        }
        Ok(design)
    }

    /// How rows name the most labels that a student has.
    pub(super) fn most_labels(&self) -> String {
        labels(self.student.iter().map(|student| student.labels).max().unwrap_or(0))
    }

    /// All cells: every student with every seed at every radius, each attacked, and the teachers.
    pub(super) fn grid(&self, args: &QuickstartArgs) -> Result<GridFile> {
        let mut changes = BTreeMap::new();
        for (key, value) in &args.set {
            changes.insert(key.clone(), value_of(value));
        }
        let mut cells = vec![];
        for radius in &self.radius {
            for student in &self.student {
                for seed in (0..student.seeds).map(|i| args.seed.wrapping_add(i)) {
                    self.add_student(&mut cells, radius, student, seed, args.seed, &changes);
                }
            }
            let teacher = Model::File { file: radius.teacher.clone(), arch: None };
            let row = self.row(radius, "teacher", self.teacher_labels);
            cells.push(self.evaluation(
                &format!("teacher-{}", plain(&radius.eps)),
                teacher,
                radius,
                args.seed,
                row,
            ));
        }
        let mut grid =
            GridFile::new("quickstart", "Robust without a label: students of Fashion-MNIST", cells);
        grid.remake = Some(format!("rslad quickstart --seed {} --out {}", args.seed, args.out.display()));
        Ok(grid)
    }

    fn add_student(
        &self,
        cells: &mut Vec<Cell>,
        radius: &Radius,
        student: &Student,
        seed: u64,
        attack_seed: u64,
        changes: &BTreeMap<String, toml::Value>,
    ) {
        let natural = student.method == "natural";
        let eps = plain(&radius.eps);
        let stem = format!("{}-{}", student.method, plain(&labels(student.labels)));
        // A natural student does not know a radius: one is attacked at all of them.
        let name = if natural { format!("{stem}-{seed}") } else { format!("{stem}-{eps}-{seed}") };
        if !cells.iter().any(|cell| cell.name() == name) {
            let mut set = student.set.clone();
            let keys: &[&str] = if natural { &["select.eps"] } else { &["select.eps", "inner.eps"] };
            set.extend(keys.iter().map(|key| ((*key).to_string(), value_of(&radius.eps))));
            set.extend(changes.clone());
            cells.push(Cell::Train(Training {
                name: name.clone(),
                recipe: recipe(&student.method),
                set,
                seed,
                teacher: (student.method == "rslad")
                    .then(|| Model::File { file: radius.teacher.clone(), arch: None }),
                second_teacher: None,
            }));
        }
        let model = || Model::Cell { cell: name.clone(), checkpoint: Checkpoint::Last };
        let row = self.row(radius, &student.method, student.labels);
        let attacked = format!("{stem}-{eps}-{seed}-attacked");
        cells.push(self.evaluation(&attacked, model(), radius, attack_seed, row.clone()));
        if student.auto_attack_n > 0 && seed == attack_seed {
            let mut cell =
                self.evaluation(&format!("{stem}-{eps}-{seed}-autoattack"), model(), radius, seed, row);
            if let Cell::Eval(cell) = &mut cell {
                cell.suite = vec!["autoattack".into()];
                cell.n = student.auto_attack_n;
            }
            cells.push(cell);
        }
    }

    fn evaluation(&self, name: &str, model: Model, radius: &Radius, seed: u64, row: Row) -> Cell {
        Cell::Eval(Evaluating {
            name: name.into(),
            model,
            source: None,
            data: self.data.clone(),
            split: "test".into(),
            n: self.n,
            suite: vec![self.suite.clone()],
            eps: vec![radius.eps.clone()],
            seed,
            shard: None,
            row: Some(row),
        })
    }

    fn row(&self, radius: &Radius, method: &str, n: u64) -> Row {
        Row {
            role: Role::Student,
            student: group(&radius.eps),
            method: method.into(),
            checkpoint: Checkpoint::Last,
            variant: Some(labels(n)),
        }
    }
}

/// What the rows of a radius stand under.
pub(super) fn group(eps: &str) -> String {
    format!("within {eps}")
}

/// A number of labels as rows and cells write it.
fn labels(n: u64) -> String {
    match n {
        0 => "no label".into(),
        n => format!("{} labels", say::count(n)),
    }
}

/// As a part of a directory's name.
fn plain(text: &str) -> String {
    text.replace('/', "of").replace(' ', "-").replace(',', "")
}
