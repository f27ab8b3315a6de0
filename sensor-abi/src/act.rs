//! Acts that are neither a load, a program nor a packet: files that give a payload away, other processes, the kernel,
//! mounts, privileges, namespaces. One record for all of them; what the numbers mean depends on the call.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::{Header, Load};

/// What was done ([`Act::call`]). A number that isn't named is 0.
pub mod call {
    /// A file was opened: `number` is of [`super::access`].
    pub const OPEN: u16 = 1;
    /// A name was given to a file: by rename(2), link(2) or symlink(2). `path` is the new name.
    pub const RENAME: u16 = 2;
    pub const LINK: u16 = 3;
    pub const SYMLINK: u16 = 4;
    /// Another process's memory or descriptors were asked for: `number` is the `PTRACE_MODE_*` of the check.
    pub const ACCESS: u16 = 5;
    /// ptrace(2), to attach.
    pub const PTRACE: u16 = 6;
    pub const VM_READ: u16 = 7;
    pub const VM_WRITE: u16 = 8;
    pub const PIDFD_GETFD: u16 = 9;
    /// Code was loaded into the kernel; `path` where it came from a file.
    pub const MODULE: u16 = 10;
    pub const KEXEC: u16 = 11;
    /// Something was mounted, or a mount moved, at `path`.
    pub const MOUNT: u16 = 12;
    pub const PIVOT_ROOT: u16 = 13;
    /// The effective user becomes root by setuid(2) and its kin: `number` is the user before.
    pub const SETUID: u16 = 14;
    /// A program was executed that gave more than its caller had: `path` is its file, `number` the effective user before.
    pub const EXEC_GAIN: u16 = 15;
    /// New namespaces of its own: `number` is of [`super::namespace`], and flags that mean nothing here.
    pub const UNSHARE: u16 = 16;
    /// Somebody else's namespace: `number` is its kind, or 0 where the caller didn't say.
    pub const SETNS: u16 = 17;
    /// A child in namespaces of its own: `target`; `number` is of [`super::namespace`].
    pub const CLONE: u16 = 18;
    /// A name that is looked for was taken from a file or a folder by rename(2), or given another by link(2): `path` is
    /// that name.
    pub const MOVED: u16 = 19;
    pub const ALIAS: u16 = 20;
    /// What the process loaded, and nobody has read yet, is opened for writing, cut, removed or moved: `number` is that of
    /// its inode; where only the name is known it is 0, and the name is `path`.
    pub const DESTROY: u16 = 21;
    /// A program is to run as whoever owns it: `path`.
    pub const SET_USER_ID: u16 = 22;
    /// A program is given capabilities: `path`.
    pub const SET_CAPABILITIES: u16 = 23;
    /// A program for the kernel, by bpf(2).
    pub const BPF: u16 = 24;
    /// A socket whose packets pass by the kernel's network.
    pub const XDP: u16 = 25;
}

/// How a file is used, as bits: of a record, and (shifted) of a watched name.
pub mod access {
    pub const READ: u8 = 1;
    /// Opened for writing, created, or put in place.
    pub const WRITE: u8 = 2;
}

/// What a name means when a marked process opens a file (values of map `NAMES`): [`access`] bits for each place where
/// the name can stand.
pub mod place {
    /// The name is the file's.
    pub const FILE: u32 = 0;
    /// The name is that of the folder that the file is in.
    pub const FOLDER: u32 = 2;
    /// The name is that of the folder above.
    pub const ABOVE: u32 = 4;
}

/// `include/uapi/linux/sched.h`: kinds of namespaces, as bits.
pub mod namespace {
    pub const TIME: u64 = 0x80;
    pub const MNT: u64 = 0x2_0000;
    pub const CGROUP: u64 = 0x200_0000;
    pub const UTS: u64 = 0x400_0000;
    pub const IPC: u64 = 0x800_0000;
    pub const USER: u64 = 0x1000_0000;
    pub const PID: u64 = 0x2000_0000;
    pub const NET: u64 = 0x4000_0000;
}

/// What a system call's arguments say (values of map `CALLS`, keyed by its number). Arguments are counted from 1; 0 is
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Shape {
    /// [`call`]
    pub call: u16,
    /// Which is the record's number.
    pub number: u8,
    /// Which is a path.
    pub path: u8,
    /// Which is the descriptor of the folder that the path is taken from; 0 is the current folder.
    pub folder: u8,
    /// Which is the descriptor of the file that it is about.
    pub file: u8,
    /// Which is the number of another process.
    pub process: u8,
    /// Which is the effective user that the caller wants to be.
    pub user: u8,
    /// Which is the old name, where the call gives another.
    pub old: u8,
    /// Which is the descriptor of the folder that the old name is taken from; 0 is the current folder.
    pub old_folder: u8,
    /// Which has the flags of a rename.
    pub flags: u8,
    pub reserved: u8,
}

/// Entries of map `CALLS`.
pub const CALLS_MAX: u32 = 64;

/// Entries of map `NAMES`.
pub const NAMES_MAX: u32 = 1_024;

/// `path_len` bytes of path, then `base_len` bytes. Both are components (leaf first, each ended by NUL); where
/// [`TEXT`] is set, `path` is the text that the call was given, to be taken from the folder `base`.
///
/// In front of them: the load's artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Act {
    pub header: Header,
    pub load: Load,
    pub number: u64,
    /// Another process that is concerned, in the initial pid namespace; 0 where there is none or it isn't known.
    pub target: u32,
    pub reserved: u32,
    /// [`call`]
    pub call: u16,
    pub path_len: u16,
    pub base_len: u16,
    /// [`CUT_PATH`], [`CUT_BASE`], [`TEXT`]
    pub flags: u16,
}

/// The path lacks its beginning.
pub const CUT_PATH: u16 = 1;
/// The base lacks its beginning.
pub const CUT_BASE: u16 = 2;
/// The path is the caller's text.
pub const TEXT: u16 = 4;

const _: () = assert!(size_of::<Act>() == 136 && size_of::<Shape>() == 12);
