//! The project's chores, one file per verb. `cargo xtask VERB --help` says what each needs and does.

mod bench;
mod build_ebpf;
mod demo;
mod differential;
mod fuzz;
mod image;
mod peers;
mod setup;
mod stamp;
mod test;
mod tool;
mod vm;

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
    Setup(setup::Options),
    BuildEbpf(build_ebpf::Options),
    Test(test::Options),
    Vm(vm::Options),
    Bench(bench::Options),
    Image(image::Options),
    Demo(demo::Options),
    Fuzz(fuzz::Options),
    Differential(differential::Options),
    Peers(peers::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup(options) => setup::run(&options),
        Verb::BuildEbpf(options) => build_ebpf::run(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Vm(options) => vm::run(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::Image(options) => image::run(&options),
        Verb::Demo(options) => demo::run(&options),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::Differential(options) => differential::run(&options),
        Verb::Peers(options) => peers::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
