//! The `rslad` command: trains small robust image classifiers, attacks them, shows what happened.
//!
//! Parse, call, print: no tensor arithmetic and no hyper-parameter lives here.
#![forbid(unsafe_code)]

mod args;
mod chart;
mod commands;
mod device;
mod evaluation;
mod exit;
mod grid;
mod inputs;
mod interrupt;
mod journal;
mod logging;
mod look;
mod model_cost;
mod output;
mod parts;
mod per_example;
mod picture;
mod progress;
mod ranks;
mod record;
mod report;
mod result_file;
mod run_info;
mod say;
mod suite;
mod table;
mod transfer_file;
mod weight_files;

use args::{Cli, Command};
use clap::Parser;
use rslad_models::{DeviceSpec, Engine};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.verbose);
    if let Some(threads) = cli.threads.or_else(|| Some(Engine::from_environment().ok()?.threads)) {
        Engine::set_threads(threads);
    }
    cli.device.into_iter().for_each(DeviceSpec::set);
    let command = cli.command.unwrap_or_else(Command::quickstart);
    let result = match command {
        Command::Quickstart(args) => commands::quickstart::run(&args, cli.quiet),
        Command::Train(args) => commands::train::run(&args, cli.quiet),
        Command::Eval(args) => commands::eval::run(&args, cli.quiet),
        Command::Watch(args) => commands::watch::run(&args),
        Command::Replay(args) => commands::replay::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Transfer(args) => commands::transfer::run(&args, cli.quiet),
        Command::Report(args) => commands::report::run(&args),
        Command::Record(args) => commands::record::run(&args),
        Command::Grid(args) => commands::grid::run(&args, cli.quiet),
        Command::Cell(args) => commands::cell::run(&args, cli.quiet),
        Command::Weights(args) => commands::weights::run(&args),
        Command::Data(args) => commands::data::run(&args, cli.quiet),
        Command::List(args) => commands::list::run(&args),
        Command::Completions(args) => commands::completions::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if exit::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if exit::is_told_by_another(&error) => ExitCode::from(exit::code(&error)),
        Err(error) => {
            say::note(format!("error: {}", exit::describe(&error)));
            ExitCode::from(exit::code(&error))
        }
    }
}
