//! `cargo xtask cuda`: looks for what a build with CUDA needs, makes one, tests one.
//!
//! None of it is part of the gate, which has no GPU. A machine without one can still build: the compiler
//! comes from a package registry, and where the linker misses libraries it is content with stubs that have
//! their names and symbols. A binary that was linked so runs wherever the real ones are.

mod build;
mod find;
mod stubs;

pub(crate) use build::{build, test};
use find::{Finding, Found, Here, Standing};

use anyhow::{Context, bail};

/// How to use it.
pub(crate) const HELP: &str = "\
usage: cargo xtask cuda check | build | test

  check               what is here of toolkit, libraries, driver and GPU; what is missing, and how to get it
  build               the release binary with CUDA and cuDNN, stripped, as target/cuda/rslad
  test                the tests, on the GPU that --device names; without one, only builds them

  --cap N             the compute capability to build for, such as 90 for an H100; else that of the GPU here
  --venv DIR          a Python environment that holds the compiler, as `check` says how to make one
  --without-cudnn     leave cuDNN out: correct, and slow in training
  --nccl              sums over several GPUs, one process each; wants an MPI too, see docs/cluster.md
  --stubs             link against stubs where libraries are missing: the binary then runs elsewhere
  --device cuda:N     of `test`: the GPU to test on (cuda:0)
  --jobs N            of cargo

docs/cuda.md has the steps from an empty machine.
";

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    cap: Option<String>,
    venv: Option<String>,
    cudnn: Cudnn,
    nccl: Nccl,
    stubs: Stubs,
    device: String,
    jobs: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cudnn {
    With,
    Without,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nccl {
    With,
    Without,
}

/// What to do where the linker misses libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stubs {
    Make,
    Refuse,
}

impl Options {
    /// # Errors
    /// When a word is not one of the flags, or lacks its value.
    pub(crate) fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self {
            cap: None,
            venv: None,
            cudnn: Cudnn::With,
            nccl: Nccl::Without,
            stubs: Stubs::Refuse,
            device: "cuda:0".into(),
            jobs: None,
        };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let mut value =
                || words.next().map(|v| (*v).to_string()).with_context(|| format!("{word} needs a value"));
            match word {
                "--cap" => options.cap = Some(capability(&value()?)?),
                "--venv" => options.venv = Some(value()?),
                "--device" => options.device = value()?,
                "--jobs" => options.jobs = Some(value()?),
                "--without-cudnn" => options.cudnn = Cudnn::Without,
                "--nccl" => options.nccl = Nccl::With,
                "--stubs" => options.stubs = Stubs::Make,
                _ => bail!("no option `{word}`\n\n{HELP}"),
            }
        }
        Ok(options)
    }

    /// The features of a build, and the libraries that it leaves out.
    fn parts(&self) -> (&'static str, &'static [&'static str]) {
        match (self.cudnn, self.nccl) {
            (Cudnn::With, Nccl::With) => ("cudnn,nccl", &[]),
            (Cudnn::With, Nccl::Without) => ("cudnn", &["nccl"]),
            (Cudnn::Without, Nccl::With) => ("cuda,nccl", &["cudnn"]),
            (Cudnn::Without, Nccl::Without) => ("cuda", &["cudnn", "nccl"]),
        }
    }

    /// What is here, seen with these options.
    fn look(&self) -> Found {
        Found::look(&Here::new(self.venv.as_deref()), self.cap.as_deref())
    }
}

/// `90`, also written `9.0` or `sm_90`.
fn capability(text: &str) -> anyhow::Result<String> {
    let digits: String = text.trim_start_matches("sm_").chars().filter(|c| *c != '.').collect();
    match (50..200).contains(&digits.parse::<u32>().unwrap_or(0)) {
        true => Ok(digits),
        false => bail!("--cap {text}, expected a compute capability such as 80, 86, 89, 90 or 120"),
    }
}

/// `cargo xtask cuda check`.
///
/// # Errors
/// When nothing can be built here.
pub(crate) fn check(options: &Options) -> anyhow::Result<()> {
    let found = options.look();
    for Finding { topic, standing, found, fix } in found.findings(options.parts().1) {
        let mark = if standing == Standing::Here { "ok" } else { "--" };
        println!("{mark}  {topic:<10} {found}");
        if let Some(fix) = fix {
            println!("    {:<10} {fix}", "");
        }
    }
    match found.compiler_missing() {
        None => Ok(()),
        Some(what) => bail!("nothing can be built with CUDA here: no {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_read_and_wrong_ones_named() {
        let options = Options::parse(&["--cap", "9.0", "--stubs", "--without-cudnn", "--venv", "v"]).unwrap();
        assert_eq!((options.cap.as_deref(), options.parts().0), (Some("90"), "cuda"));
        assert_eq!((options.stubs, options.venv.as_deref()), (Stubs::Make, Some("v")));
        let message = |words: &[&str]| Options::parse(words).unwrap_err().to_string();
        assert!(message(&["--cap", "hopper"]).contains("--cap hopper, expected a compute capability"));
        assert!(message(&["--cap"]).contains("--cap needs a value"));
        assert!(message(&["--fast"]).starts_with("no option `--fast`"));
    }
}
