//! Killed with `kill -9` at random times, and run again until it is done: the same bytes as if left alone.

use super::support::{Pauses, Place, train_args};
use std::time::{Duration, Instant};

const EPOCHS: [&str; 2] = ["--set", "schedule.epochs=6"];

#[test]
fn a_run_killed_at_random_times_ends_with_the_same_bytes() {
    let kills = if std::env::var_os("RSLAD_SLOW_TESTS").is_some() { 200 } else { 20 };
    let place = Place::new();
    let clock = Instant::now();
    place.train("undisturbed", &EPOCHS).ok();
    let whole = clock.elapsed();
    let (mut pauses, mut killed, mut runs) = (Pauses::new(7), 0, 0);
    while killed < kills {
        runs += 1;
        let dir = format!("run-{runs}");
        let args = train_args(&dir, &EPOCHS);
        loop {
            let mut running = place.start(&args);
            let (clock, pause) = (Instant::now(), pauses.below(whole));
            while clock.elapsed() < pause && !running.is_over() {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !running.is_over() && killed < kills {
                running.kill();
                killed += 1;
                continue;
            }
            let did = running.did();
            assert_eq!(did.code, 0, "{did:#?}");
            break;
        }
        for file in ["recipe.toml", "metrics.jsonl", "best.safetensors", "last.safetensors", "LATEST.json"] {
            let read = |dir: &str| std::fs::read(place.at(dir).join(file)).unwrap();
            assert!(read(&dir) == read("undisturbed"), "{file} of {dir} differs after {killed} kills");
        }
        let partial = place.tree().into_iter().filter(|file| file.contains(".partial")).count();
        assert_eq!(partial, 0, "what kills left behind is cleared away");
    }
}
