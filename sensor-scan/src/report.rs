//! All that is said about one file.

use std::time::Duration;

use crate::finding::Finding;
use crate::policy::Policy;
use crate::verdict::Verdict;

/// What the file's format can do when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// The format can run code when it is loaded (pickle, torch, joblib, object arrays …).
    Code,
    /// The format cannot (safetensors, plain arrays …).
    Data,
    /// A model by name or part, but not recognised.
    Unknown,
    /// No model: no listed reader accepts it.
    NotModel,
}

/// How much of the file was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Coverage {
    /// Bytes read from the file, decoded ones not counted.
    pub bytes_read: u64,
    /// Every byte range was parsed, or attributed to a bounded region that no listed loader interprets.
    pub complete: bool,
}

/// All that is said about one file.
#[derive(Debug, Clone)]
pub struct Report {
    /// Name of the primary format: "pickle", "torch-zip", "torch-legacy", "joblib", "npy", "npz", "safetensors", "zip",
    /// "other" …
    pub format: &'static str,
    pub content: Content,
    pub size: u64,
    /// Worst first, then by position.
    pub findings: Vec<Finding>,
    pub verdict: Verdict,
    pub coverage: Coverage,
    /// Every global that the file names is listed as safe in the use it is put to (also true where it names none).
    pub all_globals_safe: bool,
    pub elapsed: Duration,
}

impl Report {
    /// Orders the findings, and renews the verdict: for whoever added findings, or changed some.
    pub fn judge(&mut self, policy: &Policy) {
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        self.verdict = Verdict::of(&self.findings, self.coverage.complete, self.all_globals_safe, policy);
    }
}
