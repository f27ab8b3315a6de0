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
