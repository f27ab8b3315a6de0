//! What is true of a model file: understood format by format, never grepped, never executed.
//!
//! The walk: [`source`] (bounded positioned reads) → `sniff` (every reader that would accept the bytes) → `format`
//! (one folder per format) → [`finding`]s → [`verdict`] → [`Report`]. [`scan`] is the only door.
//!
//! The crate does no output, knows no network, holds no `unsafe`, and never imports, executes, writes or fetches
//! anything. Every byte that it reads is hostile.

#![forbid(unsafe_code)]

pub mod context;
pub mod finding;
pub mod format;
pub mod limits;
pub mod report;
pub mod rule;
pub mod source;
pub mod verdict;

pub use context::{Context, Door, Piece};
pub use finding::{Evidence, Finding, Severity};
pub use limits::Limits;
pub use report::{Content, Coverage, Report};
pub use source::Source;
pub use verdict::Verdict;
