//! `cargo xtask bench`: what the sensor costs, at its start and while it runs, and what it bears.

mod flood;
pub mod overhead;
mod scan;
mod start;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::image;
use crate::tool::{as_root, run as run_command};

/// Measure the sensor
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench start\n  cargo xtask bench flood\n  cargo xtask bench overhead\n  cargo xtask bench overhead --check\n  cargo xtask bench scan --corpus ../corpus"
)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Start(start::Options),
    Flood(flood::Options),
    Overhead(overhead::Options),
    Scan(scan::Options),
}

pub fn run(options: &Options) -> Result<()> {
    match &options.what {
        What::Start(options) => start::run(options),
        What::Flood(options) => flood::run(options),
        What::Overhead(options) => overhead::run(options),
        What::Scan(options) => scan::run(options),
    }
}

/// The sensor that is measured: the one that is built already, or the static release build.
fn sensor(built: Option<&Path>) -> Result<PathBuf> {
    built.map_or_else(image::build, |sensor| Ok(sensor.to_owned()))
}

/// The same command as root: its name, its own options, and those that are everybody's.
fn again_as_root(words: &[&str], sensor: &Path, json: Option<&Path>) -> Result<()> {
    let mut again = as_root(std::env::current_exe()?);
    again.arg("bench").args(words).arg("--sensor").arg(sensor);
    if let Some(file) = json {
        again.arg("--json").arg(file);
    }
    run_command(&mut again)
}
