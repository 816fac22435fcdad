//! What a run says while it runs: lines off a terminal, JSON for programs, a bar on a terminal.

use super::support::{Place, skipped, train_args};
use assert_cmd::cargo::cargo_bin;
use std::process::Command;

const EPOCHS: [&str; 2] = ["--set", "schedule.epochs=5"];

#[test]
fn off_a_terminal_a_short_run_says_one_line_of_its_epochs_and_where_the_time_went() {
    let did = Place::new().train("run", &EPOCHS).ok();
    let epochs: Vec<&str> = did.err.lines().filter(|line| line.starts_with("epoch ")).collect();
    assert_eq!(epochs.len(), 1, "at most a line each 30 s, and the last epoch: {}", did.err);
    for part in
        ["epoch   5/5", "loss ", "kl_adv ", "validation clean ", " robust ", "lr ", "images/s", "ETA 0:00"]
    {
        assert!(epochs[0].contains(part), "{part:?} is not in {}", epochs[0]);
    }
    for part in ["inner max ", "teacher ", "outer ", "data ", "optimizer ", "evaluations ", "10 steps at "] {
        assert!(did.err.contains(part), "{part:?} is not in {}", did.err);
    }
}

#[test]
fn the_teachers_accuracy_comes_before_the_first_step() {
    let did = Place::new().train("run", &EPOCHS).ok();
    let at = |part: &str| did.err.find(part).unwrap_or_else(|| panic!("{part:?} is not in {}", did.err));
    assert!(at("% on the images to select on") < at("epoch   5/5"));
}

#[test]
fn programs_get_json_lines_and_nothing_else() {
    let did = Place::new().train("run", &[&EPOCHS[..], &["--json"]].concat()).ok();
    let lines: Vec<serde_json::Value> =
        did.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["begin", "epoch", "epoch", "epoch", "epoch", "epoch", "done"]);
    assert_eq!(lines[6]["weights"], "run/last.safetensors");
    assert!(lines[5]["eval"]["robust"].is_number() && lines[5]["images_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(did.err, "");
}

/// Runs the command on a terminal, as `script` of util-linux makes one; nothing where there is none.
fn on_a_terminal(test: &str, place: &Place, more: &[&str]) -> Option<String> {
    let program = cargo_bin("rslad");
    let words = [&[program.to_str().unwrap()][..], &train_args("run", &EPOCHS), more].concat();
    let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(place.at(".")).env("TERM", "xterm-256color");
    match script.output() {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        _ => {
            skipped(test, "no `script` of util-linux to make a terminal");
            None
        }
    }
}

#[test]
fn on_a_terminal_there_is_a_line_for_each_epoch_and_a_bar_within_it() {
    let test = "on_a_terminal_there_is_a_line_for_each_epoch_and_a_bar_within_it";
    let Some(text) = on_a_terminal(test, &Place::new(), &[]) else { return };
    for epoch in 1..=5 {
        assert!(text.contains(&format!("epoch   {epoch}/5  loss ")), "{text:?}");
    }
    assert!(text.contains('━') || text.contains('─'), "{text:?}");
}
