//! `cargo xtask`: the project's chores as a small program, the same on every machine.
//!
//! It parses, matches and runs. It has no Cargo edge to the other crates of the workspace and
//! builds in seconds, so that asking for a check never waits for the code that is checked.
#![forbid(unsafe_code)]

mod bench;
mod binary;
mod ci;
mod cluster;
mod cuda;
mod recipes;
mod reproduce;
mod tidy;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

const HELP: &str = "\
usage: cargo xtask COMMAND

  ci             every check of the gate, from the cheapest to the dearest
  ci --full      and those of features that the binary leaves out
  reproduce      a table of the paper: `cargo xtask reproduce cifar100`; without a table, how
  cluster test   grids and training on Slurm, GNU parallel and Open MPI, where they are installed
  cuda           what a build for GPUs needs and lacks, and such a build: `cargo xtask cuda help`
  tidy           the invariants a script can check: arrows, pins, unsafe, links, file sizes
  tidy --tests   how many tests each crate has; red where it is none (builds the tests)
  recipes        write the recipes that are composed of parts; tidy compares them
  bench          times, alone or in turn with PyTorch or another revision; `bench --help` says more
  help           this text
";

/// A bad command line, as in the `rslad` binary.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["reproduce", rest @ ..] = args.as_slice() {
        return match root().and_then(|root| reproduce::run(&root, rest)) {
            Ok(code) => ExitCode::from(code),
            Err(error) => failed(&error),
        };
    }
    let done = match args.as_slice() {
        ["ci"] => root().and_then(|root| ci::run(&root, ci::Extent::Usual)),
        ["ci", "--full"] => root().and_then(|root| ci::run(&root, ci::Extent::Full)),
        ["tidy"] => root().and_then(|root| tidy::run(&root)),
        ["recipes"] => root().and_then(|root| recipes::write(&root)),
        ["tidy", "--tests"] => root().and_then(|root| tidy::test_count::run(&root)),
        ["cluster", "test", engines @ ..] => root().and_then(|root| cluster::test(&root, engines)),
        ["cluster", ..] => {
            print!("{}", cluster::HELP);
            Ok(())
        }
        ["cuda", "check", options @ ..] => {
            cuda::Options::parse(options).and_then(|options| cuda::check(&options))
        }
        ["cuda", command @ ("build" | "test"), options @ ..] => cuda::Options::parse(options)
            .and_then(|options| root().map(|root| (root, options)))
            .and_then(|(root, options)| match *command {
                "build" => cuda::build(&root, &options),
                _ => cuda::test(&root, &options),
            }),
        ["cuda", ..] => {
            print!("{}", cuda::HELP);
            Ok(())
        }
        ["bench", "--help" | "-h"] => {
            print!("{}", bench::HELP);
            Ok(())
        }
        ["bench", options @ ..] => bench::Options::parse(options)
            .and_then(|options| root().and_then(|root| bench::run(&root, &options))),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("xtask: no command `{}`\n\n{HELP}", args.join(" "));
            return ExitCode::from(USAGE);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("xtask: {error:#}");
    ExitCode::FAILURE
}

/// The repository's root. Cargo names the manifest when it runs us, which stays right for two
/// checkouts that share a target directory; the path known at compile time would not.
fn root() -> anyhow::Result<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").context("not run by cargo; write `cargo xtask`")?;
    let root = PathBuf::from(manifest).parent().context("xtask has no parent folder")?.to_path_buf();
    Ok(root)
}
