//! `rslad doctor`: what it looks at, and that it says what to do.

use super::support::Place;

#[test]
fn everything_is_looked_at() {
    let place = Place::new();
    let did = place.rslad(&["doctor"]).ok();
    let topics = ["processor", "kernels", "answers", "threads", "memory", "disk", "cache", "cuda", "mpi"];
    for (line, topic) in did.out.lines().filter(|line| !line.contains("fix: ")).zip(topics) {
        assert!(line[4..].starts_with(topic), "{line}, expected {topic}");
    }
    assert!(did.out.contains("ok  answers    as the specification's"), "{}", did.out);
    assert!(place.tree().is_empty(), "it leaves nothing behind");
    for line in place.rslad(&["doctor", "--json"]).ok().out.lines() {
        let finding: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(topics.contains(&finding["topic"].as_str().unwrap()), "{line}");
        assert_eq!(finding["state"] == "poor", finding.get("fix").is_some(), "{line}");
    }
}

#[test]
fn what_is_wrong_comes_with_its_fix() {
    let place = Place::new();
    let told = |name: &str, value: &str| {
        let output = place.command(&["doctor"]).env(name, value).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(told("RSLAD_EXEC", "reference").contains("fix: unset RSLAD_EXEC"));
    assert!(told("RSLAD_THREADS", "4096").contains("fix: set RSLAD_THREADS="));
    std::fs::write(place.at("file"), "").unwrap();
    let blocked = place.at("file").display().to_string();
    assert!(told("RSLAD_CACHE", &blocked).contains("or set RSLAD_CACHE=DIR"));
    let did = place.rslad(&["doctor", "--dir", "file/below"]);
    assert!(did.code == 7 && did.err.contains("cannot write there"), "{did:#?}");
}
