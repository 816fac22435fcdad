//! A process that dies, or a disk that fills up, at any point of any write.

use super::{Undisturbed, assert_same, names, undisturbed};
use crate::common::micro::{inputs, micro, train_in};
use rslad_distill::{Error, Outcome, Recipe, RunDir, train};
use rslad_models::durable::{self, Point};
use std::cell::Cell;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

/// Where this test is run again as the process that dies: at which point, and where.
const DIE_AT: &str = "RSLAD_TEST_DIE_AT";
const DIE_IN: &str = "RSLAD_TEST_DIE_IN";

fn recipe() -> Recipe {
    micro(&[("schedule.epochs", "2"), ("inner.steps", "1")])
}

/// The points of all writes of a run, in order, with the files.
fn points() -> (Undisturbed, Vec<(String, Point)>) {
    let points = Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = Rc::clone(&points);
    let watched = durable::watch(move |path, point| {
        seen.borrow_mut().push((path.file_name().unwrap().to_str().unwrap().to_string(), point));
        Ok(())
    });
    let whole = undisturbed(recipe());
    drop(watched);
    (whole, points.take())
}

#[test]
fn a_run_killed_at_any_point_of_any_write_ends_with_the_same_bytes() {
    if let (Ok(at), Ok(path)) = (std::env::var(DIE_AT), std::env::var(DIE_IN)) {
        die(at.parse().unwrap(), Path::new(&path));
    }
    let (whole, points) = points();
    assert!(points.len() > 40, "{points:?}");
    for (n, (file, point)) in points.iter().enumerate() {
        let what = format!("killed at {point:?} of {file}");
        let dir = tempfile::tempdir().unwrap();
        let test = "resume::killed::a_run_killed_at_any_point_of_any_write_ends_with_the_same_bytes";
        let mut victim = Command::new(std::env::current_exe().unwrap());
        victim.args(["--exact", test, "--nocapture"]).env(DIE_AT, n.to_string()).env(DIE_IN, dir.path());
        let did = victim.output().unwrap();
        assert_eq!(did.status.code(), None, "{what}: it did not die: {did:?}");
        let outcome = train_in(dir.path(), &whole.recipe, &whole.inputs, &mut ());
        assert_ne!(outcome, Outcome::Stopped, "{what}"); // past its last point it is already finished
        assert_same(&what, dir.path(), whole.dir.path());
        assert_eq!(names(dir.path()), names(whole.dir.path()), "{what}");
    }
}

/// Trains, and dies at the n-th point without another word.
fn die(n: usize, path: &Path) -> ! {
    let recipe = recipe();
    let inputs = inputs(&recipe);
    let left = Cell::new(n);
    let _watched = durable::watch(move |_, _| {
        if left.get() == 0 {
            std::process::abort();
        }
        left.set(left.get() - 1);
        Ok(())
    });
    train_in(path, &recipe, &inputs, &mut ());
    panic!("a run has more than {n} points");
}

#[test]
fn a_disk_that_fills_up_at_any_point_of_any_write_costs_nothing_but_time() {
    let (whole, points) = points();
    for (n, (file, point)) in points.iter().enumerate() {
        let what = format!("full at {point:?} of {file}");
        let dir = tempfile::tempdir().unwrap();
        let left = Cell::new(n);
        let watched = durable::watch(move |_, _| {
            left.set(left.get().wrapping_sub(1));
            if left.get() == usize::MAX { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        });
        let error = RunDir::open(dir.path(), &whole.recipe)
            .and_then(|held| train(&whole.recipe, &whole.inputs, &held, &mut (), &AtomicBool::new(false)))
            .unwrap_err();
        drop(watched);
        assert!(matches!(error, Error::Model(rslad_models::Error::Write { .. })), "{what}: {error:?}");
        let message = error.to_string();
        assert!(message.contains(file) && message.contains("cannot write "), "{what}: {message}");
        let outcome = train_in(dir.path(), &whole.recipe, &whole.inputs, &mut ());
        assert_ne!(outcome, Outcome::Stopped, "{what}"); // past its last point it is already finished
        assert_same(&what, dir.path(), whole.dir.path());
    }
}
