//! `rslad record`: what is kept of runs is small, names no machine, and gives the same report.

use super::support::{Place, timeless};
use std::fs;

/// A run whose weights are larger than what is kept, and its evaluation.
fn evaluated() -> Place {
    let place = Place::new();
    place.train("runs/wide", &["--set", "schedule.epochs=2", "--set", "student.width=40"]).ok();
    let model = place.at("runs/wide/best.safetensors").display().to_string();
    let args = ["eval", "--model", &model, "--data", "digits", "--n", "20", "--suite", "quick", "--out"];
    place.rslad(&[&args[..], &["evals/wide"]].concat()).ok();
    place
}

fn record(place: &Place, more: &[&str]) -> super::support::Did {
    let args =
        ["record", "runs/wide", "evals", "--title", "A <i>wide_one</i>", "--out", "records/2026-12-01-wide"];
    place.rslad(&[&args[..], more].concat())
}

#[test]
fn a_record_is_small_names_no_machine_and_gives_the_same_report() {
    let place = evaluated();
    fs::write(place.at("train.log"), format!("{}the end\n", "a line\n".repeat(500))).unwrap();
    let did = record(&place, &["--log", "train.log", "--stamp", "NOT FOR COMPARISON"]).ok();
    assert_eq!(did.out, "records/2026-12-01-wide/README.md\n");
    let at = |file: &str| place.at("records/2026-12-01-wide").join(file);
    let text = |file: &str| fs::read_to_string(at(file)).unwrap();

    let args = ["report", "runs", "evals", "--title", "A <i>wide_one</i>", "--stamp", "NOT FOR COMPARISON"];
    place.rslad(&[&args[..], &["--out", "report"]].concat()).ok();
    assert_eq!(timeless(&at("report/report.json")), timeless(&place.at("report/report.json")));
    assert_eq!(
        timeless(&at("report/report.json"))["groups"][0]["rows"][0]["label"],
        "RSLAD",
        "its run is known"
    );

    let home = place.at("").display().to_string();
    let files = place.tree().into_iter().filter(|file| file.starts_with("records/") && !file.ends_with('/'));
    for file in files {
        let bytes = fs::read(place.at(&file)).unwrap();
        assert!(bytes.len() <= 1_000_000, "{file}: {}", bytes.len());
        assert!(!String::from_utf8_lossy(&bytes).contains(&home), "{file} names this machine");
    }
    assert!(!at("runs/wide/best.safetensors").exists() && text("INVENTORY.md").contains("best.safetensors"));
    let metrics = text("runs/wide/metrics.jsonl");
    assert!(metrics.contains("\"event\":\"eval\"") && !metrics.contains("\"event\":\"step\""), "{metrics}");
    assert!(text("logs/train.log").lines().count() < 100 && text("logs/train.log").ends_with("the end\n"));
    assert!(text("INVENTORY.md").starts_with("# Inventory of A &lt;i&gt;wide\\_one"), "names are text");
    assert!(text("INVENTORY.md").contains("rslad train --recipe digits/resnet18-rslad"));

    fs::write(at("README.md"), "mine\n").unwrap();
    fs::write(at("runs/stale"), "").unwrap();
    record(&place, &[]).ok();
    assert_eq!(text("README.md"), "mine\n", "what people wrote stays");
    assert!(!at("runs/stale").exists() && !text("report/report.html").contains("NOT FOR COMPARISON"));
}

#[test]
fn a_record_does_not_take_the_place_of_something_else() {
    let place = Place::new();
    fs::create_dir_all(place.at("records/2026-12-01-wide/runs")).unwrap();
    fs::write(place.at("records/2026-12-01-wide/runs/mine"), "").unwrap();
    fs::create_dir_all(place.at("runs/wide")).unwrap();
    fs::create_dir_all(place.at("evals")).unwrap();
    let did = record(&place, &[]);
    assert!(did.code == 2 && did.err.contains("neither a run nor an evaluation"), "{did:?}");
    fs::write(place.at("runs/wide/recipe.toml"), "").unwrap();
    fs::write(place.at("evals/recipe.toml"), "").unwrap();
    let did = record(&place, &[]);
    assert!(did.code == 2 && did.err.contains("neither empty nor a record"), "{did:?}");
    assert!(place.at("records/2026-12-01-wide/runs/mine").exists());
}
