//! `rslad train`: what a run directory holds, and that a run is what its recipe says.

use super::support::{Place, RECIPE, json, keys, lines, train_args};
use std::fs::{File, OpenOptions};
use std::time::Instant;

const EPOCHS: [&str; 2] = ["--set", "schedule.epochs=2"];

#[test]
fn a_run_directory_holds_what_is_documented() {
    let place = Place::new();
    let did = place.train("run", &EPOCHS).ok();
    assert_eq!(did.out, "run/last.safetensors\n", "the result goes to standard output");
    assert!(did.err.contains("epoch   2/2") && did.err.contains("teacher    resnet18"), "{}", did.err);
    let files = [
        "run/",
        "run/.lock",
        "run/LATEST.json",
        "run/best.safetensors",
        "run/last.safetensors",
        "run/log.jsonl",
        "run/metrics.jsonl",
        "run/recipe.toml",
        "run/run.json",
        "run/state-00002-000000.safetensors",
        "run/state-00003-000000.safetensors",
    ];
    let (curves, others): (Vec<String>, Vec<String>) =
        place.tree().into_iter().partition(|file| file.starts_with("run/events.out.tfevents."));
    assert_eq!((others, curves.len()), (files.map(String::from).to_vec(), 1));

    let info = json(&place.at("run/run.json"));
    let hashes = ["data_sha256", "recipe_sha256", "second_teacher_sha256", "teacher_sha256"];
    for key in ["schema", "version", "commit", "seed", "sittings"].iter().chain(&hashes) {
        assert!(keys(&info).contains(key), "{key}");
    }
    let sitting = &info["sittings"][0];
    assert_eq!(keys(sitting), ["command_line", "ended", "host", "seconds", "started", "times"]);
    assert_eq!(keys(&sitting["host"]), ["cores", "os", "processor", "threads"]);
    assert_eq!(sitting["ended"], "finished");
    let (times, stages) = (&sitting["times"], ["data", "inner_max", "optimizer", "outer", "teacher"]);
    assert_eq!(keys(&times["seconds_per_step"]), stages);
    assert!(stages.iter().all(|s| times["seconds_per_step"][s].as_f64().unwrap() > 0.0), "{times}");
    assert_eq!(times["steps"], 4);

    let metrics = std::fs::read_to_string(place.at("run/metrics.jsonl")).unwrap();
    let event = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].clone();
    let events: Vec<_> = metrics.lines().map(event).collect();
    assert_eq!(events, [["step", "step", "epoch", "eval", "saved"]; 2].concat());
    for line in std::fs::read_to_string(place.at("run/log.jsonl")).unwrap().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn the_printed_recipe_is_the_one_of_the_run_and_runs_again() {
    let place = Place::new();
    let printed = place.rslad(&[&train_args("unused", &EPOCHS)[..], &["--print"]].concat()).ok().out;
    assert!(place.tree().is_empty(), "printing writes nothing");
    std::fs::write(place.at("mine.toml"), &printed).unwrap();
    place.rslad(&["train", "--recipe", "mine.toml", "--out", "a"]).ok();
    place.train("b", &EPOCHS).ok();
    for file in ["recipe.toml", "metrics.jsonl", "best.safetensors", "last.safetensors"] {
        let read = |dir| std::fs::read(place.at(dir).join(file)).unwrap();
        assert!(read("a") == read("b"), "{file} differs");
    }
    assert_eq!(std::fs::read_to_string(place.at("a/recipe.toml")).unwrap(), printed);
}

#[test]
fn a_finished_run_is_not_done_again() {
    let place = Place::new();
    place.train("run", &EPOCHS).ok();
    let before = std::fs::metadata(place.at("run/last.safetensors")).unwrap().modified().unwrap();
    let did = place.train("run", &EPOCHS).ok();
    assert!(did.err.contains("already done"), "{}", did.err);
    assert_eq!(did.out, "run/last.safetensors\n");
    assert_eq!(std::fs::metadata(place.at("run/last.safetensors")).unwrap().modified().unwrap(), before);
}

#[test]
fn flags_are_keys_of_the_recipe() {
    let place = Place::new();
    let teacher = place.model();
    let teacher = format!("teacher={teacher}");
    place.train("run", &[&EPOCHS[..], &["--seed", "5", "--teacher", &teacher, "--quiet"]].concat()).ok();
    let recipe = std::fs::read_to_string(place.at("run/recipe.toml")).unwrap();
    assert!(recipe.contains("seed = 5") && recipe.contains("file = \"model/last.safetensors\""), "{recipe}");
    let printed = place.rslad(&["train", "--recipe", RECIPE, "--data", "fashion-mnist", "--print"]).ok().out;
    assert!(printed.contains("set = \"fashion-mnist\""), "{printed}");
}

#[test]
fn a_teacher_of_other_data_is_a_warning() {
    let place = Place::new();
    let more = ["--data", "fashion-mnist", "--set", "schedule.epochs=1", "--quiet"];
    let did = place.train("run", &more).ok();
    assert!(did.err.starts_with("warning: the teacher was trained on `digits`"), "{}", did.err);
}

#[test]
fn a_teacher_runs_under_the_normalization_that_the_recipe_says() {
    let place = Place::new();
    let run = |dir: &str, norm: &str| {
        let norm = format!("teacher.norm={norm}");
        let more = ["--set", "schedule.epochs=1", "--soft-labels", "kept", "--quiet", "--set", &norm];
        place.train(dir, &more).ok().err
    };
    let told = "the teacher: runs under the normalization 0.5/0.25, not under its own (\"none\"), as the recipe says";
    let said = run("other", "0.5/0.25");
    assert!(said.contains(told), "{said}");
    run("own", "none");
    let student = |dir: &str| std::fs::read(place.at(dir).join("last.safetensors")).unwrap();
    assert_ne!(student("other"), student("own"), "its answers are others");
    assert_eq!(std::fs::read_dir(place.at("kept")).unwrap().count(), 2, "and are kept apart");
}

#[test]
fn quiet_prints_the_result_only() {
    let did = Place::new().train("run", &["--set", "schedule.epochs=1", "-q"]).ok();
    assert_eq!((did.out.as_str(), did.err.as_str()), ("run/last.safetensors\n", ""));
}

#[test]
fn another_recipe_does_not_touch_the_directory() {
    let place = Place::new();
    place.train("run", &EPOCHS).ok();
    let before = std::fs::read(place.at("run/run.json")).unwrap();
    let did = place.train("run", &["--set", "schedule.epochs=3"]);
    assert_eq!(did.code, 2);
    assert!(did.err.contains("run") && did.err.contains("another recipe"), "{}", did.err);
    assert_eq!(std::fs::read(place.at("run/run.json")).unwrap(), before);
}

#[test]
fn a_directory_in_use_is_refused_at_once() {
    let place = Place::new();
    std::fs::create_dir(place.at("run")).unwrap();
    std::fs::write(place.at("run/.lock"), "process 7 on elsewhere\n").unwrap();
    let lock: File = OpenOptions::new().write(true).open(place.at("run/.lock")).unwrap();
    lock.lock().unwrap();
    let clock = Instant::now();
    let did = place.train("run", &EPOCHS);
    assert_eq!(did.code, 6, "{did:?}");
    assert!(did.err.contains("in use by process 7 on elsewhere"), "{}", did.err);
    assert!(clock.elapsed().as_secs() < 5);
    assert_eq!(place.tree(), ["run/", "run/.lock"]);
    drop(lock);
    place.train("run", &EPOCHS).ok();
}

#[test]
fn a_loss_that_explodes_ends_with_its_own_code() {
    let place = Place::new();
    let did = place.train("run", &["--set", "schedule.epochs=2", "--set", "optim.lr=1e30"]);
    assert_eq!(did.code, 5, "{did:?}");
    assert!(did.err.contains("not finite in epoch 1") && did.err.contains("lower `optim.lr`"), "{}", did.err);
    assert_eq!(json(&place.at("run/run.json"))["sittings"][0]["ended"], "failed");
}

#[test]
fn a_damaged_state_is_a_warning_and_two_are_a_checkpoint_error() {
    let place = Place::new();
    place.train("run", &EPOCHS).ok();
    let last = std::fs::read(place.at("run/last.safetensors")).unwrap();
    let damage = |name: &str| {
        let path = place.at(name);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    damage("run/state-00003-000000.safetensors");
    let did = place.train("run", &EPOCHS).ok();
    assert!(did.err.contains("state-00003-000000.safetensors: is damaged"), "{}", did.err);
    assert!(did.err.contains("goes on from state-00002-000000.safetensors"), "{}", did.err);
    assert!(std::fs::read(place.at("run/last.safetensors")).unwrap() == last);

    damage("run/state-00003-000000.safetensors");
    damage("run/state-00002-000000.safetensors");
    let did = place.train("run", &EPOCHS);
    assert_eq!(did.code, 4, "{did:?}");
    assert!(
        did.err.contains("is damaged") && did.err.contains("no other state here is whole"),
        "{}",
        did.err
    );
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_whole_files_and_the_run_goes_on_later() {
    let place = Place::new();
    let args = train_args("run", &EPOCHS);
    let did = place.rslad_on_a_full_disk(20, &args);
    assert_eq!(did.code, 7, "{did:?}");
    assert!(did.err.contains("cannot write") && did.err.contains(" bytes"), "{}", did.err);
    assert!(place.tree().iter().all(|file| !file.contains(".partial")), "{:?}", place.tree());

    place.rslad(&args).ok();
    place.train("undisturbed", &EPOCHS).ok();
    for file in ["metrics.jsonl", "best.safetensors", "last.safetensors"] {
        let read = |dir| std::fs::read(place.at(dir).join(file)).unwrap();
        assert!(read("run") == read("undisturbed"), "{file} differs");
    }
    assert_eq!(lines(&place.at("run/metrics.jsonl")), 10);
}
