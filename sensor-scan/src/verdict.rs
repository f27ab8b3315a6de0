//! Findings → verdict: the only place that decides.

use crate::finding::{Finding, Severity};
use crate::policy::Policy;

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

    /// Judges a file by its findings; `complete` says that every byte range was accounted for, `all_globals_safe` that
    /// every Python name in it is listed as safe in the use it is put to (also true where there is none).
    pub fn of(findings: &[Finding], complete: bool, all_globals_safe: bool, policy: &Policy) -> Self {
        let worst = findings.iter().filter(|finding| !finding.is_coverage()).map(|finding| finding.severity).max();
        let suspicious = worst >= Some(policy.suspicious_from()) || (policy.strict && !all_globals_safe);
        match worst {
            Some(Severity::Critical | Severity::High) => Self::Malicious,
            _ if suspicious => Self::Suspicious,
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
        let verdict = |findings: &[Finding], complete| Verdict::of(findings, complete, true, &Policy::standard());
        let of = |severity| vec![Finding::new("SNS-101", severity, "x")];
        assert_eq!(verdict(&[], true), Verdict::Clean);
        assert_eq!(verdict(&[], false), Verdict::Unscannable);
        assert_eq!(verdict(&of(Severity::Low), false), Verdict::Unscannable);
        assert_eq!(verdict(&of(Severity::Medium), false), Verdict::Suspicious);
        assert_eq!(verdict(&of(Severity::High), false), Verdict::Malicious);
        assert_eq!(verdict(&[Finding::new("SNS-901", Severity::High, "x")], false), Verdict::Unscannable);
    }
}
