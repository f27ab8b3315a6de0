//! Findings → verdict: the only place that decides.

use crate::finding::{Finding, Severity};

/// The word on a file. Ordered from good to bad, `Unscannable` apart: it fails closed by its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    Clean,
    Suspicious,
    Malicious,
    /// Incomplete, and what was read says nothing worse.
    Unscannable,
}

impl Verdict {
    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Suspicious => "suspicious",
            Self::Malicious => "malicious",
            Self::Unscannable => "unscannable",
        }
    }

    /// Judges a file by its findings; `complete` says that every byte range was accounted for.
    pub fn of(findings: &[Finding], complete: bool) -> Self {
        match findings.iter().filter(|finding| !finding.is_coverage()).map(|finding| finding.severity).max() {
            Some(Severity::Critical | Severity::High) => Self::Malicious,
            Some(Severity::Medium) => Self::Suspicious,
            _ if !complete => Self::Unscannable,
            _ => Self::Clean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_file_is_never_clean_and_never_better_than_its_findings() {
        let of = |severity| vec![Finding::new("SNS-101", severity, "x")];
        assert_eq!(Verdict::of(&[], true), Verdict::Clean);
        assert_eq!(Verdict::of(&[], false), Verdict::Unscannable);
        assert_eq!(Verdict::of(&of(Severity::Low), false), Verdict::Unscannable);
        assert_eq!(Verdict::of(&of(Severity::Medium), false), Verdict::Suspicious);
        assert_eq!(Verdict::of(&of(Severity::High), false), Verdict::Malicious);
        assert_eq!(Verdict::of(&[Finding::new("SNS-901", Severity::High, "x")], false), Verdict::Unscannable);
    }
}
