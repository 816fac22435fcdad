//! `rslad completions`.

use crate::args::{Cli, CompletionsArgs};
use clap::CommandFactory;

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    clap_complete::generate(args.shell, &mut Cli::command(), "rslad", &mut std::io::stdout());
    Ok(())
}
