//! The rooms of `sensor/src/command/scan` that read text.

#[path = "../../../src/command/scan/list.rs"]
pub mod list;
#[path = "../../../src/command/scan/policy.rs"]
pub mod policy;
