//! Records of the two rings. Fixed part first, then the strings that the fixed part gives lengths for.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::act::Act;
use crate::identity::{ContentStamp, InodeKey, TaskKey};
use crate::mark::{Artifact, LOAD_SET_ARTIFACTS_MAX};

/// Longest path that is sent, bytes (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest executable path that is sent, bytes.
pub const EXE_BYTES_MAX: usize = 1024;
/// Most argv bytes that are sent.
pub const ARGV_BYTES_MAX: usize = 4096;
/// Longest path component with its NUL (`NAME_MAX` + 1): what the walk may write beyond the limits above.
pub const COMPONENT_BYTES_MAX: usize = 256;
/// Components and mounts that the dentry walk climbs; a deeper path lacks its beginning.
pub const PATH_STEPS_MAX: u32 = 2_048;
/// The same where the loop has to be unrolled (before `bpf_loop`, 5.17).
pub const PATH_STEPS_UNROLLED_MAX: u32 = 32;
/// Ancestors sent with a [`Who`].
pub const ANCESTORS_MAX: usize = 8;

/// [`Header::kind`]
pub mod kind {
    /// A process opened a file that may be, or is known to be, a model: [`super::Open`].
    pub const OPEN: u16 = 1;
    /// A marked process made a child: [`super::Fork`].
    pub const FORK: u16 = 2;
    /// A marked process runs another program: [`super::Exec`].
    pub const EXEC: u16 = 3;
    /// The last thread of a marked process is gone: header only.
    pub const EXIT: u16 = 4;
    /// A process that had a mark runs another program, which carries no load: header only.
    pub const UNMARK: u16 = 7;
    /// Who a process is that carries a load, before the first that needs to know: [`super::Who`].
    pub const WHO: u16 = 8;
    /// connect(2) of a marked process: [`super::Net`].
    pub const CONNECT: u16 = 5;
    /// A datagram of a marked process: [`super::Net`].
    pub const SEND: u16 = 6;
    /// Any other act of a marked process: [`crate::act::Act`].
    pub const ACT: u16 = 16;
    /// A marked process listens (TCP) or binds (datagrams): [`super::Net`] with the local address.
    pub const BIND: u16 = 20;
    /// A marked process accepted a connection: [`super::Accept`].
    pub const ACCEPT: u16 = 21;
    /// A marked process connects or sends to a unix socket: [`super::Unix`].
    pub const UNIX: u16 = 22;
    /// A packet of a marked process as it leaves, raw or to port 53: [`super::Packet`].
    pub const PACKET: u16 = 23;
    /// What a resolver answered a marked process: [`super::Answer`].
    pub const ANSWER: u16 = 24;
    /// Bytes that a marked process's connection has carried away: [`super::Egress`].
    pub const EGRESS: u16 = 25;
}

/// A [`Header::uid`] that isn't known; never a user's (`INVALID_UID`).
pub const UNKNOWN_UID: u32 = u32::MAX;

/// First bytes of every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    pub abi: u16,
    pub kind: u16,
    /// The acting thread.
    pub tid: u32,
    /// CLOCK_BOOTTIME, ns.
    pub time_ns: u64,
    pub task: TaskKey,
    /// `real_parent`'s group: its creator, or who it was given to.
    pub parent: TaskKey,
    /// cgroup v2 id; 0 where it isn't known.
    pub cgroup: u64,
    /// Or [`UNKNOWN_UID`].
    pub uid: u32,
    pub reserved: u32,
    pub comm: [u8; 16],
}

/// The load that an acting process carries, as it was at the act; `count` [`Artifact`]s follow the fixed part of the
/// record that holds it, before any string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Load {
    pub exe: InodeKey,
    pub role: u8,
    /// Bit i: born inside artifact i's window.
    pub born: u8,
    /// Bit i: the descriptor was found open and the window was not over.
    pub held: u8,
    /// 1: the walk met its limit before it knew.
    pub cut: u8,
    /// At most [`LOAD_SET_ARTIFACTS_MAX`].
    pub count: u32,
    pub omitted: u32,
    /// When the acting thread was made: ms after its process, rounded up; [`UNKNOWN_MS`].
    pub thread_ms: u32,
}

/// A [`Load::thread_ms`] that isn't known, or is beyond the number.
pub const UNKNOWN_MS: u32 = u32::MAX;

/// Why a file was looked at ([`Open::reason`]).
pub mod reason {
    pub const NAME: u8 = 1;
    pub const PATH_SHAPE: u8 = 2;
    pub const INODE: u8 = 3;
    /// Found open when the sensor started.
    pub const FOUND_OPEN: u8 = 4;
    /// Found mapped when the sensor started.
    pub const FOUND_MAPPED: u8 = 5;
    /// Another process passed the descriptor (SCM_RIGHTS, pidfd_getfd).
    pub const RECEIVED: u8 = 6;
    /// The program was started with the descriptor.
    pub const INHERITED: u8 = 7;
    /// Nothing says that it is a model, and CPython opened it.
    pub const UNKNOWN_NAME: u8 = 8;
}

/// Who could change the content behind the reader's back ([`Open::writers`], bits).
pub mod writers {
    /// Somebody has it open for writing (`inode.i_writecount` > 0).
    pub const OPEN: u32 = 1;
    /// Somebody has a shared writable mapping, which changes neither size nor times (`address_space.i_mmap_writable`).
    pub const MAPPED: u32 = 2;
}

/// An [`Open::fd`] that isn't known (LSM runs before the descriptor exists).
pub const NO_FD: u32 = u32::MAX;

/// Behind it: `path_len` bytes of components, leaf first, each ended by NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Open {
    pub header: Header,
    pub inode: InodeKey,
    pub stamp: ContentStamp,
    pub exe: InodeKey,
    pub fs_magic: u64,
    pub fd: u32,
    /// [`writers`]
    pub writers: u32,
    /// [`reason`]
    pub reason: u8,
    /// [`crate::mark::class`] as known at the open.
    pub class: u8,
    /// [`crate::mark::role`] as known at the open.
    pub role: u8,
    /// 1: the file is known to be clean, and whoever opened it is introduced with what it does next.
    pub is_quiet: u8,
    pub path_len: u16,
    /// 1: the path lacks its beginning.
    pub truncated: u16,
}

/// Behind it: `exe_len` bytes of components, `argv_len` bytes of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Who {
    pub header: Header,
    pub exe: InodeKey,
    pub exe_fs_magic: u64,
    pub exe_uid: u32,
    /// `u32::MAX` where it isn't known, or where the executable is mounted over another name.
    pub exe_mode: u32,
    pub exe_dir_uid: u32,
    pub exe_dir_mode: u32,
    /// Nearest first; unused entries are zero.
    pub ancestors: [TaskKey; ANCESTORS_MAX],
    pub exe_len: u16,
    pub argv_len: u16,
    /// 2: the exe path lacks its beginning; 4: argv was cut.
    pub truncated: u16,
    /// [`crate::mark::role`] as known now.
    pub role: u8,
    /// 1: what was loaded may have run before this was read, and have changed the arguments.
    pub is_late: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Fork {
    pub header: Header,
    pub child: TaskKey,
}

/// Behind it: the load's artifacts, `exe_len` bytes of components, `argv_len` bytes of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exec {
    pub header: Header,
    pub load: Load,
    pub exe: InodeKey,
    /// Links of the executable's inode: 0 is a memfd or a deleted file.
    pub nlink: u32,
    pub exe_len: u16,
    pub argv_len: u16,
    pub truncated: u16,
    pub reserved: [u8; 6],
}

/// Behind it: the load's artifacts. `header.time_ns` is when the first of the acts that it stands for was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Net {
    pub header: Header,
    pub load: Load,
    /// CLOCK_BOOTTIME, ns: the latest of the acts that it stands for.
    pub last_ns: u64,
    /// How many acts it stands for.
    pub times: u64,
    /// `AF_*`
    pub family: u16,
    /// Host byte order.
    pub port: u16,
    /// `SOCK_*`
    pub sock_type: u16,
    /// `IPPROTO_*`
    pub protocol: u16,
    /// IPv4 in the first four bytes.
    pub address: [u8; 16],
    /// `sock.sk_cookie`; 0 where it isn't known.
    pub cookie: u64,
    /// Bytes of all the datagrams that it stands for; 0 where the hook doesn't know.
    pub bytes: u64,
}

/// Behind it: the load's artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Accept {
    /// The local address.
    pub net: Net,
    /// Who connected; as [`Net::address`].
    pub peer: [u8; 16],
    /// Host byte order.
    pub peer_port: u16,
    pub reserved: [u8; 6],
}

/// Longest name of a unix socket that is sent, bytes: `sockaddr_un.sun_path`, rounded up.
pub const UNIX_NAME_BYTES_MAX: usize = 112;

/// Behind it: the load's artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Unix {
    pub header: Header,
    pub load: Load,
    /// The name that the peer is bound to, as it was bound: a path, or NUL and an abstract name.
    pub name: [u8; UNIX_NAME_BYTES_MAX],
    pub name_len: u32,
    pub reserved: u32,
}

/// Most bytes of a DNS message that are sent: the question, and as many addresses as anybody gives.
pub const DNS_BYTES_MAX: usize = 1024;

/// Behind it: the load's artifacts, `payload_len` bytes of a DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Packet {
    pub net: Net,
    /// 0 where it is no datagram to port 53.
    pub payload_len: u32,
    pub reserved: u32,
}

/// Behind it: `payload_len` bytes of a DNS message. Seen when it arrives, so nobody acts: of the header only `abi`,
/// `kind` and `time_ns` are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Answer {
    pub header: Header,
    /// Of the socket that asked.
    pub cookie: u64,
    /// Who answered; as [`Net::address`].
    pub address: [u8; 16],
    pub family: u16,
    pub reserved: u16,
    pub payload_len: u32,
}

/// What a connection has carried away. `header.task` made it; where nobody is known (0: it was accepted), the
/// [`Net::cookie`] of its [`kind::ACCEPT`] names it. Of the header only `abi`, `kind`, `time_ns` and `task` are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Egress {
    pub header: Header,
    pub cookie: u64,
    /// Acknowledged by the peer, since its beginning.
    pub bytes: u64,
    /// Of them, since it was told last.
    pub more: u64,
    /// The peer; as [`Net::address`].
    pub address: [u8; 16],
    pub family: u16,
    /// Host byte order.
    pub port: u16,
    pub reserved: [u8; 12],
}

/// Key of map `FOLDS`: what makes two acts the same for whoever reads alerts. Another place in the load, or another
/// load, makes another act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FoldKey {
    pub task: TaskKey,
    /// Key into `LOAD_SETS`.
    pub set: u64,
    pub kind: u16,
    pub family: u16,
    pub port: u16,
    pub sock_type: u16,
    pub protocol: u16,
    pub held: u8,
    pub born: u8,
    /// Artifacts and omitted ones of the set, which grows under one id.
    pub artifacts: u32,
    pub address: [u8; 16],
}

/// Value of map `FOLDS`: the record that was sent for the first of equal acts. `net.times` counts those that were not
/// sent since; userspace takes it when it is [`FOLD_TAKE_NS`] old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Fold {
    pub net: Net,
    pub artifacts: [Artifact; LOAD_SET_ARTIFACTS_MAX],
}

/// How long equal acts are counted into the first of them, ns.
pub const FOLD_NS: u64 = 1_000_000_000;
/// When nobody adds to a fold any more, ns: later than [`FOLD_NS`] by more than a program takes from its look at the
/// clock to its count.
pub const FOLD_TAKE_NS: u64 = FOLD_NS + 100_000_000;

/// Entries of map `SCRATCH` per CPU: places where a record is put together, for programs that interrupt each other.
pub const SCRATCHES: u32 = 3;

/// Bytes that the artifacts of a record take at most.
pub const ARTIFACTS_BYTES_MAX: usize = LOAD_SET_ARTIFACTS_MAX * size_of::<Artifact>();
/// Largest record, bytes: an act with two paths.
pub const RECORD_BYTES_MAX: usize = size_of::<Act>() + ARTIFACTS_BYTES_MAX + 2 * PATH_BYTES_MAX + COMPONENT_BYTES_MAX;

const _: () = assert!(size_of::<Header>() == 80 && size_of::<Load>() == 32 && size_of::<Net>() == 168);
const _: () = assert!(size_of::<Accept>() == 192 && size_of::<Unix>() == 232 && size_of::<Packet>() == 176);
const _: () = assert!(size_of::<Answer>() == 112 && size_of::<Egress>() == 136);
const _: () = assert!(size_of::<FoldKey>() == 56 && size_of::<Fold>() == 168 + ARTIFACTS_BYTES_MAX);
const _: () = assert!(size_of::<Exec>().is_multiple_of(8) && size_of::<Open>() == 160 && size_of::<Who>() == 256);
const _: () = assert!(size_of::<Exec>() + ARTIFACTS_BYTES_MAX + EXE_BYTES_MAX + ARGV_BYTES_MAX < RECORD_BYTES_MAX);
