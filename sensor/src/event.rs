//! The vocabulary of the runtime half: what `watch` hands to `policy`, and what both say in an alert.
//!
//! Data flows one way: `watch` (kernel, decode, process table, correlate) makes [`Act`]s; `policy` judges them;
//! `incident` folds them; `alert` writes them down; `sink` carries them out. These types are the only thing that the
//! rooms share.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Names a process for ever: a pid that is used again has another start time.
///
/// Source: `task_struct.tgid` and `task_struct.group_leader->start_boottime` (kernel, ns since boot).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskKey {
    /// In the initial pid namespace.
    pub tgid: u32,
    pub start_boottime_ns: u64,
}

/// Names a file's content holder for ever: `super_block.s_dev` (major << 20 | minor), `inode.i_ino`,
/// `inode.i_generation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InodeKey {
    pub dev: u32,
    pub generation: u32,
    pub ino: u64,
}

/// Bytes from the kernel or a file system: hostile, not necessarily UTF-8.
pub type Bytes = Vec<u8>;

/// One process as an alert shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub key: TaskKey,
    /// Wall-clock start, ns since the epoch.
    pub start_unix_ns: i128,
    /// Path of the executable as its mount namespace sees it; empty where it isn't known.
    pub exe: Bytes,
    pub argv: Vec<Bytes>,
    pub argv_truncated: bool,
    pub uid: Option<u32>,
}

/// A process and how it came to be, nearest ancestor first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    pub process: Process,
    pub ancestors: Vec<Process>,
    /// cgroup v2 id of the acting task.
    pub cgroup_id: u64,
}

/// What a file's content can do, by its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentClass {
    /// The format can run code when it is loaded (pickle, torch, joblib, object arrays …).
    Code,
    /// The format cannot (safetensors, plain arrays …).
    Data,
    /// Not known yet, or not recognised.
    Unknown,
}

/// The scanner's word on a file, as far as it is known now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Clean,
    Suspicious,
    Malicious,
    /// Unreadable because of its content, or incomplete (DESIGN 5: fails closed).
    Unscannable,
    /// No answer yet.
    Pending,
    /// Not read: policy, a time-out, a swapped file, a file system that may lie. Judged as a clean file that can run
    /// code; written as `pending` in alerts.
    NotRead,
}

impl Verdict {
    /// The word of the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Suspicious => "suspicious",
            Self::Malicious => "malicious",
            Self::Unscannable => "unscannable",
            Self::Pending | Self::NotRead => "pending",
        }
    }
}

impl serde::Serialize for Verdict {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One finding of the scanner as an alert carries it (the full report is `sensor scan`'s).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ModelFinding {
    /// `SNS-…`
    pub id: String,
    /// info | low | medium | high | critical
    pub severity: String,
    pub title: String,
}

/// When a file was rewritten or removed by who loaded it, before anybody else could read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destroyed {
    /// When it was loaded already.
    Afterwards,
    /// In its own load window: nobody but what is in it does that.
    InLoad,
}

/// What is known of one model file. Replaced as a whole when the scanner has spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Which sight of which file this is: another content under the same inode is another model.
    pub sight: u64,
    pub inode: InodeKey,
    /// As the opener's mount namespace sees it.
    pub path: Bytes,
    pub size: u64,
    /// The scanner's name of the format ("pickle", "torch-zip" …), where known.
    pub format: Option<String>,
    pub class: ContentClass,
    pub verdict: Verdict,
    pub findings: Vec<ModelFinding>,
    /// Hex; only where it was computed.
    pub sha256: Option<String>,
    /// From the hub-cache layout, where the path shows it.
    pub repo: Option<String>,
    pub revision: Option<String>,
    /// Why it is [`Verdict::NotRead`], where that is why.
    pub destroyed: Option<Destroyed>,
    /// Every global that the file names is on the safe list (row 3's `born_in_load` softening, DESIGN 6).
    pub all_globals_safe: bool,
}

/// One model in the load set of an acting process.
#[derive(Debug, Clone)]
pub struct Artifact {
    pub model: Arc<Model>,
    /// Who opened it.
    pub opener: TaskKey,
    /// Boot-time clock, ns.
    pub opened_boottime_ns: u64,
    /// Is the act inside this artifact's load window? (DESIGN 3; decided in the kernel at the act.)
    pub in_window: bool,
    /// The acting process was born inside this artifact's window.
    pub born: bool,
    pub basis: Option<Basis>,
    /// ns between the latest of (open, last walk that found it held) and the act.
    pub since_ns: u64,
    /// The acting thread was there before the load, and opened nothing of it.
    pub bystander: bool,
}

/// How `in_load` was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The descriptor was found open at the act.
    Held,
    /// The process was created inside a window.
    Born,
    /// The descriptor walk was cut by its limit: judged as "shortly after".
    Cut,
}

/// `event.proto`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    Tcp,
    Udp,
    Icmp,
    Raw,
    Mptcp,
    Sctp,
    Other,
}

/// `event.family`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Inet,
    Inet6,
    Unix,
    Vsock,
    Packet,
}

/// Where a connection or datagram goes. `ip`/`port` are absent for vsock, packet; v4-mapped is IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    pub family: Family,
    pub proto: Proto,
    pub ip: Option<IpAddr>,
    pub port: Option<u16>,
    pub domain: Option<String>,
}

/// How loud an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// `steps` louder (negative: quieter); stays within the scale.
    pub fn moved(self, steps: i8) -> Self {
        let index = (self as i8).saturating_add(steps).clamp(0, Self::ALL.len() as i8 - 1);
        Self::ALL[index as usize]
    }

    /// The word of the contract.
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

/// What is done about an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Alert,
    Deny,
    Kill,
}

/// `event.kind` of an alert, and what a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    ModelOpen,
    Exec,
    Connect,
    Send,
    /// A socket listens, or waits for datagrams.
    Bind,
    /// A connection from outside was accepted.
    Accept,
    /// A datagram to a configured resolver.
    Dns,
    /// A unix socket of somebody else's.
    Unix,
    /// Bytes that a connection carried away.
    Egress,
    /// A file that gives a payload away was read or written.
    File,
    /// Another process's memory or descriptors.
    Ptrace,
    /// Code for the kernel.
    Kmod,
    Mount,
    Privilege,
    Namespace,
    Loss,
}

/// `event.access`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    Read,
    /// Opened for writing, created, or put in place.
    Write,
}

/// An act on the system itself: another process, the kernel, mounts, privileges, namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Deed {
    /// [`EventKind::Ptrace`], `Kmod`, `Mount`, `Privilege` or `Namespace`.
    pub kind: EventKind,
    /// `event.op`: a stable word.
    pub op: &'static str,
    /// What was loaded, mounted on, or executed; empty where there is none.
    pub path: Bytes,
    /// Another process, in the initial pid namespace.
    pub target: Option<u32>,
    /// The other process runs the very program that this one runs: MPI, UCX and torch share memory so.
    pub peer: bool,
    /// `event.namespaces`
    pub namespaces: Vec<&'static str>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActKind {
    /// A model was opened (its verdict is in the artifact).
    ModelOpen,
    Exec {
        exe: Bytes,
        argv: Vec<Bytes>,
        argv_truncated: bool,
    },
    /// TCP connect, or a UDP connect (which sends nothing by itself: `proto` says which).
    Connect(Destination),
    /// A datagram.
    Send(Destination),
    /// A TCP socket listens, or a datagram socket was bound; here.
    Bind(Destination),
    /// A connection was accepted `at` this host, from `peer`.
    Accept {
        at: Destination,
        peer: SocketAddr,
    },
    /// A connection or datagram to the unix socket that is bound to `path` (abstract names begin with `@`).
    Unix {
        path: Bytes,
    },
    /// So many bytes left by one connection, or by datagrams to one destination, since its beginning; `more` of them since
    /// they were told last.
    Egress {
        to: Destination,
        bytes: u64,
        more: u64,
        /// The other end made the connection: a server's answers.
        accepted: bool,
    },
    /// A file that gives a payload away.
    File {
        path: Bytes,
        access: Access,
    },
    System(Deed),
}

impl ActKind {
    /// Where it goes, or comes from: what is placed.
    pub fn destination(&self) -> Option<&Destination> {
        match self {
            Self::Connect(to) | Self::Send(to) | Self::Bind(to) | Self::Egress { to, .. } => Some(to),
            Self::Accept { at, .. } => Some(at),
            Self::ModelOpen | Self::Exec { .. } | Self::Unix { .. } | Self::File { .. } | Self::System(_) => None,
        }
    }

    /// Process id of whom it reaches into.
    pub fn target(&self) -> Option<u32> {
        match self {
            Self::System(deed) if deed.kind == EventKind::Ptrace => deed.target,
            _ => None,
        }
    }
}

/// Who the acting process is to the sensor (DESIGN 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Loader,
    /// Reads files for a living: recorded, info.
    Reader,
}

/// One act of a process that carries a load.
#[derive(Debug, Clone)]
pub struct Act {
    /// Wall clock at the act (the latest of equal ones), ns since the epoch.
    pub time_unix_ns: i128,
    pub time_boottime_ns: u64,
    /// How many equal acts this one stands for.
    pub times: u64,
    pub kind: ActKind,
    pub role: Role,
    pub lineage: Arc<Lineage>,
    /// At least one; the worst and the first are always among them.
    pub artifacts: Vec<Artifact>,
    /// Artifacts beyond the limit of the load set.
    pub artifacts_omitted: u32,
}

/// A [`Loss::reason`]: files were opened, found no place to wait for the scanner, and nobody who has one acted.
pub const OPEN_UNJUDGED: &str = "open_unjudged";

/// Something that the sensor did not see, per reason. Becomes an alert of kind `loss` (its `process` is null).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    pub time_unix_ns: i128,
    /// A stable word: `ring_full`, `task_table_full`, [`OPEN_UNJUDGED`], …
    pub reason: &'static str,
    /// cgroup v2 id of whoever it was lost of, where that is known.
    pub cgroup: Option<u64>,
    pub count: u64,
}
