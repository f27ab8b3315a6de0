//! `cargo xtask bench`: what the sensor costs, at its start and while it runs, and what it bears.

mod flood;
pub mod overhead;
mod scan;
mod start;

use anyhow::Result;

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
