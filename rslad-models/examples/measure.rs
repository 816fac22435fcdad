//! Times one thing in one process, for comparisons with other libraries run in turn.
//!
//! `cargo run --release -p rslad-models --example measure -- resnet18 'width = 16' 32 32 gradient 5`
//! takes an architecture, its options, the batch, the image side, one of `forward`, `gradient`, `train`,
//! and the number of runs; prints one JSON line. `RSLAD_EXEC` and `RSLAD_THREADS` choose the executor.

use candle_core::{Device, Tensor};
use rslad_models::{ArchSpec, Classifier, ClosureObjective, Network};
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [arch, options, batch, side, what, runs] = arguments.as_slice() else {
        return Err("expected ARCH OPTIONS BATCH SIDE forward|gradient|train RUNS".into());
    };
    let (batch, side, runs) = (batch.parse()?, side.parse()?, runs.parse()?);
    let network = Network::new(&ArchSpec::published(arch, &options.parse()?)?, 0)?;
    let x = images(batch, network.graph().in_channels(), side)?;
    let mut seconds = time(&network, &x, what, runs)?;
    seconds.sort_by(f64::total_cmp);
    let (median, min) = (seconds[runs / 2], seconds[0]);
    println!(
        "{{\"net\": \"{arch}\", \"options\": {options:?}, \"what\": \"{what}\", \"batch\": {batch}, \"side\": {side}, \
         \"median_s\": {median:.6}, \"min_s\": {min:.6}, \"peak_rss_mib\": {}}}",
        peak_memory().unwrap_or(0) >> 10
    );
    Ok(())
}

fn time(network: &Network, x: &Tensor, what: &str, runs: usize) -> Result<Vec<f64>, Box<dyn Error>> {
    let frozen = network.freeze()?;
    let mut training = network.training();
    let objective = ClosureObjective(|_: &[u32], logits: &Tensor| Ok(logits.sqr()?.sum(1)?));
    let mut run = || -> rslad_models::Result<()> {
        match what {
            "forward" => drop(frozen.logits(x)?),
            "gradient" => drop(frozen.gradient(x, &objective)?),
            _ => {
                let pass = training.forward(x)?;
                let dlogits = pass.logits().clone();
                training.backward(pass, &dlogits)?;
                training.take_gradients()?;
            }
        }
        Ok(())
    };
    run()?;
    let timed = |_| {
        let start = Instant::now();
        run().map(|()| start.elapsed().as_secs_f64())
    };
    Ok((0..runs).map(timed).collect::<Result<_, _>>()?)
}

/// Images without a random number: a fine pattern is as good here.
fn images(batch: usize, channels: usize, side: usize) -> candle_core::Result<Tensor> {
    let n = batch * channels * side * side;
    let values: Vec<f32> = (0..n).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect();
    Tensor::from_vec(values, (batch, channels, side, side), &Device::Cpu)
}

/// The largest resident size of this process in KiB.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
