//! Indices of the per-CPU counter array `COUNTERS`: what the kernel half did and what it could not.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Counters, in index order. `LOSS` ones become alerts of kind `loss`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Ring full: a record was dropped.
    RingFull = 0,
    /// `TASKS` full: a mark could not be set or inherited.
    TasksFull = 1,
    /// `LOAD_SETS` full.
    LoadSetsFull = 2,
    /// `INODES` refused an entry.
    InodesFull = 3,
    /// An open was not announced: its cgroup is over its rate of files that nobody has looked at.
    CandidateRate = 4,
    /// A kernel structure could not be read.
    ReadFailed = 5,
    /// Descriptor walks that met their limit: a load window judged as "shortly after", or a program of whose descriptors
    /// not all were looked at when it was started.
    WalkCut = 6,
    /// Records sent.
    Sent = 7,
    /// Runs of the open hook by the sensor itself (canary).
    CanaryOpen = 8,
    /// Runs of the connect hooks by the sensor itself (canary).
    CanaryConnect = 9,
    /// Runs of the datagram hooks by the sensor itself (canary).
    CanarySend = 10,
    /// Runs of the fork hook by the sensor itself (canary).
    CanaryFork = 11,
    /// Runs of the exec hook by the sensor itself (canary).
    CanaryExec = 12,
    /// Runs of the hook before an exec by the sensor itself (canary).
    CanaryExecWindow = 13,
    /// Runs of the socket hooks by the sensor itself (canary).
    CanarySocket = 14,
    /// As [`Self::CanaryConnect`], IPv6.
    CanaryConnect6 = 15,
    /// As [`Self::CanarySend`], IPv6.
    CanarySend6 = 16,
    /// Runs of the exit hook by the sensor itself (canary).
    CanaryExit = 17,
    /// Two threads of one process changed its load at once, and one gave up.
    Contended = 18,
    /// Every scratch area of a CPU was in use: a record was not made.
    ScratchBusy = 19,
    /// The ring was half full, and the cgroup had sent more than its share: a record was dropped, so that others find
    /// room.
    EventShare = 20,
    /// Acts that were counted into an equal one of the same second instead of being sent.
    Folded = 21,
    /// Runs of the canary of a rung (`sensor-ebpf/src/hook/canary.rs`).
    CanaryRung = 22,
    /// A file that only its content could show to be a model was not looked at: its cgroup is over its rate.
    UnknownRate = 23,
    /// `THREADS` full: a thread counts as made outside the load.
    ThreadsFull = 24,
    /// Runs of the hook on received descriptors by the sensor itself (canary).
    CanaryReceive = 25,
    /// Runs of the hook on inherited descriptors by the sensor itself (canary).
    CanaryInherit = 26,
    /// A program was started with the descriptors of several models: only the first is known.
    InheritedMore = 27,
    /// Runs of the datagram bind hooks by the sensor itself (canary).
    CanaryBind = 28,
    /// As [`Self::CanaryBind`], IPv6.
    CanaryBind6 = 29,
    /// Runs of the TCP socket hook by the sensor itself (canary).
    CanarySockops = 30,
    /// Runs of the accept hook by the sensor itself (canary).
    CanaryAccept = 31,
    /// Runs of the unix socket hook by the sensor itself (canary).
    CanaryUnix = 32,
    /// Runs of the hook on sent packets by the sensor itself (canary).
    CanaryPacket = 33,
    /// Runs of the hook on sent lengths by the sensor itself (canary).
    CanaryLength = 34,
    /// `PYTHONS` full: of a process nobody knows that it runs CPython.
    PythonsFull = 35,
}

/// Entries of `COUNTERS`.
pub const COUNTERS: u32 = 40;

/// Counters that mean something was not seen, with the stable word that `event.reason` of a loss alert uses.
pub const LOSS: [(Counter, &str); 13] = [
    (Counter::RingFull, "ring_full"),
    (Counter::EventShare, "event_share"),
    (Counter::ScratchBusy, "scratch_busy"),
    (Counter::TasksFull, "task_table_full"),
    (Counter::LoadSetsFull, "load_set_table_full"),
    (Counter::InodesFull, "inode_table_full"),
    (Counter::CandidateRate, "candidate_rate"),
    (Counter::UnknownRate, "unknown_name_rate"),
    (Counter::ReadFailed, "kernel_read_failed"),
    (Counter::Contended, "load_set_contended"),
    (Counter::ThreadsFull, "thread_table_full"),
    (Counter::PythonsFull, "python_table_full"),
    (Counter::InheritedMore, "inherited_more"),
];

/// Counters that mean less was seen than could be, without anything that claims to be a model having been missed: shown
/// by `sensor status`, and no alert.
pub const SKIPPED: [(Counter, &str); 1] = [(Counter::WalkCut, "descriptor_walk_cut")];

/// Key of map `LOSSES`: whose act was not seen, and why. The value is a count (u64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LossKey {
    /// cgroup v2 id.
    pub cgroup: u64,
    /// [`Counter`]
    pub counter: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<LossKey>() == 16);
