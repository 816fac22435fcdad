//! A disk that is full, a directory that cannot be written to, one that is gone: exit code 7 with the
//! path and the bytes, and the last good state as it was.
#![cfg(target_os = "linux")]

use super::support::{Did, Place, lines, skipped, train_args, until};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A file system of its own in a directory, gone again when dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// A file system in memory of this size; nothing where that is not allowed.
    fn tmpfs(test: &str, path: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let options = format!("size={size}");
        if !mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &path) {
            skipped(test, "no file system can be mounted here, which needs root");
            return None;
        }
        Some(Self(path))
    }

    fn remount(&self, options: &str) {
        assert!(mount(&["-o", &format!("remount,{options}")], &self.0));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(args: &[&str], path: &Path) -> bool {
    Command::new("mount").args(args).arg(path).output().is_ok_and(|output| output.status.success())
}

fn assert_no_space(did: &Did, path: &str) {
    assert_eq!(did.code, 7, "{did:#?}");
    let line = did.err.lines().last().unwrap();
    assert!(line.starts_with(&format!("error: {path}")) && line.contains("cannot write "), "{line}");
    assert!(line.contains(" bytes: "), "{line}");
}

fn assert_ends_as_if_left_alone(place: &Place, run: &str, more: &[&str]) {
    place.train(run, more).ok();
    place.train("undisturbed", more).ok();
    for file in ["metrics.jsonl", "best.safetensors", "last.safetensors"] {
        let read = |dir: &str| std::fs::read(place.at(dir).join(file)).unwrap();
        assert!(read(run) == read("undisturbed"), "{file} differs");
    }
}

#[test]
fn a_disk_of_one_megabyte_fills_up_and_the_run_goes_on_once_there_is_room() {
    let place = Place::new();
    let test = "a_disk_of_one_megabyte_fills_up_and_the_run_goes_on_once_there_is_room";
    let Some(disk) = Mounted::tmpfs(test, place.at("disk"), "1m") else { return };
    let more = ["--set", "schedule.epochs=4", "--set", "student.width=16"];
    let did = place.train("disk/run", &more);
    assert_no_space(&did, "disk/run/");
    disk.remount("size=64m");
    assert_ends_as_if_left_alone(&place, "disk/run", &more);
}

#[test]
fn a_disk_that_becomes_read_only_keeps_the_last_good_state() {
    let place = Place::new();
    let test = "a_disk_that_becomes_read_only_keeps_the_last_good_state";
    let Some(disk) = Mounted::tmpfs(test, place.at("disk"), "64m") else { return };
    let running = place.start(&train_args("disk/run", &["--set", "schedule.epochs=100000"]));
    until(Duration::from_secs(60), "an epoch", || lines(&place.at("disk/run/metrics.jsonl")) > 12);
    running.kill();
    disk.remount("ro");
    let did = place.train("disk/run", &["--set", "schedule.epochs=100000"]);
    assert_eq!(did.code, 7, "{did:#?}");
    assert!(did.err.contains("disk/run: cannot write there (Read-only file system"), "{}", did.err);
    disk.remount("rw");
    let running = place.start(&train_args("disk/run", &["--set", "schedule.epochs=100000"]));
    until(Duration::from_secs(60), "the run to go on", || lines(&place.at("disk/run/metrics.jsonl")) > 30);
    running.signal("TERM");
    let did = running.did_within(Duration::from_secs(20));
    assert!(did.code == 75 && did.err.contains("continues in epoch"), "{did:#?}");
}

#[test]
fn a_directory_that_is_removed_ends_the_run_by_name_with_the_bytes() {
    let place = Place::new();
    let running = place.start(&train_args("run", &["--set", "schedule.epochs=100000"]));
    until(Duration::from_secs(60), "an epoch", || lines(&place.at("run/metrics.jsonl")) > 6);
    std::fs::rename(place.at("run"), place.at("elsewhere")).unwrap();
    let did = running.did_within(Duration::from_secs(60));
    assert_no_space(&did, "run/");
    assert!(!place.at("run").exists(), "it is not made again");
    // Moved back, it goes on.
    std::fs::rename(place.at("elsewhere"), place.at("run")).unwrap();
    let running = place.start(&train_args("run", &["--set", "schedule.epochs=100000"]));
    let before = lines(&place.at("run/metrics.jsonl"));
    until(Duration::from_secs(60), "the run to go on", || lines(&place.at("run/metrics.jsonl")) > before + 6);
    running.signal("TERM");
    let did = running.did_within(Duration::from_secs(20));
    assert!(did.code == 75 && did.err.contains("continues in epoch"), "{did:#?}");
}
