//! The curves of a run as the real TensorBoard reads them.

use super::support::{Place, lines, skipped, train_args, until};
use std::process::Command;
use std::time::Duration;

const READ: &str = "
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
print(json.dumps({tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()['scalars']}))
";

#[test]
fn tensorboard_reads_a_run_in_several_sittings_as_one_curve() {
    let test = "tensorboard_reads_a_run_in_several_sittings_as_one_curve";
    let python = std::env::var("RSLAD_PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python).args(["-c", "import tensorboard"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        return skipped(
            test,
            "no TensorBoard; `pip install tensorboard`, or name a Python that has it in RSLAD_PYTHON",
        );
    }
    let place = Place::new();
    let args = train_args("run", &["--set", "schedule.epochs=60"]);
    let mut running = place.start(&args);
    until(Duration::from_secs(60), "some steps", || {
        lines(&place.at("run/metrics.jsonl")) > 23 || running.is_over()
    });
    running.signal("TERM");
    assert_eq!(running.did().code, 75);
    place.rslad(&args).ok();

    let output = Command::new(python).args(["-c", READ, place.at("run").to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let metrics = std::fs::read_to_string(place.at("run/metrics.jsonl")).unwrap();
    let events: Vec<serde_json::Value> = metrics.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let check = |tag: &str, event: &str, value: &dyn Fn(&serde_json::Value) -> f64, steps: u64| {
        let truth: Vec<_> = events.iter().filter(|e| e["event"] == event).collect();
        let curve = read[tag].as_array().unwrap_or_else(|| panic!("no {tag} in {read}"));
        assert_eq!(curve.len(), truth.len(), "{tag}");
        for (point, truth) in curve.iter().zip(truth) {
            let step = (truth["epoch"].as_u64().unwrap() - 1) * 2 + truth["step"].as_u64().unwrap_or(steps);
            assert_eq!(point[0], step, "{tag}");
            assert_eq!(point[1].as_f64().unwrap() as f32, value(truth) as f32, "{tag}");
        }
    };
    check("step/loss", "step", &|e| e["loss"].as_f64().unwrap(), 0);
    check("step/lr", "step", &|e| e["lr"].as_f64().unwrap(), 0);
    check("epoch/loss", "epoch", &|e| e["loss"].as_f64().unwrap(), 2);
    check("validation/clean", "eval", &|e| e["clean"].as_f64().unwrap(), 2);
    check("validation/robust", "eval", &|e| e["robust"].as_f64().unwrap(), 2);
}
