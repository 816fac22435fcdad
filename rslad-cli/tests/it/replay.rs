//! `rslad replay`: the step that ended a run, once more.

use super::support::Place;

#[test]
fn a_step_that_was_not_finite_is_shown_again() {
    let place = Place::new();
    let did = place.train("run", &["--set", "schedule.epochs=2", "--set", "optim.lr=1e30"]);
    assert_eq!(did.code, 5, "{did:#?}");
    let dump = "run/dump-00001-000002.safetensors";
    assert!(did.err.contains(&format!("`rslad replay {dump}` shows the step again")), "{}", did.err);
    let did = place.rslad(&["replay", dump]);
    assert_eq!(did.code, 5, "{did:#?}");
    for part in
        ["epoch 1, step 2, 64 images", "loss ", "NaN", "the same, to the last bit", "is not finite for"]
    {
        assert!(did.out.contains(part), "{part:?} is not in {}", did.out);
    }
    let did = place.rslad(&["replay", dump, "--json"]);
    let told: serde_json::Value = serde_json::from_str(&did.out).unwrap();
    assert_eq!((&told["same"], &told["step"]), (&true.into(), &2.into()));
    assert_eq!(told["ids"].as_array().unwrap().len(), 64);
}

#[test]
fn what_is_no_dump_is_refused() {
    let place = Place::new();
    let model = place.model();
    for (file, expected) in [(model, "is not a dump"), ("nowhere", "nowhere: cannot be read")] {
        let did = place.rslad(&["replay", file]);
        assert!(did.code == 4 && did.err.contains(expected), "{did:#?}");
    }
}
