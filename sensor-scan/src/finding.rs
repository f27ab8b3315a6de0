//! What was found: which rule, how bad, where, and the evidence for it.

use std::collections::BTreeMap;

/// Characters that one text of evidence keeps.
pub const EVIDENCE_CHARS_MAX: usize = 512;

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

    /// Where it is: the member's name as in [`Finding::member`].
    #[must_use]
    pub fn member(mut self, member: Option<&[u8]>) -> Self {
        self.member = member.map(<[u8]>::to_vec);
        self
    }

    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    #[must_use]
    pub fn loaders(mut self, loaders: &[&'static str]) -> Self {
        self.loaders = loaders.to_vec();
        self
    }

    /// Evidence as text, cut at [`EVIDENCE_CHARS_MAX`].
    #[must_use]
    pub fn text(mut self, key: &'static str, text: impl AsRef<[u8]>) -> Self {
        let text = String::from_utf8_lossy(text.as_ref());
        let mut cut: String = text.chars().take(EVIDENCE_CHARS_MAX).collect();
        if cut.len() < text.len() {
            cut.push('…');
        }
        self.evidence.insert(key, Evidence::Text(cut));
        self
    }

    #[must_use]
    pub fn number(mut self, key: &'static str, number: u64) -> Self {
        self.evidence.insert(key, Evidence::Number(number));
        self
    }

    /// Coverage findings say what was not read; they never decide between clean and suspicious.
    pub fn is_coverage(&self) -> bool {
        self.id.starts_with("SNS-9") || matches!(self.id, "SNS-702" | "SNS-703")
    }

    /// A budget of the whole file is used up.
    pub fn is_limit(&self) -> bool {
        matches!(self.id, "SNS-901" | "SNS-905")
    }
}
