//! Steps leave nothing behind: a run of hundreds of epochs must not grow. In a process of its own, so
//! that no other test moves its memory.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

#[allow(dead_code)] // the part of it that trains is used here
#[path = "it/common/micro.rs"]
mod micro;

use micro::{inputs, micro};
use rslad_distill::{Observer, RunDir, observer::StepEvent, train};
use std::sync::atomic::AtomicBool;

/// Reads the resident memory at some steps.
#[derive(Default)]
struct Resident {
    steps: usize,
    kib: Vec<(usize, u64)>,
}

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

impl Observer for Resident {
    fn step(&mut self, _: &StepEvent) {
        self.steps += 1;
        if self.steps.is_multiple_of(20) {
            self.kib.extend(resident_kib().map(|kib| (self.steps, kib)));
        }
    }
}

#[test]
fn sixty_steps_do_not_grow_resident_memory() {
    if resident_kib().is_none() {
        eprintln!("skipped: there is no /proc/self/status to read resident memory from");
        return;
    }
    // The graphs of one step's forwards are some 2 MiB here: 60 that are kept would be 120.
    let recipe = micro(&[
        ("student.width", "8"),
        ("data.limit", "148"),
        ("data.batch", "64"),
        ("schedule.epochs", "40"),
        ("schedule.warmup", "0.0"),
        ("select.every", "40"),
    ]);
    let (dir, mut resident) = (tempfile::tempdir().unwrap(), Resident::default());
    let held = RunDir::open(dir.path(), &recipe).unwrap();
    train(&recipe, &inputs(&recipe), &held, &mut resident, &AtomicBool::new(false)).unwrap();
    let [(20, warm), .., (80, end)] = resident.kib[..] else { panic!("{:?}", resident.kib) };
    assert!(end < warm + 16 * 1024, "resident KiB by step: {:?}", resident.kib);
}
