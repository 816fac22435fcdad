//! `rslad completions`.

use crate::args::{Cli, CompletionsArgs};
use clap::CommandFactory;
use std::io::Write;

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = vec![]; // clap's writer panics where nobody reads any more
    clap_complete::generate(args.shell, &mut Cli::command(), "rslad", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}
