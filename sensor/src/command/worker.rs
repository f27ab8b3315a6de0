//! `sensor worker`: the daemon's children (hidden: nothing that a person calls).

use std::process::ExitCode;

use crate::worker::child::{self, check};
use crate::worker::confine::Layers;
use crate::worker::spawn::Role;

/// The daemon's children. They speak a private protocol on standard input.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, clap::Subcommand)]
enum Work {
    /// Find and open files for the scanner.
    Open,
    /// Parse files that the opener hands over.
    Scan,
    /// Read /proc.
    Process,
    /// Lock itself in as ROLE, then try ACT: 10 refused, 11 possible.
    Check {
        role: Role,
        act: check::Act,
        /// Leave the seccomp list off, to see what Landlock and the capabilities hold by themselves.
        #[arg(long)]
        without_seccomp: bool,
        #[arg(long)]
        without_landlock: bool,
    },
}

pub fn run(args: Args) -> ExitCode {
    match args.work {
        Work::Open => child::run(Role::Open),
        Work::Scan => child::run(Role::Scan),
        Work::Process => child::run(Role::Process),
        Work::Check { role, act, without_seccomp, without_landlock } => {
            check::run(role, act, Layers { landlock: !without_landlock, seccomp: !without_seccomp })
        }
    }
}
