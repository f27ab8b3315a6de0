//! `sensor scan`: judge model files before anything loads them.

use std::process::ExitCode;

/// Judge model files before anything loads them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files and directories; `-` is standard input.
    #[arg(required = true)]
    pub paths: Vec<std::path::PathBuf>,
}

pub fn run(_args: Args) -> ExitCode {
    ExitCode::from(2)
}
