//! The binary: parse, run one verb, turn the result into an exit status.

mod alert;
mod cli;
mod command;
mod config;
mod escape;
mod event;
mod hash;
mod health;
mod heap;
mod hub;
mod incident;
mod judge;
mod lock;
mod lookalike;
mod open;
mod policy;
mod report;
mod sink;
mod table;
mod timeline;
mod waiting;
mod walk;
mod watch;
mod worker;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Scan(args) => command::scan::run(args),
        cli::Command::Pin(args) => command::pin::run(args),
        cli::Command::Verify(args) => command::verify::run(args),
        cli::Command::Rules(args) => command::rules::run(args),
        cli::Command::Completions(args) => command::completions::run(args),
        cli::Command::Man(args) => command::completions::run_man(args),
        cli::Command::Doctor(args) => command::doctor::run(args),
        cli::Command::Worker(args) => command::worker::run(args),
        cli::Command::Run(args) => command::run::run(args),
        cli::Command::Status(args) => command::status::run(args),
    }
}
