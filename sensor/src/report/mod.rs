//! A scan report on its way outside: the JSON contract, and one file per shape of output.

pub mod cyclonedx;
pub mod human;
pub mod json;
pub mod jsonl;
pub mod sarif;

use std::collections::BTreeMap;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sensor_scan::{Evidence, Finding, Report, Verdict};
use serde::Serialize;

/// One line of `sensor scan --format jsonl`, schema `sensor.scan/1`.
#[derive(Debug, Clone, Serialize)]
pub struct FileJson {
    pub schema: &'static str,
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
    pub format: &'static str,
    /// Bytes.
    pub size: u64,
    /// Lower-case hexadecimal; `null` unless it was computed.
    pub sha256: Option<String>,
    pub verdict: &'static str,
    pub findings: Vec<FindingJson>,
    pub coverage: CoverageJson,
    pub elapsed_us: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct FindingJson {
    pub id: &'static str,
    pub severity: &'static str,
    pub title: String,
    pub member: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member_b64: Option<String>,
    pub offset: Option<u64>,
    pub opcode: Option<&'static str>,
    pub loaders: Vec<&'static str>,
    pub evidence: BTreeMap<&'static str, EvidenceJson>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum EvidenceJson {
    Text(String),
    Number(u64),
    List(Vec<String>),
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct CoverageJson {
    pub bytes_read: u64,
    pub complete: bool,
}

/// A report as the JSON contract has it. `path` is raw bytes: lossy in `path`, exact in `path_b64` where it isn't UTF-8.
pub fn file_json(report: &Report, path: &[u8], sha256: Option<&str>) -> FileJson {
    let (path, path_b64) = text(path);
    FileJson {
        schema: "sensor.scan/1",
        path,
        path_b64,
        format: report.format,
        size: report.size,
        sha256: sha256.map(str::to_owned),
        verdict: report.verdict.name(),
        findings: report.findings.iter().map(finding_json).collect(),
        coverage: CoverageJson { bytes_read: report.coverage.bytes_read, complete: report.coverage.complete },
        elapsed_us: u64::try_from(report.elapsed.as_micros()).unwrap_or(u64::MAX),
    }
}

fn finding_json(finding: &Finding) -> FindingJson {
    let (member, member_b64) = finding.member.as_deref().map(text).unzip();
    FindingJson {
        id: finding.id,
        severity: finding.severity.name(),
        title: finding.title.clone(),
        member,
        member_b64: member_b64.flatten(),
        offset: finding.offset,
        opcode: finding.opcode,
        loaders: finding.loaders.clone(),
        evidence: finding.evidence.iter().map(|(key, value)| (*key, evidence_json(value))).collect(),
    }
}

fn evidence_json(evidence: &Evidence) -> EvidenceJson {
    match evidence {
        Evidence::Text(text) => EvidenceJson::Text(text.clone()),
        Evidence::Number(number) => EvidenceJson::Number(*number),
        Evidence::List(items) => EvidenceJson::List(items.clone()),
    }
}

/// Lossy text, and base64 of the exact bytes where text alone loses something.
fn text(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(STANDARD.encode(bytes))),
    }
}

/// One examined input, as the writers get it.
#[derive(Debug)]
pub struct Examined {
    /// Raw bytes.
    pub path: Vec<u8>,
    pub sha256: Option<String>,
    pub report: Report,
}

/// Counts over a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Inputs that were examined, those left out of the listing too.
    pub files: u64,
    pub clean: u64,
    pub suspicious: u64,
    pub malicious: u64,
    pub unscannable: u64,
    /// Of whatever verdict.
    pub incomplete: u64,
    /// Files that are no models and were left out of the listing.
    pub not_listed: u64,
    pub elapsed_us: u64,
}

impl Summary {
    pub fn count(&mut self, report: &Report) {
        self.files += 1;
        self.incomplete += u64::from(!report.coverage.complete);
        *match report.verdict {
            Verdict::Clean => &mut self.clean,
            Verdict::Suspicious => &mut self.suspicious,
            Verdict::Malicious => &mut self.malicious,
            Verdict::Unscannable => &mut self.unscannable,
        } += 1;
    }
}

/// A shape of output. An error of writing ends the output, not the scan.
pub trait Write {
    fn file(&mut self, examined: &Examined) -> io::Result<()>;
    /// After the last file.
    fn end(&mut self, summary: &Summary) -> io::Result<()>;
}
