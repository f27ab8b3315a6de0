//! The binary: parse, run one verb, turn the result into an exit status.

mod alert;
mod cli;
mod command;
mod config;
pub mod escape;
pub mod event;
mod health;
mod incident;
mod judge;
mod policy;
mod sink;
mod timeline;
mod watch;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Scan(args) => command::scan::run(args),
        cli::Command::Doctor(args) => command::doctor::run(args),
        cli::Command::Run(args) => command::run::run(args),
        cli::Command::Status(args) => command::status::run(args),
    }
}
