//! `rslad quickstart`, on students of a second.

use super::support::{Did, MICRO, Place, json, until};
use std::time::Duration;

fn args(out: &str) -> Vec<&str> {
    [&["quickstart", "--out", out, "--set", "schedule.epochs=4"][..], &MICRO].concat()
}

/// A result without what may differ between two runs of the same bits.
fn timeless(place: &Place, dir: &str) -> serde_json::Value {
    let mut result = json(&place.at(dir).join("result.json"));
    for model in result["models"].as_array_mut().unwrap() {
        model["result"]["model"]["path"].take();
        model["result"]["columns"].as_array_mut().unwrap().iter_mut().for_each(|c| drop(c["seconds"].take()));
    }
    result
}

fn assert_tells_the_story(did: &Did) {
    for part in ["accuracy, %", "teacher", "natural", "SAT", "RSLAD", "cw_inf20", "What it cannot show"] {
        assert!(did.out.contains(part), "{part} is not in\n{}", did.out);
    }
    assert!(did.out.lines().chain(did.err.lines()).all(|line| line.chars().count() <= 100), "{did:#?}");
}

#[test]
fn the_demonstration_can_be_stopped_and_says_when_it_was_done_before() {
    let place = Place::new();
    let whole = place.rslad(&args("whole")).ok();
    assert_tells_the_story(&whole);
    assert!(whole.err.contains("[4/4] RSLAD") && whole.err.contains("done in"), "{}", whole.err);

    let running = place.start(&args("parts"));
    until(Duration::from_secs(60), "the first student", || place.at("parts/natural/run.json").exists());
    running.signal("TERM");
    let stopped = running.did();
    assert_eq!((stopped.code, stopped.out.as_str()), (75, ""), "{stopped:?}");
    assert!(stopped.err.contains("run the same command again"), "{}", stopped.err);

    let continued = place.rslad(&args("parts")).ok();
    assert!(continued.err.contains("(done before)"), "{}", continued.err);
    assert_tells_the_story(&continued);
    assert_eq!(timeless(&place, "parts"), timeless(&place, "whole"));
    for student in ["natural", "SAT", "RSLAD"] {
        for file in ["last.safetensors", "metrics.jsonl", "eval/per_example.safetensors"] {
            let read = |dir: &str| std::fs::read(place.at(dir).join(student).join(file)).unwrap();
            assert!(read("parts") == read("whole"), "{student}/{file} differs");
        }
    }
    let html = std::fs::read_to_string(place.at("parts/report.html")).unwrap();
    assert!(html.contains("<section id=\"table\">") && html.contains(">RSLAD<"), "the page shows the table");
    let picture = |dir: &str| std::fs::read(place.at(dir).join("adversarial.png")).unwrap();
    assert!(picture("parts") == picture("whole"));

    let again = place.rslad(&args("parts")).ok();
    assert!(again.err.contains("all of this was done before"), "{}", again.err);
    assert_eq!(again.out, continued.out);
    let quiet = place.rslad(&[&args("parts")[..], &["--quiet"]].concat()).ok();
    assert_eq!((quiet.out, quiet.err.as_str()), (continued.out, ""));
}

#[test]
fn a_wrong_key_is_found_before_anything_is_written() {
    let place = Place::new();
    let did = place.rslad(&["quickstart", "--out", "q", "--set", "inner.steps=2"]);
    assert_eq!(did.code, 2);
    assert!(did.err.contains("digits/resnet18-natural") && did.err.contains("`inner"), "{}", did.err);
    assert!(place.tree().is_empty());
}
