//! `--policy`: which names the caller judges himself, which findings he excuses, and what one file may cost.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use sensor_scan::policy::Names;
use sensor_scan::rule::globals::Level;
use sensor_scan::{Evidence, Finding, Limits, Policy, Severity};
use serde::Deserialize;

use super::list;
use crate::escape;
use crate::policy::exception::{Day, Pattern};

/// Largest policy file, bytes.
const POLICY_BYTES_MAX: u64 = 1 << 20;

/// What `--policy` names.
#[derive(Debug, Clone, Default)]
pub enum Choice {
    #[default]
    Standard,
    Strict,
    File(PathBuf),
}

impl Choice {
    /// For the command line.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "standard" => Self::Standard,
            "strict" => Self::Strict,
            "" => return Err("standard, strict or a file was expected".to_owned()),
            file => Self::File(PathBuf::from(file)),
        })
    }
}

/// A policy file that can't be used: which, and why, with line and column where they are known.
#[derive(Debug)]
pub struct Unusable {
    file: PathBuf,
    why: String,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy {}: {}", escape::terminal(self.file.as_os_str().as_encoded_bytes()), self.why)
    }
}

/// The policy of a run, from which that of each file follows.
#[derive(Debug, Default)]
pub struct Judge {
    strict: bool,
    limits: Limits,
    names: Vec<NamesEntry>,
    exceptions: Vec<Exception>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PolicyFile {
    base: Base,
    names: Vec<NamesEntry>,
    exceptions: Vec<Exception>,
    limits: LimitsEntry,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Base {
    #[default]
    Standard,
    Strict,
}

/// Python names and the caller's word on them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamesEntry {
    modules: Vec<String>,
    names: Vec<String>,
    judgement: Judgement,
    reason: String,
    /// Only in these files, as the report prints them; `**` crosses folders.
    #[serde(default)]
    path: Option<Pattern>,
    /// Hex. Such an entry makes the scan read every file whole.
    #[serde(default)]
    sha256: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Judgement {
    Safe,
    Unknown,
    Risky,
    Dangerous,
}

/// A finding that is excused in some files, until a day.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    finding: String,
    reason: String,
    expires: Day,
    #[serde(default)]
    path: Option<Pattern>,
    #[serde(default)]
    sha256: Option<String>,
}

/// Which files an entry is about: all that is given has to fit.
#[derive(Debug, Clone, Copy)]
struct WhichFile<'a> {
    path: Option<&'a Pattern>,
    sha256: Option<&'a str>,
}

impl NamesEntry {
    fn file(&self) -> WhichFile<'_> {
        WhichFile { path: self.path.as_ref(), sha256: self.sha256.as_deref() }
    }
}

impl Exception {
    fn file(&self) -> WhichFile<'_> {
        WhichFile { path: self.path.as_ref(), sha256: self.sha256.as_deref() }
    }
}

/// `[limits]`: what is given replaces the default.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsEntry {
    depth_max: Option<u32>,
    members_max: Option<u64>,
    decoded_bytes_max: Option<u64>,
    window_bytes_max: Option<u64>,
    ratio_max: Option<u64>,
    opcodes_max: Option<u64>,
    values_max: Option<u64>,
    nested_streams_max: Option<u64>,
    findings_per_id_max: Option<usize>,
    time_max_s: Option<u64>,
}

impl Judge {
    pub fn of(choice: &Choice) -> Result<Self, Unusable> {
        match choice {
            Choice::Standard => Ok(Self::default()),
            Choice::Strict => Ok(Self { strict: true, ..Self::default() }),
            Choice::File(file) => {
                let text = list::text(file, POLICY_BYTES_MAX).map_err(|error| error.to_string());
                text.and_then(|text| Self::from_text(&text)).map_err(|why| Unusable { file: file.clone(), why })
            }
        }
    }

    pub fn from_text(text: &str) -> Result<Self, String> {
        let written: PolicyFile = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        for entry in &written.names {
            let name = entry.modules.first().map_or("", String::as_str);
            if entry.reason.trim().is_empty() {
                return Err(format!("names of {name:?}: a `reason` is needed"));
            }
            if entry.modules.is_empty() || entry.names.is_empty() {
                return Err("names: `modules` and `names` may not be empty".to_owned());
            }
            entry.file().check().map_err(|why| format!("names of {name:?}: {why}"))?;
        }
        for exception in &written.exceptions {
            let Exception { finding, reason, .. } = exception;
            let file = exception.file();
            if sensor_scan::rule::manual(finding).is_none() {
                return Err(format!("exception: there is no finding {finding:?}: see `sensor rules list`"));
            }
            if reason.trim().is_empty() {
                return Err(format!("exception of {finding}: a `reason` is needed"));
            }
            if file.path.is_none() && file.sha256.is_none() {
                return Err(format!("exception of {finding}: a `path` or a `sha256` is needed"));
            }
            file.check().map_err(|why| format!("exception of {finding}: {why}"))?;
        }
        Ok(Self {
            strict: written.base == Base::Strict,
            limits: written.limits.over(Limits::default()),
            names: written.names,
            exceptions: written.exceptions,
        })
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Does any entry ask for the hash of the files?
    pub fn asks_for_hashes(&self) -> bool {
        self.names.iter().any(|entry| entry.sha256.is_some())
            || self.exceptions.iter().any(|exception| exception.sha256.is_some())
    }

    /// The scanner's policy for one file.
    pub fn for_file(&self, path: &[u8], sha256: Option<&str>) -> Policy {
        let mut policy = if self.strict { Policy::strict() } else { Policy::standard() };
        for entry in self.names.iter().filter(|entry| entry.file().fits(path, sha256)) {
            let level = match entry.judgement {
                Judgement::Safe => Level::Safe,
                Judgement::Unknown => Level::Unknown,
                Judgement::Risky => Level::Risky,
                Judgement::Dangerous => Level::Dangerous,
            };
            policy.judge(Names { modules: entry.modules.clone(), names: entry.names.clone(), level });
        }
        policy
    }

    /// Makes notes of the findings that are excused, which say why; the verdict is the caller's to renew.
    pub fn excuse(&self, path: &[u8], sha256: Option<&str>, findings: &mut [Finding]) {
        let now = Timestamp::now().as_nanosecond();
        for finding in findings {
            let fits = |exception: &&Exception| {
                exception.finding == finding.id
                    && !exception.expires.is_over(now)
                    && exception.file().fits(path, sha256)
                    && !finding.is_coverage()
            };
            let Some(exception) = self.exceptions.iter().find(fits) else { continue };
            let was = std::mem::replace(&mut finding.severity, Severity::Info).name().to_owned();
            finding.evidence.insert("excused", Evidence::Text(exception.reason.clone()));
            finding.evidence.insert("excused_severity", Evidence::Text(was));
        }
    }

    /// Exceptions that no longer apply, in words.
    pub fn expired(&self) -> impl Iterator<Item = String> {
        let now = Timestamp::now().as_nanosecond();
        let over = self.exceptions.iter().filter(move |exception| exception.expires.is_over(now));
        over.map(|exception| {
            format!("the exception of {} ended on {}: {}", exception.finding, exception.expires.date, exception.reason)
        })
    }
}

impl WhichFile<'_> {
    fn check(&self) -> Result<(), String> {
        match self.sha256 {
            Some(text) if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Err("`sha256` has to be 64 hexadecimal digits".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn fits(&self, path: &[u8], sha256: Option<&str>) -> bool {
        let hash = |wanted: &str| sha256.is_some_and(|hash| hash.eq_ignore_ascii_case(wanted));
        self.path.is_none_or(|pattern| pattern.is_match(path)) && self.sha256.is_none_or(hash)
    }
}

impl LimitsEntry {
    fn over(self, default: Limits) -> Limits {
        Limits {
            depth_max: self.depth_max.unwrap_or(default.depth_max),
            members_max: self.members_max.unwrap_or(default.members_max),
            decoded_bytes_max: self.decoded_bytes_max.unwrap_or(default.decoded_bytes_max),
            window_bytes_max: self.window_bytes_max.unwrap_or(default.window_bytes_max),
            ratio_max: self.ratio_max.unwrap_or(default.ratio_max),
            opcodes_max: self.opcodes_max.unwrap_or(default.opcodes_max),
            values_max: self.values_max.unwrap_or(default.values_max),
            nested_streams_max: self.nested_streams_max.unwrap_or(default.nested_streams_max),
            findings_per_id_max: self.findings_per_id_max.unwrap_or(default.findings_per_id_max),
            time_max: self.time_max_s.map_or(default.time_max, Duration::from_secs),
        }
    }
}

#[cfg(test)]
mod tests {
    use sensor_scan::source::MemorySource;
    use sensor_scan::{Report, Verdict};

    use super::*;

    /// `ours.build.run(5)`, protocol 0: suspicious.
    const OURS: &[u8] = b"cours.build\nrun\n(I5\ntR.";

    fn judged(policy: &str, path: &str, sha256: Option<&str>) -> Report {
        let judge = Judge::from_text(policy).unwrap();
        let policy = judge.for_file(path.as_bytes(), sha256);
        let mut report = sensor_scan::scan(&MemorySource::new(OURS, b"m.pkl"), judge.limits(), &policy);
        judge.excuse(path.as_bytes(), sha256, &mut report.findings);
        report.judge(&policy);
        report
    }

    #[test]
    fn names_and_exceptions_apply_to_the_files_that_they_name() {
        let names = "[[names]]\nmodules=['ours.**']\nnames=['*']\njudgement='safe'\nreason='ours'\npath='models/**'";
        assert_eq!(judged(names, "models/a/m.pkl", None).verdict, Verdict::Clean);
        assert_eq!(judged(names, "other/m.pkl", None).verdict, Verdict::Suspicious);

        let excuse = |condition: &str, expires: &str| {
            format!("[[exceptions]]\nfinding='SNS-103'\n{condition}\nreason='reviewed'\nexpires='{expires}'")
        };
        let hash = "a".repeat(64);
        let by_hash = excuse(&format!("sha256='{}'", "A".repeat(64)), "2999-01-01");
        let report = judged(&by_hash, "m.pkl", Some(&hash));
        assert_eq!(report.verdict, Verdict::Clean);
        assert_eq!(report.findings[0].evidence["excused"], Evidence::Text("reviewed".to_owned()), "a note is left");
        assert_eq!(judged(&by_hash, "m.pkl", None).verdict, Verdict::Suspicious);
        assert_eq!(judged(&excuse("path='*.pkl'", "2020-01-01"), "m.pkl", None).verdict, Verdict::Suspicious);
        assert_eq!(judged(&excuse("path='*.pkl'", "2999-01-01"), "m.pkl", None).verdict, Verdict::Clean);
    }

    #[test]
    fn faults_are_said() {
        for (text, word) in [
            ("nonsense = 1", "unknown field"),
            ("base = 'lax'", "unknown variant"),
            ("[limits]\ndepth = 3", "unknown field"),
            ("[[names]]\nmodules=['a']\nnames=['b']\njudgement='safe'\nreason='x'\npaths='x'", "unknown field"),
            ("[[names]]\nmodules=['a']\nnames=['b']\njudgement='safe'\nreason=''", "reason"),
            ("[[names]]\nmodules=[]\nnames=['b']\njudgement='safe'\nreason='x'", "may not be empty"),
            ("[[exceptions]]\nfinding='SNS-000'\npath='x'\nreason='x'\nexpires='2999-01-01'", "no finding"),
            ("[[exceptions]]\nfinding='SNS-101'\nreason='x'\nexpires='2999-01-01'", "`path` or a `sha256`"),
            ("[[exceptions]]\nfinding='SNS-101'\nsha256='12'\nreason='x'\nexpires='2999-01-01'", "64 hex"),
            ("[[exceptions]]\nfinding='SNS-101'\npath='x'\nreason='x'", "missing field `expires`"),
        ] {
            let fault = Judge::from_text(text).unwrap_err();
            assert!(fault.contains(word), "{text}: {fault}");
        }
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let judge = Judge::from_text(include_str!("../../../../rules/example-policy.toml")).unwrap();
        assert_eq!(judge.limits(), &Limits::default());
        assert_eq!((judge.names.len(), judge.exceptions.len(), judge.strict), (1, 1, false));
    }

    #[test]
    fn seeds_of_the_fuzz_target_are_read_or_refused() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/scan_policy");
        let (mut read, mut refused) = (0, 0);
        for entry in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            if Judge::from_text(&text).is_err() {
                refused += 1;
                continue;
            }
            read += 1;
            for hash in [None, Some("a".repeat(64))] {
                judged(&text, "models/m.pkl", hash.as_deref());
            }
        }
        assert!(read > 0 && refused > 0, "{read} read, {refused} refused");
    }

    #[test]
    fn limits_come_from_the_file() {
        let judge = Judge::from_text("[limits]\nopcodes_max = 3\ntime_max_s = 7").unwrap();
        assert_eq!((judge.limits().opcodes_max, judge.limits().time_max), (3, Duration::from_secs(7)));
        assert_eq!(judge.limits().depth_max, Limits::default().depth_max);
    }
}
