//! The published tables: typed in by people, so checked by what must hold between their numbers.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use toml::{Table, Value};

/// A published row, in percent.
struct Row {
    name: String,
    role: String,
    values: BTreeMap<String, f64>,
}

impl Row {
    fn of(row: &Table) -> Self {
        let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
        let values = row["published"].as_table().unwrap().iter();
        Self {
            name: format!("{}/{}/{}", text("student"), text("method"), text("checkpoint")),
            role: text("role").into(),
            values: values.map(|(name, value)| (name.clone(), value.as_float().unwrap())).collect(),
        }
    }

    fn get(&self, column: &str) -> f64 {
        self.values[column]
    }
}

fn table(name: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tables").join(name);
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

fn rows(name: &str) -> Vec<Row> {
    table(name)["row"].as_array().unwrap().iter().map(|row| Row::of(row.as_table().unwrap())).collect()
}

fn students(name: &str) -> Vec<Row> {
    rows(name).into_iter().filter(|row| row.role != "teacher").collect()
}

const WHITE_BOX: [&str; 2] = ["cifar10.toml", "cifar100.toml"];

#[test]
fn every_row_of_the_paper_is_there_with_every_column_and_a_source() {
    let (mut white, mut black) = (0, 0);
    for (name, columns) in [("cifar10.toml", 6), ("cifar100.toml", 6), ("blackbox.toml", 3)] {
        let table = table(name);
        assert!(table["source"].as_str().unwrap().contains("of the paper"), "{name}");
        assert_eq!(table["column"].as_array().unwrap().len(), columns, "{name}");
        let students = students(name);
        let names: BTreeSet<&str> = students.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names.len(), students.len(), "{name}: a row twice");
        assert!(students.iter().all(|row| row.values.len() == columns), "{name}");
        *if columns == 6 { &mut white } else { &mut black } += students.len();
    }
    assert_eq!((white, black), (48, 10));
    for name in WHITE_BOX {
        let table = table(name);
        let teacher = table["row"].as_array().unwrap().iter().find(|row| row.get("role").is_some()).unwrap();
        assert!(teacher["source"].as_str().unwrap().starts_with("RobustBench"), "{name}");
    }
}

#[test]
fn attacks_are_ordered_as_their_strength_in_every_row() {
    let mut distinct = BTreeSet::new();
    let mut cw_not_below = vec![];
    for name in WHITE_BOX {
        for row in students(name).iter().filter(|row| !row.name.contains("/natural/")) {
            distinct.insert(format!("{name} {} {:?}", row.name.rsplit_once('/').unwrap().0, row.values));
            let descending = |columns: &[&str]| columns.windows(2).all(|w| row.get(w[0]) > row.get(w[1]));
            assert!(descending(&["clean", "fgsm", "pgd_trades", "pgd_sat"]), "{name} {}", row.name);
            assert!(descending(&["cw_inf", "aa"]), "{name} {}", row.name);
            if row.get("pgd_sat") <= row.get("cw_inf") {
                cw_not_below.push(format!("{name} {}", row.name));
            }
        }
    }
    assert_eq!(distinct.len(), 39, "one best checkpoint is also the last");
    assert_eq!(cw_not_below, ["cifar10.toml resnet18/sat/last", "cifar100.toml resnet18/sat/last"]);
}

#[test]
fn the_papers_method_leads_its_tables() {
    for name in [&WHITE_BOX[..], &["blackbox.toml"]].concat() {
        let rows = students(name);
        for rslad in rows.iter().filter(|row| row.name.ends_with("/rslad/best")) {
            let student = rslad.name.split('/').next().unwrap();
            let rivals =
                rows.iter().filter(|row| row.name.starts_with(student) && row.name.ends_with("/best"));
            for rival in rivals.filter(|row| row.name != rslad.name) {
                let last = if name == "blackbox.toml" { "square" } else { "aa" };
                assert!(rslad.get(last) > rival.get(last), "{name} {}", rival.name);
            }
        }
    }
}
