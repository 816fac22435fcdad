//! Which row of a table an evaluation fills, and the rows with measured beside published.

use super::gather::{EvalDir, Found, RunDir};
use super::labels;
use super::model::{Cell, Column, Group, Mark, Measured, Published, Row, Seed};
use super::published::Table;
use crate::grid::file::{Checkpoint, Role, Row as RowKey};
use rslad_attacks::result::Accuracy;
use std::collections::BTreeMap;

/// An evaluation and whose it is.
pub(crate) struct Placed<'f> {
    pub(crate) key: RowKey,
    /// The seed of the training, 0 where it is not known.
    pub(crate) seed: u64,
    pub(crate) eval: &'f EvalDir,
    pub(crate) run: Option<&'f RunDir>,
}

impl Placed<'_> {
    /// The name of the row within its group.
    pub(crate) fn label(&self) -> String {
        label(&self.key)
    }

    /// The name of the group.
    pub(crate) fn group(&self) -> String {
        group(&self.key)
    }
}

/// The name of a row within its group.
pub(crate) fn label(key: &RowKey) -> String {
    let method = labels::method(&key.method);
    match &key.variant {
        Some(variant) if key.method == "label_slots" => variant.clone(), // the slots say what it is
        Some(variant) => format!("{method}, {variant}"),
        None => method,
    }
}

/// The name of the group of a row.
pub(crate) fn group(key: &RowKey) -> String {
    match key.role {
        Role::Student => labels::arch(&key.student),
        Role::Teacher => format!("Teacher {}", labels::arch(&key.student)),
    }
}

/// Every evaluation with whose it is: as its grid says, else by the run that its weights come from, else
/// by the name of its file.
pub(crate) fn place(found: &Found) -> Vec<Placed<'_>> {
    let mut all: Vec<Placed<'_>> = found.evals.iter().map(|eval| placed(eval, found)).collect();
    all.sort_by_key(|p| rank(&p.key));
    all
}

/// What the weights of a run are called; none where no run has them.
pub(crate) fn of_weights(sha256: &str, found: &Found) -> Option<String> {
    let (run, checkpoint) = origin(sha256, &found.runs)?;
    let method = |run: &RunDir| labels::method(&text(run, "method", "name"));
    let alike = found.runs.iter().filter(|other| method(other) == method(run)).count();
    let name = if alike > 1 { run.name.clone() } else { method(run) };
    Some(format!("{name}, {checkpoint}"))
}

/// The run and the checkpoint that weights come from.
fn origin<'f>(sha256: &str, runs: &'f [RunDir]) -> Option<(&'f RunDir, &'f str)> {
    runs.iter().find_map(|run| {
        let own = run.weights.iter().find(|(_, hash)| *hash == sha256);
        own.map(|(checkpoint, _)| (run, checkpoint.as_str()))
    })
}

fn placed<'f>(eval: &'f EvalDir, found: &'f Found) -> Placed<'f> {
    let origin = origin(&eval.result.model.sha256, &found.runs);
    let run = origin.map(|(run, _)| run);
    let seed = run.and_then(|run| run.recipe.get("seed")?.as_integer()).unwrap_or(0) as u64;
    let key = eval.row.clone().unwrap_or_else(|| match origin {
        Some((run, checkpoint)) => of_run(run, checkpoint, found),
        None => of_file(eval),
    });
    Placed { key, seed, eval, run }
}

/// Runs that differ in more than their seed, such as in their width, have rows of their own, named after them.
fn of_run(run: &RunDir, checkpoint: &str, found: &Found) -> RowKey {
    let kind =
        |run: &RunDir| (found.is_teacher(run), text(run, "student", "arch"), text(run, "method", "name"));
    let design = |run: &RunDir| {
        let mut recipe = run.recipe.clone();
        recipe.retain(|key, _| !["seed", "about"].contains(&key));
        recipe
    };
    let (is_teacher, student, method) = kind(run);
    let others = found.runs.iter().filter(|other| kind(other) == kind(run));
    let variant = others.into_iter().any(|other| design(other) != design(run)).then(|| run.name.clone());
    RowKey {
        role: if is_teacher { Role::Teacher } else { Role::Student },
        student,
        method,
        checkpoint: if checkpoint == "best" { Checkpoint::Best } else { Checkpoint::Last },
        variant,
    }
}

/// A value of a recipe as text.
pub(crate) fn text(run: &RunDir, section: &str, key: &str) -> String {
    let value = run.recipe.get(section).and_then(|section| section.get(key));
    match value {
        Some(toml::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "unknown".into(),
    }
}

/// A model of which nothing but its file is known.
fn of_file(eval: &EvalDir) -> RowKey {
    let arch = eval.result.model.arch.get("arch").and_then(|arch| arch.as_str()).unwrap_or("unknown");
    let checkpoint =
        if eval.result.model.path.contains("best") { Checkpoint::Best } else { Checkpoint::Last };
    let is_name = !eval.result.model.path.contains(['/', '.']); // of a teacher that comes with rslad
    RowKey {
        role: if is_name { Role::Teacher } else { Role::Student },
        student: arch.into(),
        method: eval.result.model.path.clone(),
        checkpoint,
        variant: None,
    }
}

/// The evaluations of the table: in each group those at the radius and on the data that most share.
pub(crate) fn of_table<'p, 'f>(placed: &'p [Placed<'f>]) -> Vec<&'p Placed<'f>> {
    let what = |p: &Placed<'_>| {
        let data = &p.eval.result.data;
        (p.eval.result.eps.to_string(), data.name.clone(), data.split.clone())
    };
    let candidates: Vec<&Placed<'_>> = placed.iter().filter(|p| !p.eval.of_curve).collect();
    let mut counts: BTreeMap<(String, _), usize> = BTreeMap::new();
    candidates.iter().for_each(|p| *counts.entry((p.group(), what(p))).or_default() += 1);
    let usual = |group: &str| {
        counts.iter().filter(|((of, _), _)| of == group).max_by_key(|(_, n)| **n).map(|((_, what), _)| what)
    };
    candidates.into_iter().filter(|p| usual(&p.group()) == Some(&what(p))).collect()
}

/// The columns: the table's, then what else was measured.
pub(crate) fn columns(evals: &[&Placed<'_>], table: Option<&Table>) -> Vec<Column> {
    let published = table.iter().flat_map(|table| &table.column);
    let mut all: Vec<Column> = published
        .map(|column| Column { name: column.name.clone(), heading: column.heading.clone() })
        .collect();
    let measured = evals.iter().flat_map(|p| p.eval.result.columns.iter().map(|column| column.name.as_str()));
    let clean = table.is_none().then_some("clean");
    for name in clean.into_iter().chain(measured) {
        if all.iter().all(|column| column.name != name) {
            all.push(Column { name: name.into(), heading: labels::column(name) });
        }
    }
    all
}

/// All rows, the table's and what else was measured, by architecture.
pub(crate) fn groups(
    evals: &[&Placed<'_>],
    columns: &[Column],
    table: Option<&Table>,
    stamped: Stamped,
) -> Vec<Group> {
    let published = table.map_or(&[][..], |table| &table.row);
    let mut keys: Vec<RowKey> = published.iter().map(|row| row.key()).collect();
    let mut measured: Vec<RowKey> = evals.iter().map(|p| p.key.clone()).collect();
    measured.sort_by_key(rank);
    for key in measured {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut groups: Vec<Group> = vec![];
    for key in keys {
        let cells = columns.iter().map(|column| {
            let published = published.iter().find(|row| row.key() == key).and_then(|row| {
                let accuracy = row.published.get(&column.name)? / 100.0;
                Some(Published { accuracy, source: table?.source(row).to_string() })
            });
            cell(measure(evals, &key, &column.name), published, stamped)
        });
        let cells = cells.collect();
        let on_test = evals.iter().any(|p| p.key == key && chosen_on_test(p));
        let checkpoint = match (key.checkpoint, on_test) {
            (Checkpoint::Best, true) => "best on test".to_string(),
            (checkpoint, _) => checkpoint.name().to_string(),
        };
        let size = evals.iter().filter(|p| p.key == key).find_map(|p| p.eval.result.cost.clone());
        let row = Row { label: label(&key), checkpoint, size, cells, key: key.clone() };
        match groups.iter_mut().find(|other| other.heading == group(&key)) {
            Some(group) => group.rows.push(row),
            None => groups.push(Group { heading: group(&key), rows: vec![row] }),
        }
    }
    groups.sort_by_key(|group| group.rows[0].key.role); // teachers before their students
    groups
}

/// Whether the numbers may be set against published ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamped {
    Yes,
    No,
}

/// The order of rows: as papers list them.
fn rank(key: &RowKey) -> (Role, String, usize, Option<String>, Checkpoint) {
    (key.role, key.student.clone(), order(&key.method), key.variant.clone(), key.checkpoint)
}

/// The order in which papers list methods.
pub(crate) fn order(method: &str) -> usize {
    let known = ["natural", "sat", "trades", "mart", "ard", "iad", "rslad"];
    known.iter().position(|known| method.starts_with(known)).unwrap_or(known.len())
}

fn chosen_on_test(placed: &Placed<'_>) -> bool {
    placed.run.is_some_and(|run| text(run, "select", "on") == "test")
}

/// Correct and n of a column of an evaluation; clean is one.
pub(crate) fn counts(eval: &EvalDir, column: &str) -> Option<Accuracy> {
    if column == "clean" {
        return Some(Accuracy { correct: eval.result.clean.correct, n: eval.result.clean.n });
    }
    let column = eval.result.columns.iter().find(|c| c.name == column)?;
    Some(Accuracy { correct: column.robust, n: column.n })
}

fn measure(evals: &[&Placed<'_>], key: &RowKey, column: &str) -> Option<Measured> {
    let mut seeds: BTreeMap<u64, Accuracy> = BTreeMap::new();
    for placed in evals.iter().filter(|p| p.key == *key) {
        let Some(found) = counts(placed.eval, column) else { continue };
        let kept = seeds.entry(placed.seed).or_insert(found);
        if found.n > kept.n {
            *kept = found; // on more images
        }
    }
    let n = seeds.values().map(|accuracy| accuracy.n).min()?;
    let accuracy = seeds.values().map(|accuracy| accuracy.share()).sum::<f64>() / seeds.len() as f64;
    let ci95 = Accuracy { correct: (accuracy * n as f64).round() as usize, n }.ci95();
    let seeds = seeds.into_iter();
    let seeds = seeds.map(|(seed, a)| Seed { seed, correct: a.correct, accuracy: a.share() }).collect();
    Some(Measured { accuracy, ci95, n, seeds })
}

fn cell(measured: Option<Measured>, published: Option<Published>, stamped: Stamped) -> Cell {
    let mark = match (&measured, &published) {
        (None, _) => Mark::NotRun,
        (_, None) => Mark::Unpublished,
        _ if stamped == Stamped::Yes => Mark::NotComparable,
        (Some(m), Some(p)) if m.ci95.0 > p.accuracy => Mark::Better,
        (Some(m), Some(p)) if m.ci95.1 < p.accuracy => Mark::Worse,
        _ => Mark::Inside,
    };
    let difference = match (&measured, &published) {
        (Some(m), Some(p)) if stamped == Stamped::No => Some(m.accuracy - p.accuracy),
        _ => None,
    };
    Cell { measured, published, difference, mark }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_value_is_inside_above_or_below_the_interval() {
        let measured = |correct| {
            let accuracy = Accuracy { correct, n: 1000 };
            Some(Measured { accuracy: accuracy.share(), ci95: accuracy.ci95(), n: 1000, seeds: vec![] })
        };
        let published = || Some(Published { accuracy: 0.5149, source: "Table 3".into() });
        let check = |correct, stamped, expected| {
            assert_eq!(cell(measured(correct), published(), stamped).mark, expected)
        };
        check(515, Stamped::No, Mark::Inside);
        check(400, Stamped::No, Mark::Worse);
        check(600, Stamped::No, Mark::Better);
        check(515, Stamped::Yes, Mark::NotComparable);
        assert_eq!(cell(None, published(), Stamped::No).mark, Mark::NotRun);
        assert_eq!(cell(measured(5), None, Stamped::No).mark, Mark::Unpublished);
        assert_eq!(cell(measured(515), published(), Stamped::Yes).difference, None);
    }
}
