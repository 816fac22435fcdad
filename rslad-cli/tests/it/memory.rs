//! A run needs no more memory the longer it lasts, and its images no more than their bytes.
#![cfg(target_os = "linux")]

use super::support::{MICRO, Place, lines, until};
use std::path::Path;
use std::time::Duration;

/// Two steps an epoch, of a network that takes about a millisecond for one.
const SMALL: &str = r#"
about = "many small steps"
seed = 7
data = { set = "digits", limit = 160, batch = 64, augment = { crop = 1, flip = "horizontal" } }
student = { arch = "tiny_cnn", classes = 10, in_channels = 1, norm = "none", width = 4 }
teacher = { file = "digits-teacher" }
method = { name = "rslad", alpha = 0.8333333333333334, kl_scale = 1.0 }
optim = { lr = 0.01, momentum = 0.9, weight_decay = 2e-4 }
schedule = { epochs = 400, warmup = 0, drops = [], factor = 0.1 }
select = { suite = "select", by = "robust", eps = 0.15, on = "validation", hold_out = 32, every = 1 }

[inner]
eps = 0.15
step_size = "eps/2"
steps = 2
start = "gaussian"
start_std = 0.001
clip_start = "keep"
order = "project_clamp"
view = "frozen"
"#;

#[test]
fn memory_grows_by_at_most_two_percent_from_step_50_to_step_500() {
    let place = Place::new();
    std::fs::write(place.at("small.toml"), SMALL).unwrap();
    // On one thread: another has scratch of its own, which it touches when it first gets to work, late on a
    // busy machine.
    let mut running = place.start(&["--threads", "1", "train", "--recipe", "small.toml", "--out", "run"]);
    // An epoch is two steps, their mean, an evaluation and a state: five lines. What the allocator holds at
    // one moment says little, so the median of the moments within fifty steps is compared.
    let mut resident_between = |from: usize, to: usize| {
        let written = || lines(&place.at("run/metrics.jsonl"));
        until(Duration::from_secs(120), "enough steps", || written() >= 5 * from / 2 || running.is_over());
        let mut seen = vec![];
        while written() < 5 * to / 2 {
            assert!(!running.is_over(), "it ended before step {to}");
            seen.push(kilobytes("VmRSS", running.id()));
            std::thread::sleep(Duration::from_millis(5));
        }
        seen.sort_unstable();
        seen[seen.len() / 2]
    };
    let (early, late) = (resident_between(50, 100), resident_between(450, 500));
    assert!(late <= early + early / 50, "{early} KiB around step 75, {late} KiB around step 475");
}

/// The largest resident memory of the whole process, from its start through reading the files to the middle of
/// an epoch: 150 MiB of images, 12 of the program, the rest a narrow network's on a batch of 32.
#[test]
fn training_streams_from_the_whole_of_cifar10_within_200_megabytes() {
    let place = Place::new();
    let record =
        |i: usize| [vec![(i % 10) as u8], (0..3072).map(|at| (at / 12 + i * 7) as u8).collect()].concat();
    let records: Vec<u8> = (0..10_000).flat_map(|i| record(i % 256)).collect();
    for batch in 1..=5 {
        std::fs::write(place.at(&format!("data_batch_{batch}.bin")), &records).unwrap();
    }
    let cifar = ["--data", "cifar10:.", "--set", "student.in_channels=3", "--set", "data.augment.crop=4"];
    let whole = ["--set", "data.augment.flip=horizontal", "--set", "data.limit=0", "--set", "data.batch=32"];
    let natural = ["--threads", "1", "train", "--recipe", "digits/resnet18-natural", "--out", "run"];
    let mut running = place.start(&[&natural[..], &MICRO, &cifar, &whole].concat());
    let written = || lines(&place.at("run/metrics.jsonl"));
    until(Duration::from_secs(120), "a hundred steps", || written() >= 100 || running.is_over());
    assert!(!running.is_over(), "it ended before step 100");
    let (most, now) = (kilobytes("VmHWM", running.id()), kilobytes("VmRSS", running.id()));
    assert!(now > 150_000, "{now} KiB: the images are not all there, so this measures nothing");
    assert!(1024 * most <= 200_000_000, "{most} KiB at most, {now} KiB now");
}

/// A line of what the system says of a process.
fn kilobytes(name: &str, id: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
