//! The command line: one variant per verb, each verb's flags beside its code in `command/`.

use clap::{Parser, Subcommand};

use crate::command;

/// Watches what a process does after it loaded a model, and says what is in the model.
#[derive(Debug, Parser)]
#[command(name = "sensor", version = version(), propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Scan(command::scan::Args),
    Doctor(command::doctor::Args),
    Run(command::run::Args),
    #[command(hide = true)]
    Worker(command::worker::Args),
    Status(command::status::Args),
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
