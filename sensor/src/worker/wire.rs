//! What daemon and children say to each other.
//!
//! A child's word is checked twice: by its shape (unknown fields and unknown words are errors) and by
//! [`ScanReport::check`]. Bytes of paths and arguments travel as base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sensor_abi::identity::{ContentStamp, InodeKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::frame::FrameError;
use crate::event::ModelFinding;

/// Findings of a file that reach the daemon; the rest is counted.
pub const FINDINGS_MAX: usize = 50;
/// Longest title of a finding, bytes.
pub const TITLE_BYTES_MAX: usize = 256;
/// Longest name of a format, bytes.
pub const FORMAT_BYTES_MAX: usize = 32;
/// Pids in one [`ToReader::Read`].
pub const PIDS_MAX: usize = 4096;

/// Bytes that need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Raw(pub Vec<u8>);

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD_NO_PAD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// How far a child could lock itself in; `sensor doctor` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confinement {
    pub landlock: Landlock,
    pub seccomp: bool,
    /// Capabilities were reduced to those that the role needs.
    pub capabilities: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Landlock {
    /// Everything that this build knows to forbid is forbidden.
    Full,
    /// The kernel knows only a part of it: files are covered, the network or signals may not be.
    Partial,
    /// The kernel has no Landlock, or it isn't enabled (`lsm=`).
    Absent,
    /// The role can't have it (it looks into other processes).
    NotForThisRole,
}

/// A file's size and change time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    pub size: u64,
    pub ctime_s: i64,
    pub ctime_ns: u32,
}

impl From<ContentStamp> for Stamp {
    fn from(stamp: ContentStamp) -> Self {
        // Linux 6.13 and later keep I_CTIME_QUERIED in the top bit of `i_ctime_nsec` (include/linux/fs.h).
        Self { size: stamp.size, ctime_s: stamp.ctime_s, ctime_ns: stamp.ctime_ns & !(1 << 31) }
    }
}

/// [`InodeKey`] as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub ino: u64,
    /// `super_block.s_dev`: major << 20 | minor.
    pub dev: u32,
    pub generation: u32,
}

impl From<InodeKey> for Identity {
    fn from(key: InodeKey) -> Self {
        Self { ino: key.ino, dev: key.dev, generation: key.generation }
    }
}

/// Why a file's content was not looked at. Judged as a clean file that can run code (row 3), not as a bad one: none of
/// these is the content's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotRead {
    /// Neither the descriptor, a mapping, nor the path leads to it any more.
    Gone,
    /// What is found in its place is another file, or it changed and nothing proves that it is the same.
    Swapped,
    /// A FIFO, device, socket or directory stands there.
    NotRegular,
    /// A network file system or FUSE, and the configuration says not to read those.
    Remote,
    /// The kernel refused to open it.
    Denied,
    /// The deadline passed.
    TimedOut,
    /// Too many files waited, from this cgroup or in all.
    Overflow,
    /// The children could not be started, or broke before the content was touched.
    WorkerFailed,
}

/// Why the content itself could not be read to the end (row 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unscannable {
    /// The scanner crashed, ran out of memory, or did what its seccomp list forbids.
    Died,
    /// It used up its CPU time.
    CpuTime,
    /// It said something that the protocol doesn't know.
    BadAnswer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Which format is it? At most 64 KiB are read.
    Sniff,
    /// All of it.
    Full,
}

/// What the format can do when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    Code,
    Data,
    Unknown,
    NotModel,
}

impl From<sensor_scan::Content> for Content {
    fn from(content: sensor_scan::Content) -> Self {
        match content {
            sensor_scan::Content::Code => Self::Code,
            sensor_scan::Content::Data => Self::Data,
            sensor_scan::Content::Unknown => Self::Unknown,
            sensor_scan::Content::NotModel => Self::NotModel,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Clean,
    Suspicious,
    Malicious,
    Unscannable,
}

impl From<sensor_scan::Verdict> for Verdict {
    fn from(verdict: sensor_scan::Verdict) -> Self {
        match verdict {
            sensor_scan::Verdict::Clean => Self::Clean,
            sensor_scan::Verdict::Suspicious => Self::Suspicious,
            sensor_scan::Verdict::Malicious => Self::Malicious,
            sensor_scan::Verdict::Unscannable => Self::Unscannable,
        }
    }
}

/// The scanner's word on a file, cut to what alerts carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanReport {
    pub format: String,
    pub content: Content,
    /// Absent after [`Mode::Sniff`], which judges nothing.
    pub verdict: Option<Verdict>,
    /// Lower-case hexadecimal, where it was asked for and the file could be read to its end in time.
    pub sha256: Option<String>,
    pub all_globals_safe: bool,
    /// Worst first.
    pub findings: Vec<ModelFinding>,
    pub findings_omitted: u64,
    pub size: u64,
    pub elapsed_us: u64,
}

impl ScanReport {
    /// Holds a child's report to the limits that the daemon relies on.
    pub fn check(&self, mode: Mode) -> Result<(), FrameError> {
        let word =
            |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.+".contains(&b));
        if self.format.is_empty() || self.format.len() > FORMAT_BYTES_MAX || !word(&self.format) {
            return Err(FrameError::Invalid("name of the format"));
        }
        if self.verdict.is_some() != (mode == Mode::Full) {
            return Err(FrameError::Invalid("verdict"));
        }
        let hex = |text: &String| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !self.sha256.as_ref().is_none_or(hex) {
            return Err(FrameError::Invalid("sha256"));
        }
        if self.findings.len() > FINDINGS_MAX {
            return Err(FrameError::Invalid("number of findings"));
        }
        for finding in &self.findings {
            let digits = finding.id.strip_prefix("SNS-").unwrap_or_default();
            if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(FrameError::Invalid("id of a finding"));
            }
            if !matches!(finding.severity.as_str(), "info" | "low" | "medium" | "high" | "critical") {
                return Err(FrameError::Invalid("severity of a finding"));
            }
            if finding.title.len() > TITLE_BYTES_MAX {
                return Err(FrameError::Invalid("title of a finding"));
            }
        }
        Ok(())
    }
}

/// Daemon → opener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ToOpener {
    /// Find this file. Answered by [`FromOpener::Opened`] or [`FromOpener::NotOpened`].
    Open(OpenRequest),
    /// It is the right one: hand it to the scanner.
    Proceed { id: u64 },
    /// It isn't: look on.
    Refuse { id: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    pub id: u64,
    /// Who opened it.
    pub pid: u32,
    pub fd: Option<u32>,
    /// As that process's mount namespace sees it; empty where it isn't wholly known.
    pub path: Raw,
    pub identity: Identity,
    pub stamp: Stamp,
    /// Read network file systems and FUSE too.
    pub read_remote: bool,
}

/// Opener → daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromOpener {
    Hello(Confinement),
    /// A regular file with the right inode number is open, and waits for the daemon's word.
    Opened(Opened),
    NotOpened {
        id: u64,
        reason: NotRead,
    },
    /// The scanner has it.
    Passed {
        id: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    pub id: u64,
    pub stamp: Stamp,
    /// The mount that it was reached by shows the expected device (mountinfo shows `s_dev`; `st_dev` differs from it on
    /// btrfs and overlay).
    pub device_agrees: bool,
    /// Its file system is none of those known to be local: it may show us other bytes than it showed the loader.
    pub remote: bool,
    /// What it is called, where the request didn't say; at most [`sensor_abi::record::PATH_BYTES_MAX`] bytes.
    pub path: Raw,
}

/// Daemon → scanner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ToScanner {
    Scan {
        id: u64,
        mode: Mode,
        /// Compute the file's SHA-256 as well.
        hash: bool,
        /// The file's own name, a hint to the scanner.
        name: Raw,
        /// It lies where a hub's libraries keep the code of models.
        models_code: bool,
        /// Wall time after which the scanner gives up by itself, ms.
        time_ms: u64,
        /// CPU time after which the kernel kills it, s.
        cpu_s: u64,
    },
}

/// Scanner → daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromScanner {
    Hello(Confinement),
    Done {
        id: u64,
        /// The file's stamp before the first byte was read, and after the last.
        before: Stamp,
        after: Stamp,
        report: ScanReport,
    },
}

/// Daemon → process reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ToReader {
    /// All processes, by what can be read without waiting for them: [`FromReader::Listed`]…, [`FromReader::End`].
    List,
    /// All of these, in this order: for each [`FromReader::Listed`] and [`FromReader::Read`], or [`FromReader::Gone`] in
    /// place of either; then [`FromReader::End`].
    Read { pids: Vec<u32> },
}

/// Process reader → daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromReader {
    Hello(Confinement),
    Listed(Listed),
    Read(Details),
    /// It ended meanwhile.
    Gone {
        pid: u32,
    },
    /// `omitted`: processes beyond the limit. One that ended meanwhile is not counted.
    End {
        omitted: u64,
    },
}

/// From `/proc/PID/{stat,status,cgroup}`: never blocks on the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    pub pid: u32,
    pub ppid: u32,
    /// Since boot, in clock ticks (proc_pid_stat(5) field 22).
    pub start_ticks: u64,
    /// Clock ticks per second.
    pub ticks_per_s: u64,
    /// Real uid.
    pub uid: Option<u32>,
    /// cgroup v2 id; 0 where it isn't known.
    pub cgroup_id: u64,
}

/// From `/proc/PID/{exe,cmdline}`: can block for as long as the process likes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Details {
    pub pid: u32,
    /// The same before and after `exe` and `argv` were read: they belong to this process and no other.
    pub start_ticks: u64,
    /// Empty for kernel threads.
    pub exe: Raw,
    /// Arguments, each ended by NUL.
    pub argv: Raw,
    pub argv_truncated: bool,
    /// The script that it runs, if any, is root's, and nobody else could have put it there.
    pub script_is_roots: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> ScanReport {
        ScanReport {
            format: "torch-zip".into(),
            content: Content::Code,
            verdict: Some(Verdict::Malicious),
            sha256: Some("0a".repeat(32)),
            all_globals_safe: false,
            findings: vec![ModelFinding {
                id: "SNS-101".into(),
                severity: "high".into(),
                title: "calls os.system".into(),
            }],
            findings_omitted: 0,
            size: 1,
            elapsed_us: 1,
        }
    }

    #[test]
    fn a_report_within_the_limits_passes_and_each_excess_is_refused() {
        assert!(report().check(Mode::Full).is_ok());
        type Spoil = fn(&mut ScanReport);
        let spoils: [(&str, Spoil); 10] = [
            ("sha256", |r| r.sha256 = Some("A\u{1b}".repeat(32))),
            ("format", |r| r.format = "x".repeat(FORMAT_BYTES_MAX + 1)),
            ("format text", |r| r.format = "a\u{1b}".into()),
            ("no format", |r| r.format.clear()),
            ("no verdict", |r| r.verdict = None),
            ("findings", |r| r.findings = vec![r.findings[0].clone(); FINDINGS_MAX + 1]),
            ("id", |r| r.findings[0].id = "SNS-1\n1".into()),
            ("id prefix", |r| r.findings[0].id = "101".into()),
            ("severity", |r| r.findings[0].severity = "terrible".into()),
            ("title", |r| r.findings[0].title = "x".repeat(TITLE_BYTES_MAX + 1)),
        ];
        for (what, spoil) in spoils {
            let mut spoilt = report();
            spoil(&mut spoilt);
            assert!(spoilt.check(Mode::Full).is_err(), "{what}");
        }
        assert!(report().check(Mode::Sniff).is_err(), "a sniff judges nothing");
    }

    #[test]
    fn bytes_that_are_no_text_survive() {
        let raw = Raw((0..=255).collect());
        let json = serde_json::to_string(&raw).unwrap();
        assert_eq!(serde_json::from_str::<Raw>(&json).unwrap(), raw);
        assert!(serde_json::from_str::<Raw>("\"*\"").is_err());
    }

    #[test]
    fn the_largest_report_fits_a_frame() {
        let mut largest = report();
        // A control character is six bytes of JSON.
        let title = "\u{1}".repeat(TITLE_BYTES_MAX);
        largest.findings = vec![ModelFinding { title, ..largest.findings[0].clone() }; FINDINGS_MAX];
        assert!(super::super::frame::write(&mut Vec::new(), &largest).is_ok());
    }
}
