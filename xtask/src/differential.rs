//! `cargo xtask differential`: the scanner beside the readers themselves, for longer than a test run may take.

use anyhow::Result;

use crate::tool::{cargo, run as run_command};

/// Compare the scanner with the readers themselves, on many generated programs
///
/// The tests do the same with a few thousand.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask differential\n  cargo xtask differential --programs 1000000")]
pub struct Options {
    /// Pickles that are generated and loaded by every reader
    #[arg(long, default_value_t = 100_000)]
    programs: u64,
}

pub fn run(options: &Options) -> Result<()> {
    let mut command = cargo();
    command
        .args(["test", "--locked", "--release", "-p", "sensor-scan", "--test", "pickle_oracle", "--test", "zip_oracle"])
        .args(["--", "--nocapture"])
        .env("SENSOR_PROGRAMS", options.programs.to_string());
    run_command(&mut command)
}
