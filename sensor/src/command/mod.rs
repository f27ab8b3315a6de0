//! One file per verb. Each has `Args` and `run(Args) -> ExitCode`.

pub mod completions;
pub mod doctor;
pub mod pin;
pub mod rules;
pub mod run;
pub mod scan;
pub mod status;
pub mod verify;
pub mod worker;

/// How a verb says what it found, where it has no shapes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For a person.
    #[default]
    Human,
    /// One JSON document.
    Json,
}
