//! Evaluations that are interrupted, however rudely, and go on.

use super::support::{Place, lines, until};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);

/// Attacks whose examples are decided one by one, each fast enough for a test.
const SUITE: &str = "name = 'short'
about = 'an ensemble and an attack that is judged at its last step'
[[column]]
name = 'worst'
attack = 'worst_case'
[[column.stages]]
attack = 'apgd_ce'
iterations = 10
restarts = 1
rho = 0.75
eot = 1
[[column.stages]]
attack = 'square'
queries = 1000
restarts = 1
p_init = 0.8
schedule = 'fixed'
[[column]]
name = 'pgd'
attack = 'pgd'
steps = 10
step_size = 'eps/4'
start = 'uniform'
clip_start = 'clip'
";

fn args(out: &str) -> Vec<&str> {
    let model = ["eval", "--model", "model/last.safetensors", "--data", "digits", "--n", "120"];
    [&model[..], &["--suite", "short.toml", "--batch-size", "6", "--save-adversarial", "--out", out]].concat()
}

fn place() -> Place {
    let place = Place::new();
    place.model();
    std::fs::write(place.at("short.toml"), SUITE).unwrap();
    place
}

fn per_example(place: &Place, dir: &str) -> Vec<u8> {
    std::fs::read(place.at(dir).join("per_example.safetensors")).unwrap()
}

#[test]
fn twenty_kills_at_any_time_cost_nothing_but_time() {
    let place = place();
    place.rslad(&args("whole")).ok();
    let (mut kills, mut grew, mut before) = (0, 0, 0);
    while kills < 20 {
        let mut running = place.start(&args("killed"));
        // A spread of moments: once the journal has grown by 0 to 6 lines, so that a slow machine tests as much.
        let enough = before + kills * 5 % 7;
        until(LONG, "the journal to grow", || {
            lines(&place.at("killed/journal.jsonl")) >= enough || running.is_over()
        });
        let over = running.is_over();
        running.kill();
        let now = lines(&place.at("killed/journal.jsonl"));
        grew += u32::from(now > before);
        before = now;
        kills += 1;
        if over {
            std::fs::remove_dir_all(place.at("killed")).unwrap(); // it was done; begin another
            before = 0;
        }
    }
    assert!(grew >= 3, "the kills came too early to test anything: the journal grew {grew} times");
    place.rslad(&args("killed")).ok();
    assert!(per_example(&place, "killed") == per_example(&place, "whole"));
    let left: Vec<String> = place.tree().into_iter().filter(|f| f.starts_with("killed/journal")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_signal_keeps_what_is_decided() {
    let place = place();
    let mut running = place.start(&args("e"));
    until(LONG, "some verdicts", || lines(&place.at("e/journal.jsonl")) > 2 || running.is_over());
    assert!(!running.is_over(), "it was over before the signal");
    running.signal("TERM");
    let did = running.did_within(Duration::from_secs(20));
    assert_eq!(did.code, 75, "{did:?}");
    assert!(did.err.contains("run the same command again to continue"), "{}", did.err);
    let again = place.rslad(&args("e")).ok();
    assert!(again.err.contains("continues; verdicts of before: "), "{}", again.err);
    place.rslad(&args("whole")).ok();
    assert!(per_example(&place, "e") == per_example(&place, "whole"));
}

#[test]
fn the_journal_of_another_question_is_not_touched() {
    let place = place();
    let mut running = place.start(&args("e"));
    until(LONG, "some verdicts", || lines(&place.at("e/journal.jsonl")) > 2 || running.is_over());
    running.kill();
    let journal = std::fs::read(place.at("e/journal.jsonl")).unwrap();
    let did = place.rslad(&[&args("e")[..], &["--seed", "1"]].concat());
    assert_eq!(did.code, 2, "{did:?}");
    assert!(did.err.contains("an unfinished evaluation of another question"), "{}", did.err);
    assert_eq!(std::fs::read(place.at("e/journal.jsonl")).unwrap(), journal);
}

#[cfg(unix)]
#[test]
fn two_evaluations_do_not_share_a_directory() {
    let place = place();
    let mut running = place.start(&args("e"));
    until(LONG, "some verdicts", || lines(&place.at("e/journal.jsonl")) > 2 || running.is_over());
    assert!(!running.is_over());
    let did = place.rslad(&args("e"));
    assert_eq!(did.code, 6, "{did:?}");
    assert!(did.err.contains("another evaluation is writing there"), "{}", did.err);
    running.kill();
}

#[test]
fn batches_threads_order_and_shards_do_not_change_a_byte() {
    let place = place();
    let run = |out: &str, threads: &str, more: &[&str]| {
        let few = ["eval", "--model", "model/last.safetensors", "--data", "digits", "--n", "24"];
        let all = [&few[..], &["--suite", "matrix.toml", "--out", out], more].concat();
        let mut command = place.command(&all);
        command.env("RSLAD_THREADS", threads).env("RAYON_NUM_THREADS", threads);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(place.at("matrix.toml"), MATRIX).unwrap();
    run("whole", "1", &["--batch-size", "250"]);
    let whole = per_example(&place, "whole");
    for threads in ["1", "2", "3", "8"] {
        for batch in ["1", "16", "50", "250"] {
            let out = format!("t{threads}b{batch}");
            run(&out, threads, &["--batch-size", batch]);
            assert!(per_example(&place, &out) == whole, "{threads} threads, batches of {batch}");
        }
    }
    let parts = ["1/5", "2/5", "3/5", "4/5", "5/5"].map(|shard| {
        let out = format!("part{}", &shard[..1]);
        run(&out, "2", &["--shard", shard, "--batch-size", "3"]);
        out
    });
    let merge =
        [&["eval", "merge"], &parts.each_ref().map(String::as_str)[..], &["--out", "merged"]].concat();
    place.rslad(&merge).ok();
    assert!(per_example(&place, "merged") == whole, "five shards");
}

/// AutoAttack, shortened: APGD 10, FAB 5, Square 100.
const MATRIX: &str = "name = 'matrix'
about = 'AutoAttack, shortened'
[[column]]
name = 'aa'
attack = 'worst_case'
[[column.stages]]
attack = 'apgd_ce'
iterations = 10
restarts = 1
rho = 0.75
eot = 1
[[column.stages]]
attack = 'apgd_t'
iterations = 10
targets = 9
restarts = 1
rho = 0.75
eot = 1
[[column.stages]]
attack = 'fab_t'
iterations = 5
targets = 9
restarts = 1
alpha_max = 0.1
eta = 1.05
beta = 0.9
[[column.stages]]
attack = 'square'
queries = 100
restarts = 1
p_init = 0.8
schedule = 'fixed'
";
