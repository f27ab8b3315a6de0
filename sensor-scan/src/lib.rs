//! What is true of a model file: understood format by format, never grepped, never executed.
//!
//! The walk: [`source`] (bounded positioned reads) → [`sniff`] (every reader that would accept the bytes) → [`format`]
//! (one folder per format) → [`finding`]s → [`verdict`] → [`Report`]. [`scan`] is the only door.
//!
//! The crate does no output, knows no network, holds no `unsafe`, and never imports, executes, writes or fetches
//! anything. Every byte that it reads is hostile.

#![forbid(unsafe_code)]

pub mod context;
mod decoded;
pub mod finding;
pub mod format;
pub mod limits;
mod name;
pub mod policy;
mod python;
pub mod report;
pub mod rule;
mod shell;
mod slice;
mod sniff;
pub mod source;
pub mod verdict;
mod window;

use std::time::Instant;

use slice::Counted;

pub use context::{Context, Door, Piece};
pub use finding::{Evidence, Finding, Severity};
pub use limits::Limits;
pub use name::is_model_name;
pub use policy::Policy;
pub use report::{Content, Coverage, Report};
pub use sniff::sniff;
pub use source::Source;
pub use verdict::Verdict;

/// Scans one file. Never fails: what can't be read is a finding, and the file then isn't clean.
pub fn scan(source: &dyn Source, limits: &Limits, policy: &Policy) -> Report {
    let started = Instant::now();
    let counted = Counted::new(source);
    let mut context = Context::new(limits, format::door).judged_by(policy);
    let piece = Piece { source: &counted, start: 0, end: source.len(), member: None };
    let seen = format::content(&piece, &mut context);

    if seen != format::Seen::OTHER && !name::agrees(source.name(), seen.format) {
        let severity = if seen.content == Content::Code { Severity::Low } else { Severity::Info };
        let finding =
            Finding::new("SNS-701", severity, format!("the content is {}, which the name does not say", seen.format));
        context.report(finding.text("name", source.name()));
    }
    if let Some(kind) = counted.failed() {
        let finding = Finding::new("SNS-903", Severity::Low, "the file could not be read to its end");
        context.report(finding.text("reason", kind.to_string()));
    }
    // A pickle anywhere makes it a file that can run code.
    let content = if context.traced().is_empty() { seen.content } else { Content::Code };
    let (complete, all_globals_safe) = (context.complete(), context.all_globals_safe);
    let findings = context.into_findings();
    Report {
        format: seen.format,
        content,
        size: source.len(),
        verdict: Verdict::of(&findings, complete, all_globals_safe, policy),
        findings,
        coverage: Coverage { bytes_read: counted.bytes(), complete },
        all_globals_safe,
        elapsed: started.elapsed(),
    }
}
