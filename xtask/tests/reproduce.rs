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
    let published = ["170,052,171 bytes", "SHA-256 c4a38c50", "https://cave.cs.toronto.edu/kriz/cifar-10"];
    for part in published {
        assert!(text.contains(part), "{part} is not in {text}");
    }
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

/// `cargo xtask reproduce` with a program in place of rslad that says what it was asked, and ends plans with
/// a code: for states that take data and teachers to be in.
#[cfg(unix)]
fn with_plans_that_end(code: u8, words: &[&str]) -> (Option<i32>, String, Vec<String>) {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new(&format!("state-{code}-{}", words.concat()));
    let (program, asked) = (place.0.join("rslad"), place.0.join("asked"));
    let script = format!(
        "#!/bin/sh\necho \"$1 $2 $(basename $(dirname \"$3\"))\" >> '{}'\n\
         case \"$2 $3\" in plan*smoke*) exit 0;; plan*) exit {code};; esac\n",
        asked.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("reproduce").args(words).arg("--out").arg(&place.0).env("RSLAD_BINARY", &program);
    let output = command.env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let (code, text) = said(&output);
    let asked = fs::read_to_string(asked).unwrap().lines().map(str::to_owned).collect();
    (code, text, asked)
}

#[cfg(unix)]
#[test]
fn the_full_protocol_waits_for_a_yes() {
    let words = ["cifar10", "--scale", "paper"];
    let (code, text, asked) = with_plans_that_end(0, &words);
    assert_eq!((code, asked), (Some(2), vec!["grid plan cifar10-paper".to_owned()]), "{text}");
    assert!(text.contains("add --yes to begin"), "{text}");
    let (code, _, asked) = with_plans_that_end(0, &[&words[..], &["--yes"]].concat());
    assert_eq!((code, asked.last().unwrap().as_str()), (Some(0), "grid submit cifar10-paper"));
    let (code, text, asked) = with_plans_that_end(4, &[&words[..], &["--yes"]].concat());
    assert_eq!((code, asked.len()), (Some(3), 1), "nothing begins without its teacher: {text}");
    assert!(text.contains("--scale smoke"), "{text}");
}

#[cfg(unix)]
#[test]
fn typed_alone_it_runs_small_where_that_can_begin() {
    let plans = ["grid plan cifar10-smoke", "grid plan cifar10-small", "grid plan cifar10-paper"];
    let (code, text, asked) = with_plans_that_end(0, &["cifar10"]);
    assert_eq!(
        (code, asked),
        (
            Some(0),
            [&plans[..], &["grid submit cifar10-small"]].concat().iter().map(|s| s.to_string()).collect()
        ),
        "{text}"
    );
    for (ends, expected) in [(3, 3), (4, 3), (7, 7)] {
        let (code, text, asked) = with_plans_that_end(ends, &["cifar10"]);
        assert_eq!((code, asked.len()), (Some(expected), 3), "plans only: {text}");
        assert_eq!(text.contains("data fetch cifar10"), expected == 3, "{text}");
    }
    let (code, _, asked) = with_plans_that_end(0, &["cifar10", "--dry-run"]);
    assert_eq!((code, asked.len()), (Some(0), 3), "a dry run begins nothing");
}
