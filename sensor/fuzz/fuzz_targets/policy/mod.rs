//! The rooms of `sensor/src/policy` that a policy of `sensor scan` is made of.

#[path = "../../../src/policy/exception.rs"]
pub mod exception;
#[path = "../../../src/policy/program.rs"]
pub mod program;
#[path = "../../../src/policy/severity.rs"]
pub mod severity;
