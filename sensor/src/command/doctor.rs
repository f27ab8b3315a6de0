//! `sensor doctor`: what this host can see and prevent, and why not more.

use std::process::ExitCode;

use crate::watch::load::{Kernel, Wishes};

/// What this host can see and prevent, and why not more.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> ExitCode {
    let wishes = Wishes { candidates_per_s: 0, load_window_ns: 120_000_000_000, without_lsm: false };
    match Kernel::load(wishes, &[(sensor_abi::name::key_of_name(b".pt"), 1)]) {
        Ok((_kernel, _rings, plan)) => {
            for hook in &plan.hooks {
                println!(
                    "{:15} {:?} proven={} lost={:?} why={:?}",
                    hook.event, hook.rung, hook.proven, hook.lost, hook.why_not_better
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sensor: {error}");
            ExitCode::from(2)
        }
    }
}
