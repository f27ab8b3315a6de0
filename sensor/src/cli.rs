//! The command line: one variant per verb, each verb's flags beside its code in `command/`.

use std::sync::LazyLock;

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
    Pin(command::pin::Args),
    Verify(command::verify::Args),
    Rules(command::rules::Args),
    Doctor(command::doctor::Args),
    Run(command::run::Args),
    #[command(hide = true)]
    Worker(command::worker::Args),
    Status(command::status::Args),
    Completions(command::completions::Args),
    Man(command::completions::ManArgs),
}

/// Names what has to agree between a sensor, its kernel half and its rules.
fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let (version, rules) = (env!("CARGO_PKG_VERSION"), env!("SENSOR_RULES_REVISION"));
        format!("{version} (ABI {}, rules {rules})", crate::watch::ABI_VERSION)
    });
    &VERSION
}
