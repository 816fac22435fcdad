//! `rslad train --soft-labels`, and what the header of a run says.

use super::support::Place;

const EPOCHS: [&str; 2] = ["--set", "schedule.epochs=2"];

#[test]
fn a_teachers_answers_are_shared_between_runs_to_the_same_bits() {
    let place = Place::new();
    let with = |dir: &str, more: &[&str]| {
        place.train(dir, &[&EPOCHS[..], &["--soft-labels", "kept"], more].concat()).ok()
    };
    place.train("plain", &EPOCHS).ok();
    let first = with("first", &[]);
    let again = with("again", &[]);
    with("other", &["--seed", "3"]);
    for file in ["recipe.toml", "metrics.jsonl", "best.safetensors", "last.safetensors"] {
        let read = |dir: &str| std::fs::read(place.at(dir).join(file)).unwrap();
        assert!(read("plain") == read("first") && read("plain") == read("again"), "{file} differs");
    }
    assert!(first.err.contains("soft labels  "), "{}", first.err);
    assert!(again.err.contains("soft labels  256 of 256 answers (100.0 %) were in kept/"), "{}", again.err);
    assert_eq!(std::fs::read_dir(place.at("kept")).unwrap().count(), 1, "one teacher, one data set");
}

#[test]
fn a_method_that_asks_its_teacher_elsewhere_refuses_them() {
    let adaad = ["--set", "method={ name = 'adaad', alpha = 1.0, kl_scale = 1.0 }", "--soft-labels", "kept"];
    let did = Place::new().train("run", &adaad);
    assert_eq!(did.code, 2, "{did:#?}");
    assert!(did.err.contains("method adaad asks a teacher at points of the attack"), "{}", did.err);
}

#[test]
fn the_header_of_a_run_is_its_resolved_recipe() {
    let did = Place::new().train("run", &[&EPOCHS[..], &["--set", "data.micro_batch=32"]].concat()).ok();
    let parts = [
        "[method]       alpha 0.8333333333333334 · kl_scale 1.0 · name rslad",
        "[schedule]     drops [1] · epochs 2 · ",
        "augment.crop 1 · augment.flip none",
        "gradients of micro-batches of 32 add up to a batch of 64; batch statistics are of 32 images",
    ];
    for part in parts {
        assert!(did.err.contains(part), "{part} is not in\n{}", did.err);
    }
}
