//! The binary: parse, run one verb, turn the result into an exit status.

mod cli;
mod command;
mod escape;
pub mod event;
mod open;
mod report;
mod walk;
mod watch;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Scan(args) => command::scan::run(args),
        cli::Command::Doctor(args) => command::doctor::run(args),
    }
}
