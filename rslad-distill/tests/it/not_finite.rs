//! A loss or gradient that is not finite: the run ends in that step with a dump that shows it again, or
//! leaves the step out where the recipe says so.

use crate::common::micro::{Log, inputs, micro, train_in};
use candle_core::{DType, Tensor};
use rslad_distill::dump::Dump;
use rslad_distill::observer::{StepEvent, Update};
use rslad_distill::{Error, Inputs, Outcome, Recipe, RunDir, train};
use rslad_models::Network;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const EXPLODES: [(&str, &str); 2] = [("optim.lr", "1e30"), ("schedule.warmup", "0.0")];

/// Trains until it fails; the error.
fn fails(path: &Path, recipe: &Recipe, inputs: &Inputs) -> Error {
    let held = RunDir::open(path, recipe).unwrap();
    train(recipe, inputs, &held, &mut (), &AtomicBool::new(false)).unwrap_err()
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_says_where() {
    let (recipe, dir) = (micro(&EXPLODES), tempfile::tempdir().unwrap());
    let error = fails(dir.path(), &recipe, &inputs(&recipe));
    assert!(matches!(error, Error::NotFinite { epoch: 1, step: 2, .. }), "{error:?}");
    let message = error.to_string();
    for part in ["lower `optim.lr`", "`[guard]`", "rslad replay ", "dump-00001-000002.safetensors"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_dump_shows_the_step_again() {
    let (recipe, dir) = (micro(&EXPLODES), tempfile::tempdir().unwrap());
    let inputs = inputs(&recipe);
    fails(dir.path(), &recipe, &inputs);
    let dump = Dump::read(&dir.path().join("dump-00001-000002.safetensors")).unwrap();
    assert_eq!((dump.told.epoch, dump.told.step, &dump.recipe), (1, 2, &recipe));
    assert_eq!(dump.told.ids.len(), 32);
    let replay = dump.replay(inputs.teacher.as_ref(), None).unwrap();
    assert_eq!(replay.found, dump.told.found);
    assert!(["NaN", "inf"].contains(&replay.found.loss.as_str()), "{:?}", replay.found);
    assert!(replay.images.iter().any(|(_, ids)| !ids.is_empty()), "{:?}", replay.images);
    assert!(!replay.gradients.is_empty());
    assert!(replay.largest_weight > 1e20);
}

#[test]
fn a_damaged_dump_is_refused() {
    let (recipe, dir) = (micro(&EXPLODES), tempfile::tempdir().unwrap());
    fails(dir.path(), &recipe, &inputs(&recipe));
    let path = dir.path().join("dump-00001-000002.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let check = |bytes: &[u8], expected: &str| {
        std::fs::write(&path, bytes).unwrap();
        let message = Dump::read(&path).err().expect("refused").to_string();
        assert!(
            message.contains("dump-00001-000002.safetensors: ") && message.contains(expected),
            "{message}"
        );
    };
    check(&bytes[..bytes.len() / 2], "is damaged");
    check(&[&bytes[..bytes.len() - 1], &[bytes[bytes.len() - 1] ^ 1]].concat(), "is damaged");
    check(&std::fs::read("tests/goldens/net_tiny.safetensors").unwrap(), "is not a dump");
}

#[test]
fn skipped_steps_leave_no_trace_in_weights_and_statistics() {
    let guard = ("guard", "{ skip = 1000, clip_norm = 0.0 }");
    let run = |epochs: &str| {
        let recipe =
            micro(&[&EXPLODES[..], &[guard, ("schedule.epochs", epochs), ("schedule.drops", "[]")]].concat());
        let (dir, mut log) = (tempfile::tempdir().unwrap(), Log::default());
        assert_eq!(train_in(dir.path(), &recipe, &inputs(&recipe), &mut log), Outcome::Finished);
        (dir, log)
    };
    let ((short, _), (long, log)) = (run("1"), run("3"));
    let updates: Vec<Update> = log.steps.iter().map(|step| step.update).collect();
    assert_eq!(updates, [&[Update::Taken][..], &[Update::Skipped; 8]].concat(), "only the first is finite");
    assert!(log.epochs[0].loss.is_finite() && log.epochs[1].loss.is_nan(), "{:?}", log.epochs);
    let metrics = std::fs::read_to_string(long.path().join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches("\"update\":\"skipped\"").count(), 8);
    let values = |dir: &tempfile::TempDir| -> Vec<(String, Vec<f64>)> {
        let (student, _) = Network::load(&dir.path().join("last.safetensors")).unwrap();
        let state = student.params().state_dict().unwrap().into_iter();
        let values = |t: Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        state.map(|(name, t)| (name, values(t))).collect()
    };
    assert_eq!(values(&long), values(&short));
    assert!(values(&long).iter().all(|(_, values)| values.iter().all(|v| v.is_finite())));
}

#[test]
fn steps_are_skipped_so_many_times_in_a_row_and_no_more() {
    let guard = ("guard", "{ skip = 2, clip_norm = 0.0 }");
    let (recipe, dir) = (micro(&[&EXPLODES[..], &[guard]].concat()), tempfile::tempdir().unwrap());
    let error = fails(dir.path(), &recipe, &inputs(&recipe));
    // Step 1 explodes; steps 2 and 3 are skipped, and so the first of the next epoch is not.
    assert!(matches!(error, Error::NotFinite { epoch: 2, step: 1, .. }), "{error:?}");
}

#[test]
fn gradients_are_clipped_where_the_recipe_says_so() {
    let run = |clip_norm: &str| {
        let guard = format!("{{ skip = 0, clip_norm = {clip_norm} }}");
        let recipe = micro(&[
            ("guard", &guard),
            ("optim.weight_decay", "0.0"),
            ("schedule.epochs", "1"),
            ("schedule.warmup", "0.0"),
        ]);
        let (dir, mut log) = (tempfile::tempdir().unwrap(), Log::default());
        train_in(dir.path(), &recipe, &inputs(&recipe), &mut log);
        log
    };
    let free = run("0.0");
    assert!(free.steps.iter().all(|s| s.update == Update::Taken));
    let norm = free.steps[0].grad_norm;
    let clipped = run(&format!("{}", norm / 2.0));
    assert_eq!(clipped.steps[0], StepEvent { update: Update::Clipped, ..free.steps[0].clone() });
    assert_ne!(clipped.steps[1].loss, free.steps[1].loss);
    let loose = run("1e9");
    assert_eq!(loose.steps, free.steps);
}
