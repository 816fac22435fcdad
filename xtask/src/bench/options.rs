//! The command line of `cargo xtask bench`.

use anyhow::{Context, bail};

pub(crate) const HELP: &str = "\
usage: cargo xtask bench [OPTION VALUE]...

  --only TEXT       cells whose label holds this, such as `resnet18 b32` or `gradient`
  --pairs N         how often each cell is measured, in turn with the others (5)
  --runs N          runs inside a process, of which the median counts (5)
  --threads N       of every program (2)
  --device NAME     of every program: cpu or cuda:N (cpu)
  --precision NAME  of rslad's convolutions on a GPU: f32, tf32 or bf16 (f32)
  --python PATH     a Python that has torch: its times beside ours, and PyTorch / rslad
  --modes LIST      of PyTorch: eager, compile, tf32, bf16 (eager)
  --layouts WHICH   of PyTorch: channels_last, or both (channels_last)
  --against REV     another revision of rslad, built in a worktree under target/bench
  --roof GFLOPS     the machine's multiply-adds, measured: the share of it in a last column
  --under COMMAND   runs every process under this, such as `chrt -r 10`
  --save FILE       all figures as JSON
";

/// What was asked for.
pub(crate) struct Options {
    pub(crate) only: Option<String>,
    pub(crate) pairs: u32,
    pub(crate) runs: u32,
    pub(crate) threads: u32,
    pub(crate) device: String,
    pub(crate) precision: String,
    pub(crate) python: Option<String>,
    pub(crate) modes: Vec<String>,
    pub(crate) both_layouts: bool,
    pub(crate) against: Option<String>,
    pub(crate) roof: Option<f64>,
    pub(crate) under: Vec<String>,
    pub(crate) save: Option<String>,
}

impl Options {
    /// Reads `--name value` pairs.
    ///
    /// # Errors
    /// When an option is unknown, lacks its value, or has one outside its domain.
    pub(crate) fn parse(args: &[&str]) -> anyhow::Result<Self> {
        let mut o = Self {
            only: None,
            pairs: 5,
            runs: 5,
            threads: 2,
            device: "cpu".into(),
            precision: "f32".into(),
            python: None,
            modes: vec!["eager".into()],
            both_layouts: false,
            against: None,
            roof: None,
            under: Vec::new(),
            save: None,
        };
        for pair in args.chunks(2) {
            let &[name, value] = pair else { bail!("`{}` needs a value", pair[0]) };
            let number = || value.parse().ok().filter(|&n: &u32| n > 0);
            let number =
                || number().with_context(|| format!("`{name}` is `{value}`, expected a number from 1"));
            match name {
                "--only" => o.only = Some(value.into()),
                "--pairs" => o.pairs = number()?,
                "--runs" => o.runs = number()?,
                "--threads" => o.threads = number()?,
                "--device" => o.device = value.into(),
                "--precision" => o.precision = value.into(),
                "--python" => o.python = Some(value.into()),
                "--modes" => o.modes = value.split(',').map(String::from).collect(),
                "--layouts" => o.both_layouts = value == "both",
                "--against" => o.against = Some(value.into()),
                "--roof" => o.roof = Some(value.parse().context("`--roof` is a number of GFLOP/s")?),
                "--under" => o.under = value.split_whitespace().map(String::from).collect(),
                "--save" => o.save = Some(value.into()),
                _ => bail!("no option `{name}`\n\n{HELP}"),
            }
        }
        Ok(o)
    }
}
