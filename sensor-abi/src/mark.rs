//! Marks: which process carries which load. All live in bounded kernel maps.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::identity::{ContentStamp, InodeKey, TaskKey};

/// Artifacts that a load set holds by name; more are counted in [`LoadSet::omitted`].
pub const LOAD_SET_ARTIFACTS_MAX: usize = 8;

/// Roles of a marked process ([`Mark::role`]).
pub mod role {
    /// Not decided yet: acts are reported, userspace holds them until it knows.
    pub const UNDECIDED: u8 = 0;
    /// Everything that is no reader.
    pub const LOADER: u8 = 1;
    /// Reads files for a living (cp, tar, a backup): recorded, reported never, inherited by no child.
    pub const READER: u8 = 2;
    /// The sensor itself and its helpers: never marked, never reported.
    pub const OWN: u8 = 3;
}

/// Value of map `TASKS`, keyed by tgid (u32). `start_boottime_ns` proves that the tgid wasn't reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mark {
    pub start_boottime_ns: u64,
    /// Key into `LOAD_SETS`; 0 where there is none ([`role::OWN`]).
    pub set: u64,
    /// The executable that opened the model: its role is looked up again until it is decided. Of [`role::OWN`] the
    /// number is the sensor's process id.
    pub exe: InodeKey,
    pub role: u8,
    /// Bit i: born inside the load window of the set's artifact i.
    pub born: u8,
    /// 1: who the process is has been told to nobody. It is told with its first act or child ([`crate::record::Who`]).
    pub untold: u8,
    pub pad: u8,
    pub reserved: u32,
    /// Who may change the set: a thread adds 1, and has it if it finds 1.
    pub busy: u64,
}

/// One model file in a load set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Artifact {
    pub inode: InodeKey,
    /// The content that was opened: a file that is rewritten later is another artifact.
    pub stamp: ContentStamp,
    pub opener: TaskKey,
    /// CLOCK_BOOTTIME, ns; the latest open.
    pub opened_ns: u64,
    /// CLOCK_BOOTTIME, ns; the opener's first open of it.
    pub first_ns: u64,
    /// CLOCK_BOOTTIME, ns; the last walk that found the descriptor open.
    pub held_ns: u64,
    /// Thread that opened it.
    pub tid: u32,
    /// Descriptor index where it was found last: the first place to look.
    pub fd: u32,
    /// 1: its name or place says that it may be a model; 0: it is one only if its content says so.
    pub named: u32,
    pub reserved: u32,
}

/// Value of map `THREADS`, keyed by thread id (u32): a thread that was made inside a load window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BornThread {
    pub start_boottime_ns: u64,
    /// Bit i: inside the window of the set's artifact i, if that was there before the thread.
    pub born: u64,
}

/// Value of map `LOAD_SETS`, keyed by an id (u64). Shared by a process and the children that opened nothing themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LoadSet {
    /// Who may add to it; a child that opens a model gets a copy of its own.
    pub owner: TaskKey,
    /// Marks that name this set.
    pub refs: i64,
    /// Valid entries of `artifacts`.
    pub count: u32,
    /// Artifacts that gave way to later ones: what turned out to be no model or clean first, else the latest.
    pub omitted: u32,
    pub artifacts: [Artifact; LOAD_SET_ARTIFACTS_MAX],
}

/// What an inode's content is ([`InodeInfo::class`]).
pub mod class {
    /// A candidate was sent, no answer yet: marks are provisional.
    pub const PENDING: u8 = 0;
    pub const CODE: u8 = 1;
    pub const DATA: u8 = 2;
    /// Looked at and not recognised: stays under suspicion.
    pub const UNKNOWN: u8 = 3;
    /// Looked at: no model. Opens set no mark.
    pub const NOT_MODEL: u8 = 4;
}

/// Verdict bits of [`InodeInfo::verdict`].
pub mod verdict {
    pub const NONE: u8 = 0;
    pub const CLEAN: u8 = 1;
    pub const SUSPICIOUS: u8 = 2;
    pub const MALICIOUS: u8 = 3;
    pub const UNSCANNABLE: u8 = 4;
}

/// Value of maps `INODES` (LRU) and `INODES_MALICIOUS` (never evicted), keyed by [`InodeKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InodeInfo {
    pub stamp: ContentStamp,
    pub class: u8,
    pub verdict: u8,
    /// 1: a name or place said once that it may be a model; 0: only its content could, and hasn't yet.
    pub named: u8,
    pub reserved: [u8; 5],
}

/// Slots of map `TASK_SLOTS`.
pub const TASK_SLOTS: u32 = 65_536;

/// Where map `TASK_SLOTS` counts what is known of processes with this id.
#[inline(always)]
pub const fn task_slot(tgid: u32) -> u32 {
    tgid % TASK_SLOTS
}

/// Slots of map `INODE_SLOTS`.
pub const INODE_SLOTS: u32 = 65_536;

/// In a slot: `INODES_MALICIOUS` may know a file with such a number.
pub const SLOT_MALICIOUS: u64 = 1;
/// In a slot, or any multiple of it: `INODES` may.
pub const SLOT_KNOWN: u64 = 2;

/// Where map `INODE_SLOTS` says whether `INODES` or `INODES_MALICIOUS` can know a file with this inode number. On most
/// file systems numbers are handed out in order, so that a hundred models have a hundred slots.
#[inline(always)]
pub const fn inode_slot(ino: u64) -> u32 {
    (ino ^ ino >> 32) as u32 % INODE_SLOTS
}

/// Value of map `FLOWS`, keyed by a socket's cookie (u64): a connection whose bytes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    /// Acknowledged bytes at which it is told next.
    pub next: u64,
    /// Acknowledged bytes that were told.
    pub told: u64,
    /// Who made it; 0 where it was accepted.
    pub task: TaskKey,
}

/// Classes of a name's last 8 bytes (map `SUFFIXES`).
pub mod suffix {
    /// A model's suffix: look at the file.
    pub const MODEL: u8 = 1;
    /// Says nothing (`.tmp`, `.bak`, `.0`): look at the 8 bytes before it.
    pub const STRIP: u8 = 2;
    /// Surely no model: not even looked at where an interpreter opens it.
    pub const HARMLESS: u8 = 3;
    /// Python's own programs: harmless, but where a hub's code is kept ([`crate::name::hub_folder`]).
    pub const PROGRAM: u8 = 4;
}

const _: () = assert!(size_of::<Mark>() == 48 && size_of::<Artifact>() == 96 && size_of::<InodeInfo>() == 32);
const _: () = assert!(size_of::<LoadSet>() == 32 + LOAD_SET_ARTIFACTS_MAX * 96);
