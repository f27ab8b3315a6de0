//! One target: opened safely, scanned, hashed where asked; whatever goes wrong is a line too.

use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use sensor_scan::source::{FileSource, MemorySource};
use sensor_scan::{Content, Coverage, Finding, Limits, Report, Severity, Source, Verdict};

use super::Args;
use super::folder::InFolder;
use crate::hash;
use crate::open::{self, Refused};
use crate::report::Examined;
use crate::walk::Target;

pub struct Outcome {
    pub examined: Examined,
    /// The caller named something that could not be examined.
    pub failed: bool,
}

pub fn target(target: &Target, args: &Args) -> Outcome {
    match target {
        Target::Stdin => stdin(args),
        Target::File { path, named } => file(path, *named, args),
        Target::Skipped { path, why } => unread(path, &format!("skipped: {why}"), false),
        Target::Failed { path, why } => unread(path, &format!("can't be opened: {why}"), true),
    }
}

fn file(path: &Path, named: bool, args: &Args) -> Outcome {
    let opened = match open::regular(path) {
        Ok(opened) => opened,
        Err(Refused::Special(what)) => return unread(path, &format!("skipped: it is {what}"), false),
        Err(Refused::Io(error)) => return unread(path, &format!("can't be opened: {error}"), named),
    };
    let name = path.file_name().unwrap_or_default().as_bytes();
    match FileSource::new(opened, name) {
        Ok(source) => examined(path.as_os_str().as_bytes(), &InFolder::new(source, path), args),
        Err(error) => unread(path, &format!("can't be read: {error}"), named),
    }
}

fn stdin(args: &Args) -> Outcome {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(args.max_stdin.saturating_add(1)).read_to_end(&mut bytes);
    if let Err(error) = read {
        return unread(Path::new("-"), &format!("standard input can't be read: {error}"), true);
    }
    if bytes.is_empty() {
        let title = "standard input is empty: nothing was examined";
        return unread(Path::new("-"), title, true);
    }
    let cut = bytes.len() as u64 > args.max_stdin;
    bytes.truncate(usize::try_from(args.max_stdin).unwrap_or(usize::MAX));
    let mut outcome = examined(b"-", &MemorySource::new(&bytes, b""), args);
    if cut {
        let title = "standard input is longer than --max-stdin: scan a file, or raise it";
        let finding = Finding::new("SNS-901", Severity::Medium, title);
        let report = &mut outcome.examined.report;
        report.findings.push(finding.text("limit", "max_stdin").number("value", args.max_stdin));
        report.coverage.complete = false;
        report.verdict = Verdict::of(&report.findings, false);
        outcome.examined.sha256 = None;
    }
    outcome
}

fn examined(path: &[u8], source: &dyn Source, args: &Args) -> Outcome {
    // A scanner that falls over has said nothing of the file: that is not clean.
    let report = catch_unwind(AssertUnwindSafe(|| sensor_scan::scan(source, &Limits::default())))
        .unwrap_or_else(|_| nothing("the scanner failed on this file: please report it", source.len()));
    let sha256 = if args.hash { hash::sha256(source, None) } else { None };
    Outcome { examined: Examined { path: path.to_vec(), sha256, report }, failed: false }
}

fn unread(path: &Path, title: &str, failed: bool) -> Outcome {
    let examined = Examined { path: path.as_os_str().as_bytes().to_vec(), sha256: None, report: nothing(title, 0) };
    Outcome { examined, failed }
}

/// The report of something of which no byte was judged.
fn nothing(title: &str, size: u64) -> Report {
    Report {
        format: "unknown",
        content: Content::Unknown,
        size,
        findings: vec![Finding::new("SNS-903", Severity::Low, title)],
        verdict: Verdict::Unscannable,
        coverage: Coverage { bytes_read: 0, complete: false },
        all_globals_safe: false,
        elapsed: Duration::ZERO,
    }
}
