//! The command line of weight files.

use super::key_value;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct WeightsArgs {
    #[command(subcommand)]
    pub(crate) command: WeightsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WeightsCommand {
    /// Show what files hold: format, architecture, making, costs, layers
    ///
    /// Reads checkpoints of rslad, safetensors state dicts and what PyTorch saved (.pt, .pth, .tar), and
    /// runs no code of theirs. Where neither the file nor a flag says the architecture, it is recognized
    /// from names and shapes.
    Inspect(InspectArgs),
    /// Write state dicts of others as checkpoints of rslad
    ///
    /// Strips wrappers' prefixes, says what it leaves out, and writes architecture, normalization and the
    /// hash of the source into the metadata, so that no flag is needed again.
    Convert(ConvertArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rslad weights inspect runs/mine/best.safetensors runs/mine/last.safetensors
  rslad weights inspect model_cifar_wrn.pt
  rslad weights inspect resnet.pt --arch resnet18 --arch-set norm=cifar10")]
pub(crate) struct InspectArgs {
    /// The weight files
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The architecture, for state dicts, which do not say it
    #[arg(long, value_name = "NAME")]
    pub(crate) arch: Option<String>,
    /// An option of that architecture where it differs from the published network, such as width=8
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value, requires = "arch")]
    pub(crate) arch_set: Vec<(String, String)>,
    /// The image size that costs and shapes are shown for
    #[arg(long, value_name = "HEIGHTxWIDTH", default_value = "32x32", value_parser = sides)]
    pub(crate) image: Sides,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The normalization that a network was trained under leaves no trace in its names and shapes. A
file that holds it as tensors (mean and std, mu and sigma) is believed; otherwise say it, or the
one that was published for the architecture is taken, and said.

Examples:
  rslad weights convert model_cifar_wrn.pt --out teachers/trades.safetensors
  rslad weights convert a.pth b.pth --arch resnet18 --arch-set norm=cifar10 --out converted")]
pub(crate) struct ConvertArgs {
    /// The state dicts
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The architecture; without it, it is recognized
    #[arg(long, value_name = "NAME")]
    pub(crate) arch: Option<String>,
    /// An option of the architecture, such as norm=cifar10
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) arch_set: Vec<(String, String)>,
    /// A file in .safetensors for one FILE, else a directory
    #[arg(long, value_name = "PATH")]
    pub(crate) out: PathBuf,
}

/// The sides of an image in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sides {
    pub(crate) height: usize,
    pub(crate) width: usize,
}

fn sides(text: &str) -> Result<Sides, String> {
    let side = |part: &str| part.parse().ok().filter(|n| (1..=4096).contains(n));
    let sides = text.split_once('x').and_then(|(h, w)| Some(Sides { height: side(h)?, width: side(w)? }));
    sides.ok_or_else(|| "expected two sides of 1 to 4096 pixels, such as 32x32".into())
}
