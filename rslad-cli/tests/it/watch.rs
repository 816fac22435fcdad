//! `rslad watch`: what it shows of a run, and that it only reads.

use super::support::{Place, lines, train_args, until};
use std::time::Duration;

const EPOCHS: [&str; 2] = ["--set", "schedule.epochs=3"];

#[test]
fn a_finished_run_is_drawn_once_and_nothing_is_touched() {
    let place = Place::new();
    place.train("run", &EPOCHS).ok();
    let contents =
        || place.tree().into_iter().map(|file| std::fs::read(place.at(&file)).ok()).collect::<Vec<_>>();
    let before = contents();
    let did = place.rslad(&["watch", "run"]).ok();
    for part in [
        "finished · epoch 3/3, step 2",
        "best: epoch ",
        "loss, by epoch",
        "clean accuracy",
        "robust accuracy",
        "│",
    ] {
        assert!(did.out.contains(part), "{part:?} is not in {}", did.out);
    }
    assert!(!did.out.contains('\u{1b}'), "no escape codes off a terminal");
    let told: serde_json::Value =
        serde_json::from_str(&place.rslad(&["watch", "run", "--json"]).ok().out).unwrap();
    assert_eq!(
        (&told["status"], &told["epoch"], &told["epochs"]),
        (&"finished".into(), &3.into(), &3.into())
    );
    assert!(contents() == before);
}

#[test]
fn a_running_a_killed_and_a_stopped_run_are_told_apart() {
    let place = Place::new();
    let status = || {
        let did = place.rslad(&["watch", "run", "--json"]).ok();
        serde_json::from_str::<serde_json::Value>(&did.out).unwrap()["status"].as_str().unwrap().to_string()
    };
    let long = train_args("run", &["--set", "schedule.epochs=100000"]);
    let running = place.start(&long);
    until(Duration::from_secs(60), "some steps", || lines(&place.at("run/metrics.jsonl")) > 5);
    assert_eq!(status(), "running");
    running.kill();
    assert_eq!(status(), "killed");
    let running = place.start(&long);
    let before = lines(&place.at("run/metrics.jsonl"));
    until(Duration::from_secs(60), "more steps", || lines(&place.at("run/metrics.jsonl")) > before + 5);
    running.signal("TERM");
    assert_eq!(running.did().code, 75);
    assert_eq!(status(), "stopped");
}

#[test]
fn a_directory_without_a_run_is_refused() {
    let place = Place::new();
    let did = place.rslad(&["watch", "nowhere"]);
    assert!(did.code == 2 && did.err.contains("nowhere: holds no run"), "{did:#?}");
}
