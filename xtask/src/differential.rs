//! `cargo xtask differential`: the scanner beside the readers themselves, for longer than a test run may take.

use anyhow::Result;

use crate::tool::{cargo, run as run_command};

/// Compare the scanner with the readers themselves, on many generated programs and archives
///
/// The tests do the same with a few thousand. Here torch and joblib have to take part: SENSOR_PYTHON names an interpreter
/// that has both (`python3 -m venv V && V/bin/pip install torch joblib numpy`); unzip, 7z and bsdtar are installed by
/// `cargo xtask setup --for test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  SENSOR_PYTHON=V/bin/python cargo xtask differential
  SENSOR_PYTHON=V/bin/python cargo xtask differential --programs 1000000")]
pub struct Options {
    /// Pickles that are generated and loaded by every reader; torch and joblib load a tenth
    #[arg(long, default_value_t = 100_000)]
    programs: u64,
    /// ZIP files that are generated and taken apart by every reader
    #[arg(long, default_value_t = 10_000)]
    archives: u64,
}

pub fn run(options: &Options) -> Result<()> {
    let mut command = cargo();
    command
        .args(["test", "--locked", "--release", "-p", "sensor-scan", "--test", "pickle_oracle", "--test", "zip_oracle"])
        .args(["--", "--nocapture"])
        .env("SENSOR_PROGRAMS", options.programs.to_string())
        .env("SENSOR_ARCHIVES", options.archives.to_string())
        .env("SENSOR_READERS", "plain joblib torch-zip torch-legacy");
    run_command(&mut command)
}
