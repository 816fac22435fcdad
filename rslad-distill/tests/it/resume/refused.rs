//! What a run directory and a recipe are refused for, and that nothing is written then.

use super::{names, stopped};
use crate::common::micro::{inputs, micro};
use rslad_distill::{RunDir, train};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::atomic::AtomicBool;

const STATE: &str = "state-00002-000001.safetensors";

#[test]
fn a_damaged_directory_is_refused_and_not_touched() {
    type Damage = fn(&Path);
    fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
    fn damage_all(dir: &Path) {
        let states = names(dir).into_iter().filter(|name| name.starts_with("state-"));
        states.for_each(|name| edit(&dir.join(name), |b| b[2000] ^= 1));
    }
    let cases: [(&str, Damage, &[&str]); 6] = [
        ("all states damaged", damage_all, &[STATE, "is damaged", "no other state here is whole", "--out"]),
        (
            "all states and the pointer damaged",
            |dir| {
                damage_all(dir);
                edit(&dir.join("LATEST.json"), |b| b.truncate(9));
            },
            &["LATEST.json: is damaged", "no other state here is whole"],
        ),
        (
            "a newer format",
            |dir| edit_position(dir, "\\\"format\\\":2", "\\\"format\\\":3"),
            &[STATE, "use a newer rslad"],
        ),
        ("another pointer", |dir| point_at_weights(dir), &["model.safetensors", "is not a state"]),
        (
            "short metrics",
            |dir| edit(&dir.join("metrics.jsonl"), |b| b.truncate(b.len() - 1)),
            &["metrics.jsonl", "the saved state expects", "--out"],
        ),
        (
            "no metrics",
            |dir| std::fs::remove_file(dir.join("metrics.jsonl")).unwrap(),
            &["metrics.jsonl", "has 0 bytes"],
        ),
    ];
    for (what, damage, expected) in cases {
        let (whole, dir) = stopped();
        damage(dir.path());
        let before = snapshot(dir.path());
        let held = RunDir::open(dir.path(), &whole.recipe).unwrap();
        let error = train(&whole.recipe, &whole.inputs, &held, &mut (), &AtomicBool::new(false));
        let message = error.expect_err(what).to_string();
        assert!(expected.iter().all(|part| message.contains(part)), "{what}: {message}");
        assert!(snapshot(dir.path()) == before, "{what}: something was written");
    }
}

/// Changes the newest state and points to it with the right hash.
fn edit_position(dir: &Path, old: &str, new: &str) {
    let bytes = std::fs::read(dir.join(STATE)).unwrap();
    let at = bytes.windows(old.len()).position(|window| window == old.as_bytes()).expect("it holds this");
    let bytes = [&bytes[..at], new.as_bytes(), &bytes[at + old.len()..]].concat();
    std::fs::write(dir.join(STATE), &bytes).unwrap();
    point_at(dir, STATE, &bytes);
}

fn point_at(dir: &Path, file: &str, bytes: &[u8]) {
    let text = format!("{{\"file\":\"{file}\",\"sha256\":\"{}\"}}", sha256(bytes));
    std::fs::write(dir.join("LATEST.json"), text).unwrap();
}

/// A pointer, with the right hash, to a file that is not a state.
fn point_at_weights(dir: &Path) {
    let bytes = std::fs::read("tests/goldens/net_tiny.safetensors").unwrap();
    std::fs::write(dir.join("model.safetensors"), &bytes).unwrap();
    point_at(dir, "model.safetensors", &bytes);
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn snapshot(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let kept = names(dir).into_iter().filter(|name| name != ".lock");
    kept.map(|name| (name.clone(), std::fs::read(dir.join(&name)).unwrap())).collect()
}

#[test]
fn another_recipe_is_refused() {
    let (_, dir) = stopped();
    let other = micro(&[("schedule.epochs", "2"), ("optim.lr", "0.05")]);
    let before = snapshot(dir.path());
    let message = RunDir::open(dir.path(), &other).unwrap_err().to_string();
    let path = dir.path().display();
    assert_eq!(
        message,
        format!("{path}: holds a run of another recipe; choose another --out, or compare its recipe.toml")
    );
    assert!(snapshot(dir.path()) == before);
}

#[test]
fn a_directory_in_use_is_refused_and_free_again_afterwards() {
    let (dir, recipe) = (tempfile::tempdir().unwrap(), micro(&[]));
    let held = RunDir::open(dir.path(), &recipe).unwrap();
    let error = RunDir::open(dir.path(), &recipe).unwrap_err();
    assert!(matches!(error, rslad_distill::Error::InUse { .. }), "{error:?}");
    let (message, process) = (error.to_string(), format!("in use by process {}", std::process::id()));
    assert!(message.contains(&process), "{message}");
    drop(held);
    RunDir::open(dir.path(), &recipe).unwrap();
}

#[test]
fn data_teacher_and_student_must_fit() {
    let check = |changes: &[(&str, &str)], expected: &str| {
        let recipe = micro(changes);
        let dir = tempfile::tempdir().unwrap();
        let held = RunDir::open(dir.path(), &recipe).unwrap();
        let stop = AtomicBool::new(false);
        let message = train(&recipe, &inputs(&recipe), &held, &mut (), &stop).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}, expected {expected}");
        assert_eq!(names(dir.path()), [".lock", "recipe.toml"]);
    };
    check(&[("student.classes", "5")], "class counts differ: data 10, student 5, teacher 10");
    check(&[("student.in_channels", "3")], "`student.in_channels` is 3, but the images of `digits` have 1");
    check(&[("data.batch", "79")], "the last batch of 80 images in steps of 79 has one image");
}
