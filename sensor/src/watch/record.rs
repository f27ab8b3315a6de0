//! What the rooms of `watch` hand to each other: the kernel's records after they were checked.

use std::net::{IpAddr, SocketAddr};

use sensor_abi::identity::ContentStamp;

use crate::event::{Bytes, ContentClass, InodeKey, ModelFinding, TaskKey, Verdict};

/// What every record says about the acting process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub tid: u32,
    /// CLOCK_BOOTTIME, ns.
    pub time_ns: u64,
    pub task: TaskKey,
    /// The group of `real_parent`: its creator, or who it was given to.
    pub parent: TaskKey,
    pub cgroup: u64,
    pub uid: u32,
}

/// A model, or what may be one, was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    pub header: Header,
    pub inode: InodeKey,
    pub stamp: ContentStamp,
    pub path: Bytes,
    /// The executable that opened it.
    pub exe: InodeKey,
    /// `None` where the hook runs before the descriptor exists.
    pub fd: Option<u32>,
    /// [`sensor_abi::mark::role`] as known at the open.
    pub role: u8,
    /// [`sensor_abi::record::writers`]
    pub writers: u32,
    /// `super_block.s_magic`
    pub fs_magic: u64,
    /// Its name or place says that it may be a model; else it is one only if its content says so.
    pub named: bool,
    /// It was open or mapped when the sensor came.
    pub found: bool,
    /// The kernel knew it to be clean.
    pub is_quiet: bool,
    /// `task_struct.comm`: the base name of what was executed, and of a script where that was one.
    pub comm: [u8; 16],
}

/// Who a process is that carries a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    pub header: Header,
    pub exe: Executable,
    pub argv: Argv,
    /// Nearest first.
    pub ancestors: Vec<TaskKey>,
    /// [`sensor_abi::mark::role`] as known now.
    pub role: u8,
    /// What it loaded may have changed its arguments.
    pub is_late: bool,
}

/// An executable as the kernel saw it, and what decides whether its name can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    pub inode: InodeKey,
    pub path: Bytes,
    /// `super_block.s_magic`
    pub fs_magic: u64,
    pub uid: u32,
    /// `u32::MAX` where it isn't known, or where the executable is mounted over another name.
    pub mode: u32,
    pub dir_uid: u32,
    pub dir_mode: u32,
}

/// Arguments, as many as were sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Argv {
    pub args: Vec<Bytes>,
    pub truncated: bool,
}

/// Arguments that are kept; each costs more than its bytes.
const ARGS_MAX: usize = 256;

impl Argv {
    /// From arguments that NULs end or separate.
    pub fn split(bytes: &[u8], truncated: bool) -> Self {
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        if bytes.is_empty() {
            return Self { args: Vec::new(), truncated };
        }
        let mut parts = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec);
        let args = parts.by_ref().take(ARGS_MAX).collect();
        Self { args, truncated: truncated || parts.next().is_some() }
    }
}

/// The load that an acting process carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// The executable that opened the model.
    pub exe: InodeKey,
    /// [`sensor_abi::mark::role`]
    pub role: u8,
    pub artifacts: Vec<LoadArtifact>,
    pub omitted: u32,
}

/// One model of a load, as it was at the act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadArtifact {
    pub inode: InodeKey,
    pub stamp: ContentStamp,
    pub opener: TaskKey,
    pub opened_ns: u64,
    /// [`Open::named`]
    pub named: bool,
    /// The last walk that found the descriptor open.
    pub held_ns: u64,
    /// The process was born in this artifact's window.
    pub born: bool,
    /// The act is in its window.
    pub held: bool,
    /// The walk that would tell was cut.
    pub cut: bool,
    /// The acting thread was there before the first open of it, and isn't the one that opened it.
    pub bystander: bool,
}

/// An address family that the hooks report, with the address where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    /// `AF_*`
    pub family: u16,
    pub ip: Option<IpAddr>,
    pub port: u16,
    /// `SOCK_*`
    pub sock_type: u16,
    /// `IPPROTO_*`
    pub protocol: u16,
    /// Of the socket; 0 where it isn't known.
    pub cookie: u64,
    /// Of the datagram; 0 where it isn't known.
    pub bytes: u64,
}

/// What a record about an address says was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Connect,
    Send,
    /// The address is the local one.
    Bind,
}

/// One content of one file, and what was found out about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    pub inode: InodeKey,
    pub stamp: ContentStamp,
    pub path: Bytes,
    pub format: Option<String>,
    pub class: ContentClass,
    pub verdict: Verdict,
    pub findings: Vec<ModelFinding>,
    pub all_globals_safe: bool,
    pub sha256: Option<String>,
}

/// An act that is neither a load, a program nor a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// [`sensor_abi::act::call`]
    pub call: u16,
    pub number: u64,
    /// Another process, in the initial pid namespace.
    pub target: Option<u32>,
    /// Empty where there is none.
    pub path: Bytes,
}

/// How many acts a record stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeats {
    pub times: u64,
    /// CLOCK_BOOTTIME, ns: the latest of them.
    pub last_ns: u64,
}

impl Repeats {
    pub fn once(time_ns: u64) -> Self {
        Self { times: 1, last_ns: time_ns }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Open(Box<Open>),
    Who(Box<Who>),
    Fork {
        header: Header,
        child: TaskKey,
    },
    Exec {
        header: Header,
        load: Load,
        exe: InodeKey,
        path: Bytes,
        argv: Argv,
    },
    Exit {
        header: Header,
    },
    /// It runs another program, and carries no load any more.
    Unmark {
        header: Header,
    },
    Net {
        doing: Doing,
        header: Header,
        load: Load,
        net: Net,
        repeats: Repeats,
    },
    /// `net` is the local end.
    Accept {
        header: Header,
        load: Load,
        net: Net,
        peer: SocketAddr,
    },
    /// The name that the peer is bound to; an abstract one begins with `@`.
    Unix {
        header: Header,
        load: Load,
        name: Bytes,
    },
    /// A packet as it left: from a raw socket, or to port 53 with its DNS message.
    Packet {
        header: Header,
        load: Load,
        net: Net,
        payload: Vec<u8>,
    },
    /// A DNS message that came to the socket `cookie`.
    Answer {
        time_ns: u64,
        cookie: u64,
        from: Option<IpAddr>,
        payload: Vec<u8>,
    },
    /// What a connection has carried away.
    Egress {
        time_ns: u64,
        /// Who made it; `None` where it was accepted.
        task: Option<TaskKey>,
        cookie: u64,
        /// The peer.
        to: Option<SocketAddr>,
        bytes: u64,
        /// Of them, since it was told last.
        more: u64,
    },
    Act {
        header: Header,
        load: Load,
        act: Act,
    },
}

impl From<sensor_abi::identity::InodeKey> for InodeKey {
    fn from(key: sensor_abi::identity::InodeKey) -> Self {
        Self { dev: key.dev, generation: key.generation, ino: key.ino }
    }
}

impl From<InodeKey> for sensor_abi::identity::InodeKey {
    fn from(key: InodeKey) -> Self {
        Self { ino: key.ino, dev: key.dev, generation: key.generation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_arguments_are_kept_and_a_flood_of_them_is_not() {
        assert_eq!(Argv::split(b"a\0\0b\0", false).args, [b"a".to_vec(), b"".to_vec(), b"b".to_vec()]);
        assert_eq!(Argv::split(b"", false), Argv::default());
        let flood = Argv::split(&[0; 4_000], false);
        assert_eq!((flood.args.len(), flood.truncated), (ARGS_MAX, true));
    }
}
