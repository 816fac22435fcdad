//! `rslad quickstart`, on students of a second.

use super::support::{self, Did, MICRO, Place, until};
use std::time::Duration;

fn args(out: &str) -> Vec<&str> {
    let small = ["quickstart", "--out", out, "--n", "24", "--set", "schedule.epochs=2"];
    [&small[..], &MICRO, &["--set", "select.every=2"]].concat()
}

/// A report without what may differ between two runs of the same bits.
fn timeless(place: &Place, dir: &str) -> serde_json::Value {
    let mut report = support::timeless(&place.at(dir).join("report.json"));
    report["runs"].take();
    report
}

fn assert_tells_the_story(did: &Did) {
    for part in [
        "within 8/255, %",
        "within 0.1, %",
        "RSLAD, no label",
        "TRADES, 4,000 labels",
        "AA",
        "Without a label",
    ] {
        assert!(did.out.contains(part), "{part} is not in\n{}", did.out);
    }
    assert!(did.out.lines().chain(did.err.lines()).all(|line| line.chars().count() <= 100), "{did:#?}");
}

#[test]
fn the_demonstration_can_be_stopped_and_says_when_it_was_done_before() {
    let place = Place::new();
    let whole = place.rslad(&args("whole")).ok();
    assert_tells_the_story(&whole);
    assert!(whole.err.contains("rslad-no-label-8of255-0") && whole.err.contains("done in"), "{}", whole.err);

    let running = place.start(&args("parts"));
    let first = || place.tree().iter().any(|path| path.ends_with("DONE.json") && path.starts_with("parts/"));
    until(Duration::from_secs(60), "the first cell", first);
    running.signal("TERM");
    let stopped = running.did();
    assert_eq!((stopped.code, stopped.out.as_str()), (75, ""), "{stopped:?}");
    assert!(stopped.err.contains("run the same command again"), "{}", stopped.err);

    let continued = place.rslad(&args("parts")).ok();
    assert_tells_the_story(&continued);
    assert_eq!(timeless(&place, "parts"), timeless(&place, "whole"));
    let html = std::fs::read_to_string(place.at("parts/report.html")).unwrap();
    assert!(
        html.contains("<section id=\"table\">") && html.contains("RSLAD, no label"),
        "the page shows the table"
    );
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
    assert!(did.err.contains("fashion-mnist/resnet18-natural") && did.err.contains("`inner"), "{}", did.err);
    assert!(place.tree().is_empty());
}
