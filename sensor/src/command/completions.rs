//! `sensor completions`, `sensor man`: what a package installs beside the binary, written by the binary itself.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::Cli;

/// Write shell completions to standard output
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sensor completions bash > /etc/bash_completion.d/sensor
  sensor completions zsh > \"${fpath[1]}/_sensor\"")]
pub struct Args {
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Write a manual page to standard output
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sensor man scan | man -l -
  sensor man scan > /usr/local/share/man/man1/sensor-scan.1")]
pub struct ManArgs {
    /// The verb that it is about; the overview of all verbs where none is named
    verb: Option<String>,
}

pub fn run(args: Args) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sensor", &mut text);
    write(&text)
}

pub fn run_man(args: ManArgs) -> ExitCode {
    let mut command = Cli::command();
    command.build();
    let page = match &args.verb {
        None => Some(command),
        Some(verb) => command.find_subcommand(verb).cloned(),
    };
    let Some(page) = page else {
        eprintln!("sensor: there is no such verb; `sensor --help` lists them");
        return ExitCode::from(2);
    };
    let mut text = Vec::new();
    match clap_mangen::Man::new(page).render(&mut text) {
        Ok(()) => write(&text),
        Err(error) => {
            eprintln!("sensor: the page can't be written: {error}");
            ExitCode::from(2)
        }
    }
}

/// A closed pipe ends the output, not the job.
fn write(text: &[u8]) -> ExitCode {
    let _ = std::io::stdout().write_all(text);
    ExitCode::SUCCESS
}
