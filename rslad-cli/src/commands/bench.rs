//! `rslad bench`: times one thing in one process, for `cargo xtask bench` and comparisons with other
//! libraries run in turn. Hidden, because its answer means something only beside another one.

use crate::args::{BenchArgs, BenchItem};
use crate::{device, say};
use anyhow::Result;
use candle_core::{Device, Tensor};
use rslad_attacks::Draws;
use rslad_attacks::objectives::KlTo;
use rslad_distill::inner::InnerConfig;
use rslad_distill::method::{Method, Progress};
use rslad_distill::methods;
use rslad_distill::optim::Sgd;
use rslad_distill::step::{Players, StepConfig, StepInput, step};
use rslad_models::{ArchSpec, Classifier, Frozen, Network, Objective};
use serde_json::json;
use std::time::Instant;

/// The released RSLAD's, at CIFAR-10's radius.
const INNER: &str = "eps = '8/255'\nstep_size = '2/255'\nsteps = 10\nstart = 'gaussian'\n\
                     start_std = 0.001\nclip_start = 'keep'\norder = 'project_clamp'\nview = 'frozen'";
const METHOD: &str = "name = 'rslad'\nalpha = 0.8333333333333334\nkl_scale = 1.0";

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let idle_kib = memory("VmHWM:");
    let device = device::open(None)?;
    let spec = ArchSpec::published(&args.arch, &args.options.parse()?)?;
    let network = Network::new(&spec, 0)?.moved_to(&device)?.in_precision(args.precision);
    let bench = Bench::new(args, &network)?;
    let mut seconds = bench.seconds(args)?;
    seconds.sort_by(f64::total_cmp);
    let line = json!({
        "arch": args.arch, "options": args.options, "item": args.item.name(), "batch": args.batch,
        "side": args.side, "median_s": seconds[args.runs / 2], "min_s": seconds[0],
        "macs_per_image": network.graph().macs(args.side, args.side)?,
        "peak_mib": memory("VmHWM:") as f64 / 1024.0, "idle_mib": idle_kib as f64 / 1024.0,
    });
    Ok(say::result(line.to_string())?)
}

struct Bench<'n> {
    network: &'n Network,
    x: Tensor,
    target: KlTo,
    labels: Tensor,
    teacher: Frozen, // a tiny one: the step is timed without its teacher
}

impl<'n> Bench<'n> {
    fn new(args: &BenchArgs, network: &'n Network) -> Result<Self> {
        let (channels, classes) = (network.graph().in_channels(), network.graph().n_classes());
        let pattern = |n: usize| (0..n).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect::<Vec<_>>();
        let shape = (args.batch, channels, args.side, args.side);
        let device = network.device();
        let x = Tensor::from_vec(pattern(args.batch * channels * args.side * args.side), shape, device)?;
        let soft = Tensor::from_vec(pattern(args.batch * classes), (args.batch, classes), device)?;
        let tiny = format!("classes = {classes}\nin_channels = {channels}\nwidth = 4");
        let teacher = Network::new(&ArchSpec::published("tiny_cnn", &tiny.parse()?)?, 0)?;
        let teacher = teacher.moved_to(device)?.freeze()?;
        let labels = Tensor::from_vec(vec![0_u32; args.batch], args.batch, device)?;
        Ok(Self { network, x, target: KlTo::new(&soft)?, labels, teacher })
    }

    fn seconds(&self, args: &BenchArgs) -> Result<Vec<f64>> {
        let time = |run: &mut dyn FnMut() -> Result<()>| time(self.network.device(), args.runs, run);
        match args.item {
            BenchItem::Forward => {
                let f = self.network.freeze()?;
                time(&mut || f.logits(&self.x).map(drop).map_err(Into::into))
            }
            BenchItem::Gradient => {
                let f = self.network.freeze()?;
                time(&mut || f.gradient(&self.x, &self.target).map(drop).map_err(Into::into))
            }
            BenchItem::Train => {
                let (mut training, mut sgd) = (self.network.training(), sgd());
                let rows: Vec<u32> = (0..args.batch as u32).collect();
                time(&mut || {
                    let pass = training.forward(&self.x)?;
                    let (_, dlogits) = self.target.value_and_grad(&rows, pass.logits())?;
                    training.backward(pass, &(dlogits / args.batch as f64)?)?;
                    sgd.step(self.network.parameters(), &training.take_gradients()?, LR)?;
                    Ok(())
                })
            }
            BenchItem::Step => self.steps(args.runs),
        }
    }

    fn steps(&self, runs: usize) -> Result<Vec<f64>> {
        let (inner, method): (InnerConfig, Box<dyn Method>) =
            (toml::from_str(INNER)?, methods::build(&METHOD.parse()?).map_err(anyhow::Error::msg)?);
        let mut players = Players::new(self.network, Some(&self.teacher), None)?;
        let mut sgd = sgd();
        let ids: Vec<u64> = (0..self.x.dim(0)? as u64).collect();
        time(self.network.device(), runs, &mut || {
            let draws = Draws::Keyed { seed: 0, epoch: 1 };
            let progress = Progress { epoch: 1, epochs: 1 };
            let (x, y) = (&self.x, &self.labels);
            let input = StepInput { x, y, ids: &ids, soft_labels: None, draws, progress };
            let config = StepConfig { inner: Some(&inner), ..StepConfig::default() };
            let out = step(method.as_ref(), &config, &mut players, &input)?;
            sgd.step(self.network.parameters(), &out.gradients, LR)?;
            Ok(())
        })
    }
}

const LR: f64 = 0.01;

fn sgd() -> Sgd {
    Sgd::new(0.9, 2e-4)
}

/// The seconds of each run, until the device has done it, after one run that is not counted.
fn time(device: &Device, runs: usize, run: &mut dyn FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let mut timed = || {
        let start = Instant::now();
        run()?;
        device.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    };
    timed()?;
    (0..runs).map(|_| timed()).collect()
}

/// A line of this process's memory, in KiB; 0 where the system does not say.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|l| l.strip_prefix(line));
    value.and_then(|v| v.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
