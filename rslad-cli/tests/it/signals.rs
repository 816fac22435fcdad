//! Interrupted by signals: saved, continued, and the same bytes in the end.

use super::support::{Place, json, lines, train_args, until};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const EPOCHS: [&str; 2] = ["--set", "schedule.epochs=40"];

#[test]
fn an_interrupted_run_continues_to_the_same_bytes() {
    let place = Place::new();
    place.train("undisturbed", &EPOCHS).ok();
    let mut stops = 0;
    for signal in ["TERM", "INT", "USR1"].iter().cycle() {
        let metrics = place.at("run/metrics.jsonl");
        let before = lines(&metrics);
        let mut running = place.start(&train_args("run", &EPOCHS));
        until(LONG, "some steps", || lines(&metrics) > before + 7 || running.is_over());
        if stops < 3 && !running.is_over() {
            running.signal(signal);
        }
        let did = running.did();
        if did.code == 0 {
            break;
        }
        assert_eq!(did.code, 75, "{did:?}");
        assert!(did.err.contains("run the same command again to continue"), "{}", did.err);
        stops += 1;
    }
    assert!(stops > 0, "it was over before the first signal");
    for file in ["recipe.toml", "metrics.jsonl", "best.safetensors", "last.safetensors"] {
        let read = |dir| std::fs::read(place.at(dir).join(file)).unwrap();
        assert!(read("run") == read("undisturbed"), "{file} differs after {stops} stops");
    }
    let sittings = json(&place.at("run/run.json"))["sittings"].as_array().unwrap().clone();
    let ended: Vec<&str> = sittings.iter().map(|s| s["ended"].as_str().unwrap()).collect();
    assert_eq!(ended, [vec!["stopped"; stops], vec!["finished"]].concat());
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::new();
    let long = ["--set", "inner.steps=10000", "--set", "data.limit=1437", "--set", "data.batch=1024"];
    let mut running = place.start(&train_args("run", &long));
    until(LONG, "the run to begin", || place.at("run/run.json").exists());
    running.signal("INT");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!running.is_over(), "the first signal waits for the step");
    running.signal("INT");
    let did = running.did_within(Duration::from_secs(5));
    assert_eq!(did.code, 130, "{did:?}");
    assert!(did.err.contains("once more ends at once"), "{}", did.err);
}

#[test]
fn a_signal_within_an_evaluation_of_a_run_saves_within_a_step() {
    let place = Place::new();
    let column = "name = 'pgd'\nattack = 'pgd'\nsteps = 100000\nstep_size = 'eps/4'\nstart = 'uniform'\nclip_start = 'clip'\n";
    std::fs::write(place.at("long.toml"), format!("name = 'long'\nabout = 'long'\n[[column]]\n{column}"))
        .unwrap();
    let long = ["--set", "schedule.epochs=1", "--set", "select.suite=long.toml"];
    let running = place.start(&train_args("run", &long));
    until(LONG, "the steps of the epoch", || lines(&place.at("run/metrics.jsonl")) == 2);
    std::thread::sleep(Duration::from_millis(300));
    running.signal("USR1");
    let did = running.did_within(Duration::from_secs(10));
    assert_eq!(did.code, 75, "{did:?}");
    assert!(place.at("run/state-00001-000002.safetensors").exists(), "{:?}", place.tree());
}

#[test]
fn an_interrupted_evaluation_leaves_nothing() {
    let place = Place::new();
    let model = place.model();
    let column = "name = 'pgd'\nattack = 'pgd'\nsteps = 10000\nstep_size = 'eps/4'\nstart = 'uniform'\nclip_start = 'clip'\n";
    std::fs::write(place.at("long.toml"), format!("name = 'long'\nabout = 'long'\n[[column]]\n{column}"))
        .unwrap();
    let before = place.tree();
    let args = ["eval", "--model", model, "--data", "digits", "--suite", "long.toml", "--out", "a/b"];
    let running = place.start(&args);
    until(LONG, "the evaluation to begin", || place.at("a/b").exists());
    running.signal("TERM");
    let did = running.did_within(Duration::from_secs(10));
    assert_eq!(did.code, 75, "{did:?}");
    assert!(did.err.contains("run the same command again"), "{}", did.err);
    assert_eq!(place.tree(), before);
}
