//! A state that was damaged after it was written: the run goes on from the one before, to the same bytes.

use super::{assert_same, names, stopped};
use crate::common::micro::{Log, train_in};
use rslad_distill::Outcome;
use std::path::Path;

const LATEST: &str = "state-00002-000001.safetensors";

#[test]
fn a_run_with_a_damaged_state_goes_on_from_the_one_before() {
    type Damage = fn(&Path);
    fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
    let cases: [(&str, Damage, u64); 7] = [
        ("a flipped weight", |dir| edit(&dir.join(LATEST), |b| b[2000] ^= 1), 0),
        ("a flipped header", |dir| edit(&dir.join(LATEST), |b| b[9] ^= 1), 0),
        ("half a state", |dir| edit(&dir.join(LATEST), |b| b.truncate(b.len() / 2)), 0),
        ("an empty state", |dir| edit(&dir.join(LATEST), Vec::clear), 0),
        ("no state", |dir| std::fs::remove_file(dir.join(LATEST)).unwrap(), 0),
        ("half a pointer", |dir| edit(&dir.join("LATEST.json"), |b| b.truncate(9)), 1),
        ("no pointer", |dir| std::fs::remove_file(dir.join("LATEST.json")).unwrap(), 1),
    ];
    for (what, damage, steps_done) in cases {
        let (whole, dir) = stopped();
        assert!(names(dir.path()).contains(&"state-00002-000000.safetensors".to_string()));
        damage(dir.path());
        let mut log = Log::default();
        assert_eq!(train_in(dir.path(), &whole.recipe, &whole.inputs, &mut log), Outcome::Finished);
        assert_eq!((log.beginnings[0].epoch, log.beginnings[0].steps_done), (2, steps_done), "{what}");
        assert_same(what, dir.path(), whole.dir.path());
        assert_eq!(names(dir.path()).len(), names(whole.dir.path()).len(), "{what}: two states are kept");
    }
}
