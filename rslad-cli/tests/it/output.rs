//! Where words go: results to standard output, progress to standard error, and nobody need read either.

use super::support::{Place, train_args};
use std::fs::File;
use std::process::Stdio;

#[test]
fn nobody_need_read() {
    let place = Place::new();
    for args in [&["list", "archs"][..], &["completions", "bash"], &["list", "methods"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = place.command(args).stdout(writer).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{args:?}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let args = train_args("run", &["--set", "schedule.epochs=1"]);
    let did = place.command(&args).stderr(writer).output().unwrap();
    assert_eq!(did.status.code(), Some(0), "a run goes on when the terminal is gone");
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_written_are_an_error() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let did = Place::new().command(&["list", "suites"]).stdout(full).output().unwrap();
    assert_eq!(did.status.code(), Some(7));
}

#[test]
fn no_escape_codes_reach_a_file() {
    let place = Place::new();
    let did = place.rslad(&[&train_args("run", &["--set", "schedule.epochs=1"])[..], &["-v"]].concat()).ok();
    assert!(did.err.contains("epoch"), "{}", did.err);
    assert!(!did.err.contains('\u{1b}') && !did.out.contains('\u{1b}'), "{did:?}");
}
