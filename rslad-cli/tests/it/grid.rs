//! `rslad cell` and `rslad grid`: cells are done once, in order, and never by two at a time.

use super::support::{Did, Pauses, Place, json, timeless, until};
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A teacher, a student of it, both under attack: a fraction of a second each.
fn grid(epochs: u32) -> String {
    let micro = format!(
        "set = {{ \"student.width\" = 4, \"data.limit\" = 160, \"select.hold_out\" = 32, \"data.batch\" = 64, \
         \"schedule.warmup\" = 0, \"schedule.drops\" = [1], \"schedule.epochs\" = {epochs}, \"inner.steps\" = 2 }}"
    );
    let eval = |name: &str, checkpoint: &str, row: &str| {
        format!(
            "[[cell]]\nkind = 'eval'\nname = '{name}-{checkpoint}'\n\
             model = {{ cell = '{name}', checkpoint = '{checkpoint}' }}\ndata = 'digits'\nsplit = 'test'\nn = 40\n\
             suite = ['quick']\neps = ['0.1']\nseed = 0\nrow = {row}\n"
        )
    };
    format!(
        "schema = 1\nname = 'micro'\ntitle = 'Micro'\n\
         [[cell]]\nkind = 'train'\nname = 'sat'\nrecipe = 'digits/resnet18-sat'\nseed = 0\n{micro}\n\
         [[cell]]\nkind = 'train'\nname = 'rslad'\nrecipe = 'digits/resnet18-rslad'\nseed = 0\n{micro}\n\
         teacher = {{ cell = 'sat', checkpoint = 'best' }}\n{}{}\
         [[cell]]\nkind = 'look'\nname = 'look'\ndata = 'digits'\nsplit = 'test'\nn = 4\nattack = 'pgd'\n\
         eps = '0.1'\nseed = 0\n[cell.models]\nSAT = {{ cell = 'sat', checkpoint = 'best' }}\n",
        eval("sat", "best", "{ student = 'resnet18', method = 'sat', checkpoint = 'best' }"),
        eval("rslad", "best", "{ student = 'resnet18', method = 'rslad', checkpoint = 'best' }")
    )
}

fn place(epochs: u32) -> Place {
    let place = Place::new();
    fs::write(place.at("grid.toml"), grid(epochs)).unwrap();
    place
}

fn cell(place: &Place, index: &str) -> Did {
    place.rslad(&["cell", "grid.toml", "--index", index, "--out", "out"])
}

fn submit(place: &Place, out: &str) -> Did {
    place.rslad(&["grid", "submit", "grid.toml", "--out", out, "--threads", "2"])
}

/// The directory of a cell.
fn dir(place: &Place, out: &str, name: &str) -> PathBuf {
    let is_cell = |path: &PathBuf| {
        let file = path.file_name().unwrap().to_str().unwrap();
        file.strip_prefix(name).is_some_and(|rest| rest.len() == 13)
    };
    let entries = fs::read_dir(place.at(out)).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> = entries.filter(is_cell).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.into_iter().next().unwrap()
}

#[test]
fn a_cell_is_done_once_and_after_those_that_it_builds_on() {
    let place = place(2);
    let early = cell(&place, "1");
    assert_eq!(early.code, 75, "{early:?}");
    assert!(early.err.contains("builds on cell 0 (`sat`), which is not finished"), "{}", early.err);
    assert!(!place.at("out").exists(), "nothing was begun");

    let mut from_scheduler = place.command(&["cell", "grid.toml", "--out", "out"]);
    let did: Did = from_scheduler.env("SLURM_ARRAY_TASK_ID", "0").output().unwrap().into();
    let printed = did.ok().out;
    let sat = dir(&place, "out", "sat");
    assert!(printed.trim().ends_with(sat.file_name().unwrap().to_str().unwrap()), "{printed}");
    let done = json(&sat.join("DONE.json"));
    assert!(done["files"]["best.safetensors"].is_string() && done["hash"].as_str().unwrap().len() == 64);

    cell(&place, "1").ok();
    let again = cell(&place, "1").ok();
    assert!(again.err.contains("already done: cell 1 (`rslad`)"), "{}", again.err);
    let recipe = fs::read_to_string(dir(&place, "out", "rslad").join("recipe.toml")).unwrap();
    assert!(recipe.contains(&format!("../{}/best.safetensors", sat.file_name().unwrap().to_str().unwrap())));
    let past = cell(&place, "9");
    assert_eq!((past.code, past.err.contains("expected 0 to 4")), (2, true), "{past:?}");
}

#[test]
fn a_cell_whose_files_were_touched_is_not_believed_and_one_that_is_held_is_refused() {
    let place = place(1);
    cell(&place, "0").ok();
    let sat = dir(&place, "out", "sat");
    let lock = File::options().read(true).write(true).open(sat.join(".lock")).unwrap();
    lock.lock().unwrap();
    assert!(cell(&place, "0").ok().err.contains("already done"), "what is done needs no lock");
    fs::write(sat.join("recipe.toml"), "touched = true\n").unwrap();
    let held = cell(&place, "0");
    assert_eq!(held.code, 6, "{held:?}");
    drop(lock);
    let touched = cell(&place, "0");
    assert!(touched.code == 2 && touched.err.contains("another recipe"), "{touched:?}");
}

/// The cells and the report of `out` are those of `whole`, times aside.
fn same_results(place: &Place) {
    for (name, files) in [
        ("sat", &["best.safetensors", "last.safetensors", "metrics.jsonl"][..]),
        ("rslad", &["best.safetensors", "last.safetensors", "metrics.jsonl", "recipe.toml"]),
        ("rslad-best", &["per_example.safetensors", "suite.toml"]),
        ("look", &["look.safetensors", "look.json"]),
    ] {
        let (one, other) = (dir(place, "whole", name), dir(place, "out", name));
        assert_eq!(one.file_name(), other.file_name());
        for file in files {
            assert!(
                fs::read(one.join(file)).unwrap() == fs::read(other.join(file)).unwrap(),
                "{name}/{file}"
            );
        }
    }
    let report = |out: &str| timeless(&place.at(out).join("report/report.json"));
    assert_eq!(report("whole"), report("out"));
}

#[test]
fn a_grid_that_is_stopped_goes_on_to_the_same_results() {
    let place = place(8);
    submit(&place, "whole").ok();
    let running = place.start(&["grid", "submit", "grid.toml", "--out", "out", "--threads", "2"]);
    until(Duration::from_secs(60), "the first cell", || {
        place.at("out").is_dir()
            && fs::read_dir(place.at("out"))
                .unwrap()
                .any(|e| e.unwrap().path().join("metrics.jsonl").exists())
    });
    running.signal("TERM");
    let stopped = running.did_within(Duration::from_secs(30));
    assert_eq!(stopped.code, 75, "{stopped:?}");
    let did = submit(&place, "out").ok();
    assert!(did.out.trim().ends_with("report.html"), "{}", did.out);

    same_results(&place);
    let status = place.rslad(&["grid", "status", "grid.toml", "--out", "out"]).ok();
    assert!(status.out.contains("5 of 5 cells finished, 0 running"), "{}", status.out);
}

/// With `kill -9`, of the engine alone and of its cells with it, at any time: while cells train, while they
/// are evaluated, between them, while the report is written.
#[cfg(unix)]
#[test]
fn a_grid_whose_engine_is_killed_anywhere_goes_on_to_the_same_report() {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    let kills = if std::env::var_os("RSLAD_SLOW_TESTS").is_some() { 60 } else { 9 };
    let place = place(4);
    let clock = Instant::now();
    submit(&place, "whole").ok();
    let whole = clock.elapsed();
    let args = ["grid", "submit", "grid.toml", "--out", "out", "--threads", "2"];
    let (mut pauses, mut killed) = (Pauses::new(11), 0);
    while killed < kills {
        let mut command = place.command(&args);
        command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
        let mut engine = command.spawn().unwrap();
        std::thread::sleep(pauses.below(whole));
        if let Some(status) = engine.try_wait().unwrap() {
            assert!(status.success());
            same_results(&place);
            fs::remove_dir_all(place.at("out")).unwrap();
            continue;
        }
        match killed % 3 {
            0 => engine.kill().unwrap(), // its cells see their input close, and end by themselves
            _ => {
                let group = format!("-{}", engine.id());
                assert!(Command::new("kill").args(["-9", "--", &group]).status().unwrap().success());
            }
        }
        engine.wait().unwrap();
        killed += 1;
    }
    submit(&place, "out").ok();
    same_results(&place);
}

#[test]
fn a_plan_counts_what_is_left_and_names_what_is_missing() {
    let place = place(2);
    let plan = place.rslad(&["grid", "plan", "grid.toml", "--out", "out"]).ok();
    assert!(plan.out.contains("4 steps x ") && plan.out.contains("5 cells, 0 finished"), "{}", plan.out);
    assert!(!place.at("out").exists(), "a plan writes nothing");
    let nothing = place.rslad(&["grid", "report", "grid.toml", "--out", "out"]);
    assert!(
        nothing.code == 2 && nothing.err.contains("out: no cell of the grid is finished there"),
        "{nothing:?}"
    );

    let missing = grid(2).replace(
        "{ cell = 'sat', checkpoint = 'best' }\n[[cell]]",
        "{ file = 'no.pt', arch = 'wrn34-10' }\n[[cell]]",
    );
    fs::write(place.at("grid.toml"), missing).unwrap();
    let plan = place.rslad(&["grid", "plan", "grid.toml", "--out", "out"]);
    assert_eq!(plan.code, 4, "{plan:?}");
    assert!(
        plan.out.contains("missing: no.pt: no such file") && plan.out.contains("waits for `rslad`"),
        "{}",
        plan.out
    );

    fs::write(place.at("grid.toml"), grid(2).replace("'digits/resnet18-sat'", "'digits/none'")).unwrap();
    let wrong = place.rslad(&["grid", "plan", "grid.toml", "--out", "out"]);
    assert!(wrong.code == 2 && wrong.err.contains("cell 0 (`sat`)"), "{wrong:?}");
}

#[test]
fn a_cell_that_fails_does_not_keep_the_others_from_being_done() {
    let place = Place::new();
    let broken = grid(1).replace("name = 'rslad'\n", "name = 'rslad'\n#\n").replacen(
        "\"inner.steps\" = 2 }\nteacher",
        "\"inner.steps\" = 2, \"optim.lr\" = 1e30, \"schedule.epochs\" = 2 }\nteacher",
        1,
    );
    let broken = broken.replace(
        "\"schedule.epochs\" = 1, \"inner.steps\" = 2, \"optim.lr\"",
        "\"inner.steps\" = 2, \"optim.lr\"",
    );
    fs::write(place.at("grid.toml"), broken).unwrap();
    let did = submit(&place, "out");
    assert_eq!(did.code, 5, "{did:?}");
    assert!(
        did.err.contains("1 of 5 cells failed; first `rslad`") && did.err.contains("not finite"),
        "{}",
        did.err
    );
    assert!(dir(&place, "out", "sat-best").join("result.json").exists());
    let html = fs::read_to_string(place.at("out/report/report.html")).unwrap();
    assert!(html.contains("2 cells of the grid are not finished"), "what is not there is said");
}

#[test]
fn an_evaluation_in_blocks_is_merged_to_the_whole_one() {
    let place = Place::new();
    let rest = "data = 'digits'\nsplit = 'test'\nn = 41\nsuite = ['quick']\neps = ['0.1']\nseed = 0\n";
    let model = "model = { cell = 'sat', checkpoint = 'best' }";
    let part =
        |i: u32| format!("[[cell]]\nkind = 'eval'\nname = 'part{i}'\n{model}\n{rest}shard = '{i}/3'\n");
    let blocks = format!(
        "{}{}{}{}[[cell]]\nkind = 'eval'\nname = 'whole'\n{model}\n{rest}\
         [[cell]]\nkind = 'merge'\nname = 'merged'\nparts = ['part1', 'part2', 'part3']\n\
         row = {{ student = 'resnet18', method = 'sat', checkpoint = 'best' }}\n",
        grid(1).split("[[cell]]\nkind = 'train'\nname = 'rslad'").next().unwrap(),
        part(1),
        part(2),
        part(3)
    );
    fs::write(place.at("grid.toml"), blocks).unwrap();
    let early = cell(&place, "5");
    assert!(early.code == 75 && early.err.contains("builds on cell 1 (`part1`)"), "{early:?}");
    submit(&place, "out").ok();
    let file = |name: &str, file: &str| dir(&place, "out", name).join(file);
    let bytes = |name: &str| fs::read(file(name, "per_example.safetensors")).unwrap();
    assert!(bytes("merged") == bytes("whole"), "the same verdict on every image");
    assert!(bytes("part1") != bytes("part2"));
    let numbers = |name: &str| {
        let result = json(&file(name, "result.json"));
        (result["clean"].clone(), result["columns"][0]["robust"].clone(), result["shard"].clone())
    };
    assert_eq!(numbers("merged"), numbers("whole"));
    let report = fs::read_to_string(place.at("out/report/report.json")).unwrap();
    assert!(report.contains("merged") && !report.contains("part1"), "a block has no row of its own");
}
