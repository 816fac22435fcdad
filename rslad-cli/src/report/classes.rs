//! Robust accuracy by class, and which answers an attack ends in.

use super::gather::Examples;
use super::model::{ClassRow, ClassTable, Column};
use super::rows::Placed;
use crate::grid::file::{Checkpoint, Role};

/// One table a student (the best checkpoint, the first seed) on the last column that it has.
pub(crate) fn classes(evals: &[&Placed<'_>], columns: &[Column]) -> Vec<ClassTable> {
    let mut all: Vec<ClassTable> = vec![];
    let best_exists = evals.iter().any(|p| p.key.checkpoint == Checkpoint::Best);
    for p in evals.iter().filter(|p| p.key.role == Role::Student) {
        let wanted = !best_exists || p.key.checkpoint == Checkpoint::Best;
        let first = evals.iter().filter(|other| other.key == p.key).all(|other| other.seed >= p.seed);
        let told = all.iter().any(|table| table.label == p.label() && table.group == p.group());
        if let Some(examples) = p.eval.examples.as_ref().filter(|_| wanted && first && !told) {
            all.extend(table(p, examples, columns));
        }
    }
    all
}

fn table(p: &Placed<'_>, examples: &Examples, columns: &[Column]) -> Option<ClassTable> {
    let column = columns.iter().rev().find(|column| examples.columns.contains_key(&column.name))?;
    let judged = &examples.columns[&column.name];
    let n_classes = 1 + *examples.label.iter().chain(&examples.clean_prediction).max()? as usize;
    let names = class_names(&p.eval.result.data.name, n_classes);
    let mut rows: Vec<ClassRow> =
        names.iter().map(|class| ClassRow { class: class.clone(), n: 0, robust: 0 }).collect();
    for (&label, &robust) in examples.label.iter().zip(&judged.robust) {
        rows[label as usize].n += 1;
        rows[label as usize].robust += usize::from(robust);
    }
    let confusion = judged.prediction.as_ref().map(|answers| {
        let mut counts = vec![vec![0; n_classes]; n_classes];
        for (&label, &answer) in examples.label.iter().zip(answers) {
            if let Some(count) = counts[label as usize].get_mut(answer as usize) {
                *count += 1;
            }
        }
        counts
    });
    Some(ClassTable {
        label: p.label(),
        group: p.group(),
        column: column.heading.clone(),
        classes: rows,
        confusion,
    })
}

/// The names of the classes where the data set is known by name, else their numbers.
fn class_names(data: &str, n: usize) -> Vec<String> {
    const CIFAR10: [&str; 10] =
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    let embedded = ["digits", "fashion-mnist"].contains(&data);
    let known = embedded.then(|| rslad_data::open(data, rslad_data::Split::Test).ok()).flatten();
    let names: Vec<String> = match known {
        Some(data) => data.class_names().to_vec(),
        None if data == "cifar10" => CIFAR10.map(str::to_string).to_vec(),
        None => vec![],
    };
    (0..n).map(|i| names.get(i).cloned().unwrap_or_else(|| i.to_string())).collect()
}
