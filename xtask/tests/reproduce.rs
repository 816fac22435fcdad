//! `cargo xtask reproduce`, as its users meet it: one table at the smallest scale from nothing to its
//! report, and what is said where something is missing.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory that is gone when the test is over.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rslad-reproduce-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn reproduce(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("reproduce").args(words).arg("--out").arg(&self.0);
        let built = Path::new(env!("CARGO_BIN_EXE_xtask")).with_file_name("rslad");
        if built.exists() {
            command.env("RSLAD_BINARY", built); // a test of the workspace has built it, with its own features
        }
        command.env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR")).output().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn page(place: &Place, grid: &str) -> String {
    fs::read_to_string(place.0.join(grid).join("cells/report/report.html")).unwrap()
}

#[test]
fn a_smoke_table_goes_from_nothing_to_its_report_and_is_not_done_twice() {
    let place = Place::new("smoke");
    let words = ["cifar100", "--scale", "smoke", "--only", "resnet18/rslad"];
    let (code, text) = said(&place.reproduce(&words));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("SMOKE") && text.contains("0 finished"), "the plan comes first: {text}");
    let html = page(&place, "cifar100-smoke");
    for part in ["not comparable with the paper", "paper 26.70", "ResNet-18", "Teacher"] {
        assert!(html.contains(part), "{part}");
    }
    let results = fs::read_dir(place.0.join("cifar100-smoke/cells")).unwrap();
    let result = results
        .map(|e| e.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("resnet18-rslad-s0-best-white"));
    let per_class = fs::read_to_string(result.unwrap().join("result.json")).unwrap();
    assert!(per_class.contains("\"digits100\"") && per_class.contains("\"n\": 64"));

    let (code, text) = said(&place.reproduce(&words));
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains(", 0 finished") && text.contains("0 s of computing left"), "{text}");
}

#[test]
fn a_scale_whose_data_are_not_here_says_what_helps() {
    let place = Place::new("missing");
    let nowhere = place.0.join("nowhere").display().to_string();
    let words = ["cifar10", "--scale", "small", "--only", "resnet18/sat", "--data", &nowhere];
    let (code, text) = said(&place.reproduce(&words));
    assert_eq!(code, Some(3), "{text}");
    for part in ["missing:", "data fetch cifar10", "cargo xtask reproduce cifar10 --scale smoke"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!Path::new(&nowhere).exists());
    let (code, text) = said(&place.reproduce(&["cifar10", "--scale", "tiny"]));
    assert_eq!((code, text.contains("expected one of smoke, small, paper")), (Some(2), true), "{text}");
}

#[test]
fn typed_alone_it_shows_every_scale_and_says_how_to_get_further() {
    let place = Place::new("alone");
    let nowhere = place.0.join("nowhere").display().to_string();
    let (code, text) = said(&place.reproduce(&["cifar10", "--only", "resnet18/rslad", "--data", &nowhere]));
    assert_eq!(code, Some(3), "{text}");
    for part in
        ["cifar10-smoke: ", "cifar10-small: ", "cifar10-paper: ", "data fetch cifar10", "--scale smoke"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(text.lines().count() < 40, "the totals, not every cell: {text}");
}
