//! The project's chores, one file per verb. `cargo xtask VERB --help` says what each needs and does.

mod build_ebpf;
mod stamp;
mod tool;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    BuildEbpf(build_ebpf::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::BuildEbpf(options) => build_ebpf::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
