//! The command line of evaluations: one, its parts put together, two compared, and transfer.

use super::{above_zero, key_value, seed};
use crate::result_file::{Shard, parse_radius};
use clap::{ArgGroup, Args, Subcommand};
use rslad_attacks::Linf;
use rslad_data::Split;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct EvalCommand {
    #[command(subcommand)]
    pub(crate) action: Option<EvalAction>,
    // No `flatten` within: through one, clap does not see that these are given.
    #[command(flatten)]
    pub(crate) attack: Option<EvalArgs>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvalAction {
    /// Put the parts of a sharded evaluation together
    Merge(MergeArgs),
    /// Compare two models on the same images: where they differ, and whether that could be chance
    Diff(DiffArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  for i in 1 2 3; do
    rslad eval --model m.safetensors --data digits --suite autoattack --shard $i/3 --out runs/part$i
  done
  rslad eval merge runs/part1 runs/part2 runs/part3 --out runs/whole")]
pub(crate) struct MergeArgs {
    /// The directories of all parts
    #[arg(value_name = "DIR", required = true)]
    pub(crate) dirs: Vec<PathBuf>,
    /// Where the whole is written
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: rslad eval diff runs/mine-eval runs/theirs-eval")]
pub(crate) struct DiffArgs {
    /// The directory of an evaluation
    #[arg(value_name = "A")]
    pub(crate) first: PathBuf,
    /// The directory of another, on the same images
    #[arg(value_name = "B")]
    pub(crate) second: PathBuf,
    /// Also write all of it as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Writes to DIR, and prints as a table for each attack:
  transfer.json                      accuracy of every target on the points of every source
  suite.toml                         the attacks in full

Example:
  rslad transfer --source surrogate.safetensors --target a.safetensors --target b.safetensors \\
                 --data digits --suite paper-blackbox --out runs/transfer")]
pub(crate) struct TransferArgs {
    /// The weights that points are made on: a checkpoint of rslad; may be repeated
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) source: Vec<PathBuf>,
    /// The weights that are attacked with them; may be repeated
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) target: Vec<PathBuf>,
    /// The data: a name from `rslad list datasets`, some with a place, such as cifar10:DIR
    #[arg(long, value_name = "SPEC")]
    pub(crate) data: String,
    /// Which part of it: test or train
    #[arg(long, default_value = "test")]
    pub(crate) split: Split,
    /// Only the first so many images
    #[arg(long, value_name = "N", value_parser = above_zero, allow_negative_numbers = true)]
    pub(crate) n: Option<u32>,
    /// A suite of attacks by name or TOML file, such as paper-blackbox
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) suite: String,
    /// The radius, such as 8/255
    #[arg(long, value_name = "RADIUS", value_parser = parse_radius, allow_hyphen_values = true, default_value = "8/255")]
    pub(crate) eps: Linf,
    /// The seed of the attacks
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed, allow_negative_numbers = true)]
    pub(crate) seed: u64,
    /// Images at a time; changes speed and memory, never a result
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = above_zero, allow_negative_numbers = true)]
    pub(crate) batch_size: u32,
    /// Where the files are written
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("attacks").required(true).multiple(true).args(["suite", "attack"])))]
#[command(after_help = "\
Writes to DIR, and prints as a table:
  result.json                        accuracies with 95 % Wilson intervals, what each attack of an
                                     ensemble left standing, checks of whether to trust them
  per_example.safetensors            what became of each image
  suite.toml                         the attacks in full
  journal.*                          while it runs: what is decided; the same command goes on there

Examples:
  rslad eval --model runs/mine/best.safetensors --data digits --suite quick --out runs/mine-eval
  rslad eval --model runs/mine/best.safetensors --data digits --attack fgsm --attack pgd \\
             --eps 0.1 --n 100 --out runs/mine-eval-0.1
  rslad eval --model resnet.safetensors --arch resnet18 --arch-set width=8 --data digits \\
             --suite quick --out runs/theirs")]
pub(crate) struct EvalArgs {
    /// The weights: a checkpoint of rslad, a pinned teacher, or with --arch any state dict (.pt, .pth,
    /// .tar, .safetensors)
    #[arg(long, value_name = "FILE")]
    pub(crate) model: PathBuf,
    /// The architecture, for files that do not say it
    #[arg(long, value_name = "NAME")]
    pub(crate) arch: Option<String>,
    /// An option of that architecture where it differs from the published network, such as width=8
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value, requires = "arch")]
    pub(crate) arch_set: Vec<(String, String)>,
    /// A surrogate: the points of attacks that need gradients are made on it, and judged on the model
    #[arg(long, value_name = "FILE")]
    pub(crate) source: Option<PathBuf>,
    /// The data: a name from `rslad list datasets`, some with a place, such as cifar10:DIR
    #[arg(long, value_name = "SPEC")]
    pub(crate) data: String,
    /// Which part of it: test or train
    #[arg(long, default_value = "test")]
    pub(crate) split: Split,
    /// Only the first so many images
    #[arg(long, value_name = "N", value_parser = above_zero, allow_negative_numbers = true)]
    pub(crate) n: Option<u32>,
    /// A suite of attacks by name or TOML file; may be repeated
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) suite: Vec<String>,
    /// One attack with its usual constants; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) attack: Vec<String>,
    /// The radius, such as 8/255; without it the one the checkpoint was selected at, else 8/255
    #[arg(long, value_name = "RADIUS", value_parser = parse_radius, allow_hyphen_values = true)]
    pub(crate) eps: Option<Linf>,
    /// The same at several radii, such as 0,2/255,4/255,8/255: a directory for each, and curve.json
    #[arg(long, value_name = "LIST", value_parser = parse_radius, value_delimiter = ',', conflicts_with = "eps")]
    pub(crate) eps_sweep: Vec<Linf>,
    /// Only one of so many equal parts of the images, such as 2/5; `rslad eval merge` puts them together
    #[arg(long, value_name = "I/N", conflicts_with = "eps_sweep")]
    pub(crate) shard: Option<Shard>,
    /// The seed of the attacks
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed, allow_negative_numbers = true)]
    pub(crate) seed: u64,
    /// Images at a time; changes speed and memory, never a result
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = above_zero, allow_negative_numbers = true)]
    pub(crate) batch_size: u32,
    /// Also write the adversarial images (f32) to per_example.safetensors
    #[arg(long)]
    pub(crate) save_adversarial: bool,
    /// Where the files of the evaluation are written
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}
