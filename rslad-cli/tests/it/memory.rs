//! A run needs no more memory the longer it lasts.
#![cfg(target_os = "linux")]

use super::support::{Place, lines, until};
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
    let mut running = place.start(&["train", "--recipe", "small.toml", "--out", "run"]);
    // An epoch is two steps, their mean, an evaluation and a state: five lines.
    let mut resident_at = |step: usize| {
        let line = 5 * step / 2;
        until(Duration::from_secs(120), "enough steps", || {
            lines(&place.at("run/metrics.jsonl")) >= line || running.is_over()
        });
        assert!(!running.is_over(), "it ended before step {step}");
        resident(running.id())
    };
    let (early, late) = (resident_at(50), resident_at(500));
    assert!(late <= early + early / 50, "{early} KiB at step 50, {late} KiB at step 500");
}

/// KiB of memory that a process holds.
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
