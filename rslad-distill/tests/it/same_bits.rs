//! The same bits for any number of threads and any size of evaluation batches.

use crate::common::micro::{inputs, micro, train_in};
use rslad_attacks::{Examples, Suite, evaluate};
use rslad_data::in_order;
use rslad_distill::{Outcome, Recipe};
use rslad_models::Network;
use std::path::Path;
use std::process::Command;

/// Wide and large enough that the executor shares its work between threads.
fn recipe() -> Recipe {
    micro(&[
        ("student.width", "16"),
        ("data.limit", "280"),
        ("data.batch", "128"),
        ("schedule.epochs", "2"),
        ("inner.view", "batch_statistics"),
    ])
}

/// Names the directory in which a child process trains.
const CHILD: &str = "RSLAD_TEST_TRAIN_IN";

/// The number of threads is fixed when a process first computes, so each has a process of its own.
#[test]
fn training_gives_the_same_bits_for_any_number_of_threads() {
    let runs: Vec<_> = ["1", "2", "3"]
        .map(|threads| {
            let dir = tempfile::tempdir().unwrap();
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "same_bits::a_child_process_trains_where_it_is_told"])
                .env(CHILD, dir.path())
                .env("RSLAD_THREADS", threads) // the compiled executors
                .env("RAYON_NUM_THREADS", threads) // candle
                .output()
                .unwrap();
            assert!(child.status.success(), "{threads} threads: {}", String::from_utf8_lossy(&child.stderr));
            dir
        })
        .into();
    for file in ["last.safetensors", "best.safetensors", "metrics.jsonl", "LATEST.json"] {
        let read = |i: usize| std::fs::read(runs[i].path().join(file)).unwrap();
        assert!(read(0) == read(1), "{file}: 1 and 2 threads differ");
        assert!(read(0) == read(2), "{file}: 1 and 3 threads differ");
    }
}

/// The body of the test above; nothing unless it is called by that.
#[test]
fn a_child_process_trains_where_it_is_told() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let recipe = recipe();
        assert_eq!(train_in(Path::new(&dir), &recipe, &inputs(&recipe), &mut ()), Outcome::Finished);
    }
}

#[test]
fn an_evaluation_does_not_depend_on_its_batches() {
    let (recipe, dir) = (micro(&[]), tempfile::tempdir().unwrap());
    let inputs = inputs(&recipe);
    train_in(dir.path(), &recipe, &inputs, &mut ());
    let (student, _) = Network::load(&dir.path().join("last.safetensors")).unwrap();
    let student = student.freeze().unwrap();
    let suite = Suite::load("quick").unwrap();
    let in_batches_of = |size| {
        let batches = in_order(&inputs.train, size).unwrap().map(Result::unwrap);
        let examples =
            batches.map(|b| Examples { ids: b.ids().to_vec(), x: b.x().clone(), y: b.y().clone() });
        let mut found = evaluate(&student, examples, &suite, recipe.select.eps, 0, &mut ()).unwrap();
        found.columns.iter_mut().for_each(|column| column.seconds = 0.0);
        found
    };
    let whole = in_batches_of(80);
    for size in [1, 7, 32] {
        assert_eq!(in_batches_of(size), whole, "batches of {size}");
    }
}
