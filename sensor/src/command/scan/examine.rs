//! One target: opened safely, scanned, hashed where asked; whatever goes wrong is a line too.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use sensor_scan::source::{FileSource, MemorySource};
use sensor_scan::{Content, Coverage, Finding, Report, Severity, Source, Verdict};

use super::Args;
use super::folder::InFolder;
use super::policy::Judge;
use crate::lookalike::{self, How, Imitation, WellKnown};
use crate::open::{self, Refused};
use crate::report::Examined;
use crate::walk::Target;
use crate::{hash, hub};

pub struct Outcome {
    pub examined: Examined,
    /// The caller named something that could not be examined.
    pub failed: bool,
}

/// What does not change from file to file.
pub struct Run<'a> {
    pub args: &'a Args,
    pub judge: &'a Judge,
    /// The caller's list instead of the embedded one.
    pub well_known: Option<WellKnown>,
}

impl Run<'_> {
    /// The embedded list is read when a repository first asks for it: most files have none.
    fn well_known(&self) -> &WellKnown {
        static EMBEDDED: LazyLock<WellKnown> = LazyLock::new(WellKnown::embedded);
        self.well_known.as_ref().unwrap_or(&EMBEDDED)
    }
}

pub fn target(target: &Target, run: &Run<'_>) -> Outcome {
    match target {
        Target::Stdin => stdin(run),
        Target::File { path, named } => file(path, *named, run),
        Target::Skipped { path, why } => unread(path, &format!("skipped: {why}"), false),
        Target::Failed { path, why } => unread(path, &format!("can't be opened: {why}"), true),
    }
}

fn file(path: &Path, named: bool, run: &Run<'_>) -> Outcome {
    let opened = match open::regular(path) {
        Ok(opened) => opened,
        Err(Refused::Special(what)) => return unread(path, &format!("skipped: it is {what}"), false),
        Err(Refused::Io(error)) => return unread(path, &format!("can't be opened: {error}"), named),
    };
    let name = path.file_name().unwrap_or_default().as_bytes();
    match FileSource::new(opened, name) {
        Ok(source) => examined(path.as_os_str().as_bytes(), &InFolder::new(source, path), run),
        Err(error) => unread(path, &format!("can't be read: {error}"), named),
    }
}

fn stdin(run: &Run<'_>) -> Outcome {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(run.args.max_stdin.saturating_add(1)).read_to_end(&mut bytes);
    if let Err(error) = read {
        return unread(Path::new("-"), &format!("standard input can't be read: {error}"), true);
    }
    if bytes.is_empty() {
        let title = "standard input is empty: nothing was examined";
        return unread(Path::new("-"), title, true);
    }
    let cut = bytes.len() as u64 > run.args.max_stdin;
    bytes.truncate(usize::try_from(run.args.max_stdin).unwrap_or(usize::MAX));
    let mut outcome = examined(b"-", &MemorySource::new(&bytes, b""), run);
    if cut {
        let title = "standard input is longer than --max-stdin: scan a file, or raise it";
        let finding = Finding::new("SNS-901", Severity::Medium, title);
        let report = &mut outcome.examined.report;
        report.findings.push(finding.text("limit", "max_stdin").number("value", run.args.max_stdin));
        report.coverage.complete = false;
        report.judge(&run.judge.for_file(b"-", None));
        outcome.examined.sha256 = None;
    }
    outcome
}

fn examined(path: &[u8], source: &dyn Source, run: &Run<'_>) -> Outcome {
    let Run { args, judge, .. } = run;
    let sha256 = if args.hash || judge.asks_for_hashes() { hash::sha256(source, None) } else { None };
    let policy = judge.for_file(path, sha256.as_deref());
    // A scanner that falls over has said nothing of the file: that is not clean.
    let mut report = catch_unwind(AssertUnwindSafe(|| sensor_scan::scan(source, judge.limits(), &policy)))
        .unwrap_or_else(|_| nothing("the scanner failed on this file: please report it", source.len()));
    report.findings.extend(identity(path, &report, run));
    judge.excuse(path, sha256.as_deref(), &mut report.findings);
    report.judge(&policy);
    let sha256 = sha256.filter(|_| args.hash);
    Outcome { examined: Examined { path: path.to_vec(), sha256, report }, failed: false }
}

/// What the file's place says of it: whose name its repository imitates, and what could be loaded instead.
fn identity(path: &[u8], report: &Report, run: &Run<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if report.content == Content::NotModel || path == b"-" {
        return findings;
    }
    if let Some((repo, _)) = hub::identity(path)
        && let Some(Imitation { of, how }) = run.well_known().imitation(&repo)
    {
        let severity = match how {
            How::LooksTheSame | How::OneEditAndKnownModel => Severity::Medium,
            How::OneEdit => Severity::Low,
            // Copies under other names are ordinary.
            How::OtherOwner => Severity::Info,
        };
        let title = format!("the repository {repo} {} {of}", how.phrase());
        findings.push(Finding::new("SNS-704", severity, title).text("repo", &repo).text("well_known", &of));
    }
    if report.content == Content::Code
        && let Some(twin) = lookalike::safetensors_twin(Path::new(OsStr::from_bytes(path)))
    {
        let title = format!("{twin} beside it holds the same weights and cannot run code: load that");
        findings.push(Finding::new("SNS-705", Severity::Info, title).text("twin", &twin));
    }
    findings
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
