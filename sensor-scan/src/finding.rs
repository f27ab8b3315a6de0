//! What was found: which rule, how bad, where, and the evidence for it.

use std::collections::BTreeMap;

/// How bad one occurrence is. Effect × certainty × when, not a property of the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Info,
    Low,
    /// Suspicious.
    Medium,
    /// Malicious.
    High,
    Critical,
}

impl Severity {
    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// One value of a finding's evidence. Text is already cut, but not escaped: whoever writes it out escapes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    Text(String),
    Number(u64),
    List(Vec<String>),
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Permanent: `SNS-` and three digits.
    pub id: &'static str,
    pub severity: Severity,
    /// One line for a person.
    pub title: String,
    /// Outer to inner member names joined by `!/` (a `!` in a name is `\!`); `None` for the file itself. Raw bytes.
    pub member: Option<Vec<u8>>,
    /// Within the decoded innermost member, bytes.
    pub offset: Option<u64>,
    /// Name of the pickle opcode, as in CPython's `pickletools`.
    pub opcode: Option<&'static str>,
    /// Who executes it ("pickle.load", "torch.load(weights_only=False)" …).
    pub loaders: Vec<&'static str>,
    pub evidence: BTreeMap<&'static str, Evidence>,
}

impl Finding {
    pub fn new(id: &'static str, severity: Severity, title: impl Into<String>) -> Self {
        Self {
            id,
            severity,
            title: title.into(),
            member: None,
            offset: None,
            opcode: None,
            loaders: Vec::new(),
            evidence: BTreeMap::new(),
        }
    }

    /// Coverage findings say what was not read; they never decide between clean and suspicious.
    pub fn is_coverage(&self) -> bool {
        self.id.starts_with("SNS-9") || matches!(self.id, "SNS-702" | "SNS-703")
    }
}
