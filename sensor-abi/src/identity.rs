//! Names that stay unique for as long as the machine is up.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A process for ever: a reused pid has another start time.
///
/// Source: `task_struct.tgid`, `task_struct.group_leader->start_boottime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TaskKey {
    /// CLOCK_BOOTTIME, ns.
    pub start_boottime_ns: u64,
    /// In the initial pid namespace.
    pub tgid: u32,
    pub reserved: u32,
}

/// A file for ever.
///
/// Source: `inode.i_ino`, `super_block.s_dev` (major << 20 | minor), `inode.i_generation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InodeKey {
    pub ino: u64,
    pub dev: u32,
    pub generation: u32,
}

/// What changes when a file's content does. A verdict holds only while these do.
///
/// Source: `inode.i_size`, `inode.i_ctime` (not forgeable by utimes(2), unlike mtime).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContentStamp {
    pub size: u64,
    pub ctime_s: i64,
    pub ctime_ns: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<TaskKey>() == 16 && size_of::<InodeKey>() == 16 && size_of::<ContentStamp>() == 24);
