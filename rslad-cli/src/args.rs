//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use rslad_attacks::Linf;
use rslad_data::Split;
use std::path::PathBuf;

/// Trains small adversarially robust image classifiers by distilling robust teachers, attacks them with
/// the field's standard attacks, and shows what happened.
///
/// Without a command it runs `quickstart`: a natural network falls to the attack, its robustly distilled
/// twin stands, on embedded images, in minutes.
#[derive(Debug, Parser)]
#[command(name = "rslad", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Print results only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Log more to standard error (-v: stages, -vv: details); RUST_LOG overrides
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done · 2 usage or recipe · 3 data · 4 weights or checkpoint · 5 numerical (NaN, infinity)
            6 directory in use · 7 no space or not writable · 75 interrupted after saving, run again
            101 a bug of ours

Start with:  rslad                                        the demonstration
             rslad list recipes                           what can be trained
             rslad train --recipe digits/resnet18-rslad --out runs/mine
             rslad eval --model runs/mine/last.safetensors --data digits --suite quick --out runs/mine-eval";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Distil a robust student on embedded images, attack it, and show what happened
    Quickstart(QuickstartArgs),
    /// Train a student by a recipe; continues by itself when interrupted and run again
    Train(TrainArgs),
    /// Attack a model and measure what stands
    Eval(EvalArgs),
    /// What there is: archs, attacks, methods, recipes, suites, datasets
    List(ListArgs),
    /// Write a completion script for a shell to standard output
    Completions(CompletionsArgs),
}

impl Command {
    /// What runs where no command is given.
    pub(crate) fn quickstart() -> Self {
        Self::Quickstart(QuickstartArgs { out: PathBuf::from(QUICKSTART_DIR), seed: 0 })
    }
}

const QUICKSTART_DIR: &str = "runs/quickstart";

#[derive(Debug, Args)]
pub(crate) struct QuickstartArgs {
    /// Where everything is written
    #[arg(long, value_name = "DIR", default_value = QUICKSTART_DIR)]
    pub(crate) out: PathBuf,
    /// The seed of all four networks and of the attacks
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A recipe holds everything that decides a run; `rslad list recipes` names the embedded ones.\n\
    Example: rslad train --recipe digits/resnet18-rslad --set schedule.epochs=20 --out runs/longer"
)]
pub(crate) struct TrainArgs {
    /// An embedded recipe or a TOML file
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) recipe: String,
    /// Change a key of the recipe, such as student.width=16; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// The data, in place of the recipe's `data.set`
    #[arg(long, value_name = "SPEC")]
    pub(crate) data: Option<String>,
    /// A checkpoint in place of the recipe's teacher; NAME is `teacher` or `second_teacher`
    #[arg(long, value_name = "[NAME=]FILE")]
    pub(crate) teacher: Vec<String>,
    /// The seed, in place of the recipe's
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Where to compute: cpu
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device)]
    pub(crate) device: String,
    /// The run directory
    #[arg(long, value_name = "DIR", required_unless_present = "print")]
    pub(crate) out: Option<PathBuf>,
    /// Print the resolved recipe and stop
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Robust accuracy counts images that are classified correctly clean and under attack, all of n in the\n\
    denominator. Example: rslad eval --model last.safetensors --data digits --suite quick --out runs/eval"
)]
pub(crate) struct EvalArgs {
    /// The weights: a checkpoint of rslad, or with --arch any safetensors state dict
    #[arg(long, value_name = "FILE")]
    pub(crate) model: PathBuf,
    /// The architecture, for files that do not say it
    #[arg(long, value_name = "NAME")]
    pub(crate) arch: Option<String>,
    /// An option of that architecture where it differs from the published network, such as width=8
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value, requires = "arch")]
    pub(crate) arch_set: Vec<(String, String)>,
    /// The data: a name from `rslad list datasets`
    #[arg(long, value_name = "SPEC")]
    pub(crate) data: String,
    /// Which part of it
    #[arg(long, default_value = "test")]
    pub(crate) split: Split,
    /// Only the first so many images
    #[arg(long, value_name = "N")]
    pub(crate) n: Option<usize>,
    /// A suite of attacks by name or TOML file; may be repeated
    #[arg(long, value_name = "NAME|FILE", required_unless_present = "attack")]
    pub(crate) suite: Vec<String>,
    /// One attack with its usual constants; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) attack: Vec<String>,
    /// The radius, such as 8/255; without it the one the checkpoint was selected at, else 8/255
    #[arg(long, value_name = "RADIUS")]
    pub(crate) eps: Option<Linf>,
    /// The seed of the attacks
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Images at a time; changes speed and memory, never a result
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_size: u32,
    /// Also write the adversarial images (f32) to per_example.safetensors
    #[arg(long)]
    pub(crate) save_adversarial: bool,
    /// Where result.json and per_example.safetensors are written
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of what
    pub(crate) what: Listed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Listed {
    /// Network architectures and their options
    Archs,
    /// Attacks and their keys
    Attacks,
    /// Training methods: outer loss, inner loss, keys
    Methods,
    /// Embedded training recipes
    Recipes,
    /// Embedded suites of attacks
    Suites,
    /// Data sets
    Datasets,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err("expected KEY=VALUE, such as schedule.epochs=20".into()),
    }
}

fn device(text: &str) -> Result<String, String> {
    match text {
        "cpu" => Ok(text.into()),
        cuda if cuda == "cuda" || cuda.starts_with("cuda:") => {
            Err("this build has no CUDA support; write cpu".into())
        }
        _ => Err("expected cpu".into()),
    }
}
