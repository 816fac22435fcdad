//! The command line.

mod evaluation;
mod grid;
mod weights;

pub(crate) use evaluation::{DiffArgs, EvalAction, EvalArgs, EvalCommand, MergeArgs, TransferArgs};
pub(crate) use grid::{
    CellArgs, GridArgs, GridCommand, GridDir, PlanArgs, RecordArgs, ReportArgs, SubmitArgs,
};
pub(crate) use weights::{ConvertArgs, InspectArgs, Sides, WeightsArgs, WeightsCommand};

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use rslad_data::Split;
use rslad_data::fetch::FETCHABLE;
use rslad_models::DeviceSpec;
use rslad_models::device::Precision;
use serde::Deserialize;
use serde::de::value::{Error as Unknown, StrDeserializer};
use std::path::PathBuf;

/// Trains small adversarially robust image classifiers by distilling robust teachers, attacks them with
/// the field's standard attacks, and shows what happened.
///
/// Without a command it runs `quickstart`: a student that never saw a label resists the attack, on
/// embedded images, in minutes.
#[derive(Debug, Parser)]
#[command(name = "rslad", version, max_term_width = 100, after_help = START, after_long_help = START_AND_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Print results only, no progress
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(crate) quiet: bool,
    /// Threads of numeric work; all processors by default, and no result depends on it
    #[arg(long, global = true, value_name = "N", help_heading = GLOBAL)]
    pub(crate) threads: Option<std::num::NonZeroUsize>,
    /// Where networks run: cpu, cuda or cuda:N; else what a recipe says in its section device, else cpu
    #[arg(long, global = true, value_name = "DEVICE", help_heading = GLOBAL)]
    pub(crate) device: Option<DeviceSpec>,
    /// Log more to standard error (-v: stages, -vv: details); RUST_LOG overrides
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = GLOBAL)]
    pub(crate) verbose: u8,
}

const GLOBAL: &str = "With every command";

macro_rules! start {
    () => {
        "\
Start with:
  rslad                                                 the demonstration
  rslad list recipes                                    what can be trained
  rslad train --recipe digits/resnet18-rslad --out runs/mine
  rslad eval --model runs/mine/last.safetensors --data digits --suite quick --out runs/mine-eval"
    };
}
const START: &str = start!();
const START_AND_CODES: &str = concat!(
    start!(),
    "

Results go to standard output, progress and warnings to standard error: a bar with the time
left on a terminal, a line every 30 s elsewhere. NO_COLOR, RSLAD_THREADS, RSLAD_DEVICE and
RSLAD_EXEC are honored.

Ctrl-C (or SIGTERM, SIGUSR1) saves and stops; the same command run again continues. A second
one ends at once.

Exit codes:
  0  done                                 5   numerical (NaN, infinity)
  2  usage, recipe or suite               6   directory in use
  3  data                                 7   no space, or not writable
  4  weights or checkpoint                75  interrupted, run again
  101  a bug of ours                      130, 138, 143  ended at once by a second signal"
);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Distil a robust student on embedded images, attack it, and show what happened
    ///
    /// RSLAD reads a teacher's answers and no label. On Fashion-MNIST, at two radii, its student is set
    /// beside natural, SAT and TRADES students with 100 labels and a TRADES student with all of them:
    /// each is trained, attacked and put into a report. It is a grid of cells; one that is done is not
    /// done again, so after an interruption the same command continues.
    Quickstart(QuickstartArgs),
    /// Train a student by a recipe; continues by itself when interrupted and run again
    ///
    /// The recipe holds everything that decides a run. In a directory with an unfinished run of the same
    /// recipe it continues there, and ends with the same bytes as if it had never stopped.
    Train(TrainArgs),
    /// Attack a model and measure what stands
    ///
    /// Each attack keeps within an L-infinity ball of radius --eps around the image, and within [0, 1].
    /// Robust accuracy counts the images that are classified correctly both clean and under the attack,
    /// with all images in the denominator.
    Eval(EvalCommand),
    /// Attack models through others: points made on each source, judged on each target
    ///
    /// Attacks that need gradients are made on the sources, on all images, and every target is asked
    /// about the same points. Attacks that ask for logits only, such as Square, run on the targets.
    Transfer(TransferArgs),
    /// Follow a run in the terminal, with curves; reads only
    ///
    /// On a terminal it draws anew every second until the run ends; elsewhere, and for a run that has
    /// ended, it draws once.
    Watch(WatchArgs),
    /// Run a step again that was not finite
    ///
    /// Where the loss or the gradient is not finite, a run ends with exit code 5 and a dump of the step.
    /// This runs it again and says which images and parameters are concerned; it ends with code 5 too,
    /// or with 0 where this build finds everything finite.
    Replay(ReplayArgs),
    /// Look into this machine: processor, kernels, threads, memory, disk, cache, GPU
    Doctor(DoctorArgs),
    /// Make a report of run and evaluation directories: HTML, Markdown, LaTeX, JSON, figures
    ///
    /// Everything below the directories is read: training runs, evaluations, transfer matrices, pictures.
    /// Nothing is computed anew, no model is opened, and what is not there is called not run.
    Report(ReportArgs),
    /// Keep what is small of runs and evaluations, with their report, for a repository
    ///
    /// Recipes, measurements, results, the ends of logs and weights of at most 1 MB are kept; paths of this
    /// machine are cut to their ends. A README is begun, to be finished by hand: run again into the same
    /// directory, the rest is made anew and the README stays.
    Record(RecordArgs),
    /// Plan, do, watch and report a grid: a table as a list of cells
    Grid(GridArgs),
    /// Do one cell of a grid: what every scheduler runs
    ///
    /// A finished cell ends at once, a half-done one goes on, one that another process holds is refused
    /// (exit code 6), and one whose inputs are not finished asks to be run again (75).
    Cell(CellArgs),
    /// Look into weight files, and convert those of others
    Weights(WeightsArgs),
    /// Get data sets, check them, show what is in them
    Data(DataArgs),
    /// What there is: archs, attacks, methods, recipes, suites, datasets, teachers
    List(ListArgs),
    /// Write a completion script for a shell to standard output
    Completions(CompletionsArgs),
    /// Time one thing in this process; prints one line of JSON
    #[command(hide = true)]
    Bench(BenchArgs),
}

impl Command {
    /// What runs where no command is given.
    pub(crate) fn quickstart() -> Self {
        Self::Quickstart(QuickstartArgs { out: PathBuf::from(QUICKSTART_DIR), seed: 0, n: None, set: vec![] })
    }
}

const QUICKSTART_DIR: &str = "runs/quickstart";

#[derive(Debug, Args)]
#[command(after_help = "\
Writes to DIR:
  report.html         everything on a page; report.md, .tex, .json and figures/ beside it
  adversarial.png     what the attack does to images
  grid.toml, cells/   the grid that it is: recipes, weights and evaluations

Examples:
  rslad quickstart --seed 1 --out runs/seed1
  rslad quickstart --set student.width=16 --out runs/wider
  rslad grid status runs/quickstart/grid.toml --out runs/quickstart/cells")]
pub(crate) struct QuickstartArgs {
    /// Where everything is written
    #[arg(long, value_name = "DIR", default_value = QUICKSTART_DIR)]
    pub(crate) out: PathBuf,
    /// The seed of the students and of the attacks
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed, allow_negative_numbers = true)]
    pub(crate) seed: u64,
    /// Only the first so many test images
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) n: Option<u32>,
    /// Change a key of all students' recipes, such as student.width=16; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Writes to DIR, and prints the path of the last weights:
  last.safetensors best.safetensors  weights after the last epoch, and best on held-out images
  recipe.toml                        every key, as resolved
  metrics.jsonl                      each step, epoch and evaluation
  run.json log.jsonl                 version, hashes, times; the log
  state-*.safetensors LATEST.json    what it continues from
  events.out.tfevents.*              curves for TensorBoard
  dump-*.safetensors                 a step that was not finite, for `rslad replay`

Examples:
  rslad list recipes
  rslad train --recipe digits/resnet18-rslad --print > mine.toml
  rslad train --recipe mine.toml --out runs/mine
  rslad train --recipe digits/resnet18-rslad --set student.width=16 --out runs/wider")]
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
    #[arg(long, value_name = "N", value_parser = seed, allow_negative_numbers = true)]
    pub(crate) seed: Option<u64>,
    /// Keep the teacher's answers in this directory and share them between runs, to the same bits
    #[arg(long, value_name = "DIR")]
    pub(crate) soft_labels: Option<PathBuf>,
    /// How much a teacher's answers may take on disk, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096, requires = "soft_labels", value_parser = above_zero, allow_negative_numbers = true)]
    pub(crate) soft_labels_limit: u32,
    /// The run directory
    #[arg(long, value_name = "DIR", required_unless_present = "print")]
    pub(crate) out: Option<PathBuf>,
    /// Print the resolved recipe and stop
    #[arg(long)]
    pub(crate) print: bool,
    /// Print progress and results as JSON lines to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rslad watch runs/mine
  rslad watch runs/mine --json | jq .best")]
pub(crate) struct WatchArgs {
    /// The run directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Draw once, also on a terminal
    #[arg(long)]
    pub(crate) once: bool,
    /// Print the state of the run as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: rslad replay runs/mine/dump-00003-000120.safetensors")]
pub(crate) struct ReplayArgs {
    /// The dump
    #[arg(value_name = "DUMP")]
    pub(crate) dump: PathBuf,
    /// A checkpoint in place of the recipe's teacher; NAME is `teacher` or `second_teacher`
    #[arg(long, value_name = "[NAME=]FILE")]
    pub(crate) teacher: Vec<String>,
    /// Print what was found as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: rslad doctor --dir runs")]
pub(crate) struct DoctorArgs {
    /// Where runs are to be written
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Print what was found as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    pub(crate) command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Download a data set: mirrors in order, broken transfers taken up again, hashes checked
    ///
    /// A file gets its name only when its SHA-256 is that of the published one. ALL_PROXY, HTTPS_PROXY,
    /// HTTP_PROXY and NO_PROXY are honored, and RSLAD_OFFLINE; for the mirror on the hub HF_ENDPOINT, HF_TOKEN
    /// and HF_HUB_OFFLINE. Prints what to write after a recipe or a model to use the data.
    Fetch(FetchArgs),
    /// Read a data set whole and compare it with what was published
    Verify(VerifyArgs),
    /// Show counts, mean and standard deviation per channel, and on request the images
    Info(InfoArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rslad data fetch cifar10
  rslad data fetch cifar100 --dir cifar100 --mirror https://mirror.example.org/cifar")]
pub(crate) struct FetchArgs {
    /// What to get
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(FETCHABLE.iter().map(|set| set.name)))]
    pub(crate) name: String,
    /// Where to put it [default: the cache, $RSLAD_CACHE or as the platform has it]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// An address to ask first; its files have the published names
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A data set, such as cifar10
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Where it lies [default: the cache]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rslad data info digits --sheet digits.png
  rslad data info cifar10:DIR --split train --sheet cifar10.png")]
pub(crate) struct InfoArgs {
    /// A data set, such as cifar10, cifar10:DIR or tensors:FILE
    #[arg(value_name = "SPEC")]
    pub(crate) spec: String,
    /// Where it lies, for a plain name
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Which part the sheet shows: test or train
    #[arg(long, default_value = "test")]
    pub(crate) split: Split,
    /// Write a contact sheet: the first images of each class, as a PNG
    #[arg(long, value_name = "FILE")]
    pub(crate) sheet: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of what
    pub(crate) what: Listed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Listed {
    /// Network architectures, their options and costs
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
    /// Published robust networks, pinned by their hash
    Teachers,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: rslad completions bash > ~/.local/share/bash-completion/completions/rslad")]
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

/// A recipe is TOML, whose whole numbers end at 2^63 - 1.
fn seed(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|n| i64::try_from(*n).is_ok());
    number.ok_or_else(|| "expected a whole number from 0 to 2^63 - 1, such as 7".into())
}

fn above_zero(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|n| *n > 0);
    number.ok_or_else(|| "expected a whole number of at least 1, such as 100".into())
}

fn precision(text: &str) -> Result<Precision, Unknown> {
    Precision::deserialize(StrDeserializer::new(text))
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The architecture
    #[arg(long, value_name = "NAME")]
    pub(crate) arch: String,
    /// Options that differ from the published ones, as TOML
    #[arg(long, value_name = "TOML", default_value = "")]
    pub(crate) options: String,
    /// What is timed
    #[arg(long, value_enum)]
    pub(crate) item: BenchItem,
    /// Images
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) batch: usize,
    /// Their height and width
    #[arg(long, value_name = "PIXELS", default_value_t = 32)]
    pub(crate) side: usize,
    /// What a GPU's convolutions multiply: f32, tf32 or bf16
    #[arg(long, value_name = "NAME", default_value = "f32", value_parser = precision)]
    pub(crate) precision: Precision,
    /// Runs, of which the median counts; one more warms up
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) runs: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum BenchItem {
    /// Logits in eval mode
    Forward,
    /// Logits and the gradient by the images, in eval mode
    Gradient,
    /// Forward, backward and update in train mode
    Train,
    /// A step of RSLAD with a teacher too small to count
    Step,
}

impl BenchItem {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Gradient => "gradient",
            Self::Train => "train",
            Self::Step => "step",
        }
    }
}
