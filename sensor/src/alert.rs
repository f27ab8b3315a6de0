//! One alert, exactly as `sensor.alert/1` says (`schemas/alert.schema.json`). The order of fields is fixed.
//!
//! Text that isn't UTF-8 is lossy in its own field and exact in a `*_b64` sibling, present only then.

use std::borrow::Cow;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;

use crate::escape;
use crate::event::{
    Access, Action, Basis, Bytes, ContentClass, EventKind, Family, Model, ModelFinding, Process, Proto, Severity,
    Verdict,
};
use crate::table::Map;

/// `schema` of every alert.
pub const SCHEMA: &str = "sensor.alert/1";
/// Argument bytes of one process, then `argv_truncated`.
pub const ARGV_BYTES_MAX: usize = 4096;
/// Argument bytes of one ancestor.
pub const ANCESTOR_ARGV_BYTES_MAX: usize = 1024;
/// Ancestors of a process, nearest first.
pub const ANCESTORS_MAX: usize = 16;
/// Findings of a model; the whole report is `sensor scan`'s.
pub const FINDINGS_MAX: usize = 32;

/// An alert. Made once, then only carried.
#[derive(Debug, Clone)]
pub struct Alert {
    pub schema: &'static str,
    /// One per line, the same on redelivery.
    pub id: String,
    /// RFC 3339, UTC, ns: of the act; on repeats of the latest.
    pub time: String,
    /// Effective.
    pub severity: Severity,
    pub rule: Shared<Rule>,
    pub action: Action,
    /// A late verdict raised an earlier line of the same incident.
    pub update: Option<bool>,
    pub event: Event,
    pub process: Option<Shared<AlertProcess>>,
    pub model: Option<Shared<AlertModel>>,
    /// Files of the load that neither `model` nor the timeline names: the kernel keeps the first, malicious ones and the
    /// latest.
    pub models_omitted: Option<u32>,
    /// Always null: this version doesn't ask container runtimes.
    pub container: (),
    /// Always null, likewise.
    pub k8s: (),
    pub incident: Incident,
    pub timeline: Vec<Shared<Moment>>,
    /// Moments that gave way to later ones.
    pub timeline_omitted: Option<u64>,
    pub host: Shared<Host>,
}

/// The rule that spoke.
#[derive(Debug, Clone, Serialize)]
pub struct Rule {
    pub id: String,
    pub name: String,
    /// Nominal.
    pub severity: Severity,
    pub attack: Vec<String>,
    pub atlas: Vec<String>,
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    pub kind: EventKind,
    pub in_load: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    #[serde(flatten)]
    pub detail: Detail,
}

/// What belongs to the kind.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Detail {
    /// The model says it.
    Open {},
    Exec {
        exe: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        exe_b64: Option<String>,
        #[serde(flatten)]
        argv: Argv,
    },
    Network {
        #[serde(skip_serializing_if = "Option::is_none")]
        ip: Option<std::net::IpAddr>,
        #[serde(skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        proto: Proto,
        family: Family,
        #[serde(skip_serializing_if = "Option::is_none")]
        domain: Option<String>,
        /// Of an accepted connection.
        #[serde(skip_serializing_if = "Option::is_none")]
        peer_ip: Option<std::net::IpAddr>,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer_port: Option<u16>,
        /// What a connection carried away so far.
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    Unix {
        /// As the peer bound it; abstract names begin with `@`.
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_b64: Option<String>,
        family: Family,
    },
    File {
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_b64: Option<String>,
        access: Access,
        /// Id of the entry in `rules/files.toml`.
        file: String,
    },
    System {
        op: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_b64: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        target_pid: Option<u32>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        namespaces: Vec<&'static str>,
    },
    Loss {
        reason: &'static str,
        /// cgroup v2 id, decimal, of whoever it was lost of.
        #[serde(skip_serializing_if = "Option::is_none")]
        cgroup: Option<String>,
        count: u64,
    },
}

/// Arguments of a program.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Argv {
    pub argv: Vec<String>,
    /// All of them, where one isn't UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv_b64: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv_truncated: Option<bool>,
}

/// The acting process.
#[derive(Debug, Clone, Serialize)]
pub struct AlertProcess {
    #[serde(flatten)]
    pub program: Program,
    pub start_boottime_ns: u64,
    pub uid: Option<u32>,
    /// Nearest first.
    pub ancestors: Vec<Program>,
}

/// A process as an ancestor is shown.
#[derive(Debug, Clone, Serialize)]
pub struct Program {
    /// Of the initial pid namespace.
    pub pid: u32,
    pub start_time: String,
    pub exe: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe_b64: Option<String>,
    #[serde(flatten)]
    pub argv: Argv,
}

/// The model that decided.
#[derive(Debug, Clone, Serialize)]
pub struct AlertModel {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
    pub repo: Option<String>,
    pub revision: Option<String>,
    pub format: Option<String>,
    pub class: ContentClass,
    pub size: u64,
    pub sha256: Option<String>,
    /// "MAJ:MIN" of the superblock.
    pub dev: String,
    /// Decimal: JSON numbers end at 2^53 for many readers.
    pub ino: String,
    pub verdict: Verdict,
    pub findings: Vec<ModelFinding>,
    /// Findings beyond [`FINDINGS_MAX`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings_omitted: Option<usize>,
}

/// The incident that this line belongs to.
#[derive(Debug, Clone)]
pub struct Incident {
    pub id: String,
    pub count: u64,
    pub first_seen: String,
    pub last_seen: String,
}

/// One moment of the story.
#[derive(Debug, Clone, Serialize)]
pub struct Moment {
    /// From the first load; negative before it.
    pub t_ms: i64,
    pub kind: EventKind,
    pub pid: u32,
    /// Times that the same happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(flatten)]
    pub detail: MomentDetail,
}

/// A part that many alerts have alike, and its JSON.
#[derive(Debug)]
pub struct Shared<T>(Arc<(T, Box<str>)>);

impl<T: Serialize> Shared<T> {
    pub fn new(part: T) -> Self {
        // As for a whole alert: this cannot fail.
        let json = escape::json(&part).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        Self(Arc::new((part, json.unwrap_or_else(|| "null".to_owned()).into_boxed_str())))
    }
}

impl<T> Shared<T> {
    /// The part in the very bytes that alerts have for it.
    pub fn json(&self) -> &str {
        &self.0.1
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}

/// Parts that are remembered of each kind. Full: all are forgotten, and written again.
pub const REMEMBERED_MAX: usize = 64;

/// The latest parts, by name, with what each was made from.
#[derive(Debug)]
pub struct Remembered<Key, From, Part>(Map<Key, (Arc<From>, Shared<Part>)>);

impl<Key, From, Part> Default for Remembered<Key, From, Part> {
    fn default() -> Self {
        Self(Map::default())
    }
}

impl<Key: Eq + Hash, From: PartialEq, Part: Serialize> Remembered<Key, From, Part> {
    /// The part called `key`, made again where what it is made from has changed.
    pub fn get(&mut self, key: Key, from: &Arc<From>, make: impl FnOnce(&From) -> Part) -> Shared<Part> {
        if let Some((known, part)) = self.0.get(&key)
            && known == from
        {
            return part.clone();
        }
        let part = Shared::new(make(from));
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        self.0.insert(key, (Arc::clone(from), part.clone()));
        part
    }
}

/// What belongs to the kind.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum MomentDetail {
    Load {
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_b64: Option<String>,
        verdict: Verdict,
    },
    Exec {
        exe: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        exe_b64: Option<String>,
        #[serde(flatten)]
        argv: Argv,
    },
    Network {
        #[serde(skip_serializing_if = "Option::is_none")]
        ip: Option<std::net::IpAddr>,
        #[serde(skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        proto: Proto,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer_ip: Option<std::net::IpAddr>,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer_port: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    Unix {
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_b64: Option<String>,
    },
    File {
        path: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_b64: Option<String>,
        access: Access,
    },
    System {
        op: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_b64: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        target_pid: Option<u32>,
    },
}

/// The host that speaks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Host {
    pub name: String,
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    /// Release, as uname(2) says it.
    pub kernel: String,
}

impl Host {
    /// Asks the kernel.
    ///
    /// # Errors
    /// `/proc` isn't mounted.
    pub fn read() -> std::io::Result<Self> {
        let uname = rustix::system::uname();
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(Self {
            name: uname.nodename().to_string_lossy().into_owned(),
            boot_id: boot_id.trim().to_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
        })
    }
}

/// Lossy text, and the exact bytes in base64 where they aren't UTF-8.
pub fn text(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(BASE64.encode(bytes))),
    }
}

/// [`text`], where there is any.
pub fn some_text(bytes: &[u8]) -> (Option<String>, Option<String>) {
    if bytes.is_empty() {
        return (None, None);
    }
    let (text, base64) = text(bytes);
    (Some(text), base64)
}

/// The bytes that [`text`] was made from.
pub fn exact<'a>(text: &'a str, base64: Option<&str>) -> Cow<'a, [u8]> {
    match base64.and_then(|base64| BASE64.decode(base64).ok()) {
        Some(bytes) => Cow::Owned(bytes),
        None => Cow::Borrowed(text.as_bytes()),
    }
}

/// RFC 3339 in UTC with nanoseconds. What no calendar holds becomes the nearest that one does.
pub fn time(unix_ns: i128) -> String {
    let nearest = if unix_ns < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    let timestamp = jiff::Timestamp::from_nanosecond(unix_ns).unwrap_or(nearest);
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));
    PRINTER.timestamp_to_string(&timestamp)
}

impl Argv {
    /// At most `bytes_max` bytes; `truncated`: it was cut before.
    pub fn new(argv: &[Bytes], truncated: bool, bytes_max: usize) -> Self {
        let mut left = bytes_max;
        let mut cut = truncated;
        let mut kept: Vec<&[u8]> = Vec::new();
        for argument in argv {
            if left == 0 {
                break;
            }
            if argument.len() > left {
                cut = true;
                kept.push(&argument[..left]);
                break;
            }
            kept.push(argument);
            // Its end costs a byte too, or a list of empty arguments would have no limit.
            left = left.saturating_sub(argument.len() + 1);
        }
        cut |= kept.len() < argv.len();
        let is_text = kept.iter().all(|argument| std::str::from_utf8(argument).is_ok());
        Self {
            argv: kept.iter().map(|argument| String::from_utf8_lossy(argument).into_owned()).collect(),
            argv_b64: (!is_text).then(|| kept.iter().map(|argument| BASE64.encode(argument)).collect()),
            argv_truncated: cut.then_some(true),
        }
    }

    /// The exact bytes of each argument.
    pub fn exact(&self) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let base64 = self.argv_b64.as_deref().unwrap_or_default();
        self.argv.iter().enumerate().map(move |(i, text)| exact(text, base64.get(i).map(String::as_str)))
    }
}

impl Program {
    /// A process, with at most `argv_bytes_max` bytes of arguments.
    pub fn new(process: &Process, argv_bytes_max: usize) -> Self {
        let (exe, exe_b64) = text(&process.exe);
        Self {
            pid: process.key.tgid,
            start_time: time(process.start_unix_ns),
            exe,
            exe_b64,
            argv: Argv::new(&process.argv, process.argv_truncated, argv_bytes_max),
        }
    }
}

impl AlertModel {
    /// What is known of a model.
    pub fn new(model: &Model) -> Self {
        let (path, path_b64) = text(&model.path);
        let omitted = model.findings.len().saturating_sub(FINDINGS_MAX);
        Self {
            path,
            path_b64,
            repo: model.repo.clone(),
            revision: model.revision.clone(),
            format: model.format.clone(),
            class: model.class,
            size: model.size,
            sha256: model.sha256.clone(),
            // `s_dev` is the kernel's own dev_t: 12 bits major, 20 bits minor.
            dev: format!("{}:{}", model.inode.dev >> 20, model.inode.dev & 0xf_ffff),
            ino: model.inode.ino.to_string(),
            verdict: model.verdict,
            findings: model.findings.iter().take(FINDINGS_MAX).cloned().collect(),
            findings_omitted: (omitted > 0).then_some(omitted),
        }
    }
}

#[cfg(test)]
#[path = "alert_tests.rs"]
mod tests;
