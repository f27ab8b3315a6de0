//! Bytes of the rings → records. Nothing is transmuted unchecked: fixed parts are read through `zerocopy`, whose types
//! accept any bit pattern, and every number that has a meaning is checked here, once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sensor_abi::ABI_VERSION;
use sensor_abi::act::{self as raw_act, CUT_BASE, CUT_PATH, TEXT};
use sensor_abi::mark::LOAD_SET_ARTIFACTS_MAX;
use sensor_abi::record::{self as raw, kind};
use thiserror::Error;
use zerocopy::FromBytes;

use super::record::{Act, Argv, Doing, Executable, Header, Load, LoadArtifact, Net, Open, Record, Repeats, Who};
use crate::event::{Bytes, TaskKey};

/// Bytes that are no record. Counted, never fatal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("shorter than its fixed part or its own lengths")]
    Short,
    #[error("of ABI version {0}")]
    Abi(u16),
    #[error("of unknown kind {0}")]
    Kind(u16),
    #[error("of address family {0}, which has no addresses")]
    Family(u16),
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Decodes one record.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let (head, _) = raw::Header::read_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    if head.abi != ABI_VERSION {
        return Err(DecodeError::Abi(head.abi));
    }
    match head.kind {
        kind::OPEN => open(bytes),
        kind::WHO => who(bytes),
        kind::FORK => {
            let (fixed, _) = raw::Fork::read_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
            Ok(Record::Fork { header: header(&fixed.header), child: task(fixed.child) })
        }
        kind::EXEC => exec(bytes),
        kind::EXIT => Ok(Record::Exit { header: header(&head) }),
        kind::UNMARK => Ok(Record::Unmark { header: header(&head) }),
        kind::CONNECT => net_record(bytes, Doing::Connect),
        kind::SEND => net_record(bytes, Doing::Send),
        kind::BIND => net_record(bytes, Doing::Bind),
        kind::ACCEPT => accept(bytes),
        kind::UNIX => unix(bytes),
        kind::PACKET => packet(bytes),
        kind::ANSWER => {
            let (fixed, rest) = raw::Answer::read_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
            let (payload, _) = split(rest, dns_len(fixed.payload_len)?)?;
            let from = ip(fixed.family, fixed.address);
            let (time_ns, cookie) = (fixed.header.time_ns, fixed.cookie);
            Ok(Record::Answer { time_ns, cookie, from, payload: payload.to_vec() })
        }
        kind::EGRESS => {
            let (fixed, _) = raw::Egress::read_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
            Ok(Record::Egress {
                time_ns: fixed.header.time_ns,
                task: (fixed.header.task.tgid != 0).then(|| task(fixed.header.task)),
                cookie: fixed.cookie,
                to: ip(fixed.family, fixed.address).map(|ip| SocketAddr::new(ip, fixed.port)),
                bytes: fixed.bytes,
                more: fixed.more,
            })
        }
        kind::ACT => act(bytes),
        other => Err(DecodeError::Kind(other)),
    }
}

fn act(bytes: &[u8]) -> Result<Record, DecodeError> {
    let (fixed, rest) = raw_act::Act::read_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    let (load, rest) = load(&fixed.header, &fixed.load, rest)?;
    let (path, rest) = split(rest, fixed.path_len)?;
    let (base, _) = split(rest, fixed.base_len)?;
    let path = if fixed.flags & TEXT == 0 {
        join(path, fixed.flags & CUT_PATH != 0)
    } else {
        resolve(path, join(base, fixed.flags & CUT_BASE != 0))
    };
    let act =
        Act { call: fixed.call, number: fixed.number, target: Some(fixed.target).filter(|tgid| *tgid != 0), path };
    Ok(Record::Act { header: header(&fixed.header), load, act })
}

/// The path that `text` names from the folder `base`, as far as text alone says: links on the way aren't followed.
fn resolve(text: &[u8], base: Bytes) -> Bytes {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let mut path = if text.first() == Some(&b'/') { Vec::new() } else { base };
    for part in text.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => path.truncate(path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            part => {
                path.push(b'/');
                path.extend_from_slice(part);
            }
        }
    }
    path
}

fn open(bytes: &[u8]) -> Result<Record, DecodeError> {
    let (fixed, rest) = raw::Open::read_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    let (path, _) = split(rest, fixed.path_len)?;
    Ok(Record::Open(Box::new(Open {
        header: header(&fixed.header),
        inode: fixed.inode.into(),
        stamp: fixed.stamp,
        path: join(path, fixed.truncated & 1 != 0),
        exe: fixed.exe.into(),
        fd: (fixed.fd != raw::NO_FD).then_some(fixed.fd),
        role: fixed.role,
        writers: fixed.writers,
        fs_magic: fixed.fs_magic,
        named: fixed.reason != raw::reason::UNKNOWN_NAME,
        // The walk at the start runs in the sensor's own context, where a process's user isn't known.
        found: fixed.header.uid == raw::UNKNOWN_UID,
        is_quiet: fixed.is_quiet != 0,
        comm: fixed.header.comm,
    })))
}

fn who(bytes: &[u8]) -> Result<Record, DecodeError> {
    let (fixed, rest) = raw::Who::read_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    let (exe, rest) = split(rest, fixed.exe_len)?;
    let (argv, _) = split(rest, fixed.argv_len)?;
    Ok(Record::Who(Box::new(Who {
        header: header(&fixed.header),
        exe: Executable {
            inode: fixed.exe.into(),
            path: join(exe, fixed.truncated & 2 != 0),
            fs_magic: fixed.exe_fs_magic,
            uid: fixed.exe_uid,
            mode: fixed.exe_mode,
            dir_uid: fixed.exe_dir_uid,
            dir_mode: fixed.exe_dir_mode,
        },
        argv: Argv::split(argv, fixed.truncated & 4 != 0),
        ancestors: fixed.ancestors.iter().take_while(|key| key.tgid != 0).copied().map(task).collect(),
        role: fixed.role,
        is_late: fixed.is_late != 0,
    })))
}

fn exec(bytes: &[u8]) -> Result<Record, DecodeError> {
    let (fixed, rest) = raw::Exec::read_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    let (load, rest) = load(&fixed.header, &fixed.load, rest)?;
    let (exe, rest) = split(rest, fixed.exe_len)?;
    let (argv, _) = split(rest, fixed.argv_len)?;
    Ok(Record::Exec {
        header: header(&fixed.header),
        load,
        exe: fixed.exe.into(),
        path: join(exe, fixed.truncated & 2 != 0),
        argv: Argv::split(argv, fixed.truncated & 4 != 0),
    })
}

fn net_record(bytes: &[u8], doing: Doing) -> Result<Record, DecodeError> {
    let (fixed, rest) = raw::Net::read_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    let (load, _) = load(&fixed.header, &fixed.load, rest)?;
    let repeats = Repeats { times: fixed.times, last_ns: fixed.last_ns };
    Ok(Record::Net { doing, header: header(&fixed.header), load, net: net(&fixed), repeats })
}

fn accept(bytes: &[u8]) -> Result<Record, DecodeError> {
    let (fixed, rest) = raw::Accept::read_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    let (load, _) = load(&fixed.net.header, &fixed.net.load, rest)?;
    let peer = ip(fixed.net.family, fixed.peer).ok_or(DecodeError::Family(fixed.net.family))?;
    let peer = SocketAddr::new(peer, fixed.peer_port);
    Ok(Record::Accept { header: header(&fixed.net.header), load, net: net(&fixed.net), peer })
}

fn unix(bytes: &[u8]) -> Result<Record, DecodeError> {
    let (fixed, rest) = raw::Unix::read_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    let (load, _) = load(&fixed.header, &fixed.load, rest)?;
    let name = fixed.name.get(..fixed.name_len as usize).ok_or(DecodeError::Short)?;
    let name = match name {
        // All of an abstract name counts, NULs too; a path ends at the first.
        [0, rest @ ..] => [b"@", rest].concat(),
        path => path.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
    };
    Ok(Record::Unix { header: header(&fixed.header), load, name })
}

fn packet(bytes: &[u8]) -> Result<Record, DecodeError> {
    let (fixed, rest) = raw::Packet::read_from_prefix(bytes).map_err(|_| DecodeError::Short)?;
    let (load, rest) = load(&fixed.net.header, &fixed.net.load, rest)?;
    let (payload, _) = split(rest, dns_len(fixed.payload_len)?)?;
    Ok(Record::Packet { header: header(&fixed.net.header), load, net: net(&fixed.net), payload: payload.to_vec() })
}

/// The length of a DNS message, if it is one that the kernel half sends.
fn dns_len(len: u32) -> Result<u16, DecodeError> {
    u16::try_from(len).ok().filter(|len| usize::from(*len) <= raw::DNS_BYTES_MAX).ok_or(DecodeError::Short)
}

fn header(raw: &raw::Header) -> Header {
    Header {
        tid: raw.tid,
        time_ns: raw.time_ns,
        task: task(raw.task),
        parent: task(raw.parent),
        cgroup: raw.cgroup,
        uid: raw.uid,
    }
}

fn task(raw: sensor_abi::identity::TaskKey) -> TaskKey {
    TaskKey { tgid: raw.tgid, start_boottime_ns: raw.start_boottime_ns }
}

/// The load behind a fixed part, and what follows it.
fn load<'a>(header: &raw::Header, fixed: &raw::Load, rest: &'a [u8]) -> Result<(Load, &'a [u8]), DecodeError> {
    let count = fixed.count as usize;
    if count > LOAD_SET_ARTIFACTS_MAX {
        return Err(DecodeError::Short);
    }
    let mut artifacts = Vec::with_capacity(count);
    let mut rest = rest;
    for i in 0..count {
        let (artifact, behind) = sensor_abi::mark::Artifact::read_from_prefix(rest).map_err(|_| DecodeError::Short)?;
        rest = behind;
        artifacts.push(LoadArtifact {
            inode: artifact.inode.into(),
            stamp: artifact.stamp,
            opener: task(artifact.opener),
            opened_ns: artifact.opened_ns,
            named: artifact.named != 0,
            held_ns: artifact.held_ns,
            born: fixed.born >> i & 1 != 0,
            held: fixed.held >> i & 1 != 0,
            cut: fixed.cut != 0,
            bystander: is_bystander(header, fixed, &artifact),
        });
    }
    Ok((Load { exe: fixed.exe.into(), role: fixed.role, artifacts, omitted: fixed.omitted }, rest))
}

/// Is the acting thread older than the load, and another than the one that loaded? (Threads of the opener alone.)
fn is_bystander(header: &raw::Header, load: &raw::Load, artifact: &sensor_abi::mark::Artifact) -> bool {
    let made_ns = header.task.start_boottime_ns.saturating_add(u64::from(load.thread_ms) * 1_000_000);
    load.thread_ms != raw::UNKNOWN_MS
        && header.task == artifact.opener
        && header.tid != artifact.tid
        && made_ns <= artifact.first_ns
}

fn net(fixed: &raw::Net) -> Net {
    Net {
        family: fixed.family,
        ip: ip(fixed.family, fixed.address),
        port: fixed.port,
        sock_type: fixed.sock_type,
        protocol: fixed.protocol,
        cookie: fixed.cookie,
        bytes: fixed.bytes,
    }
}

/// `None` for a family without IP addresses.
fn ip(family: u16, address: [u8; 16]) -> Option<IpAddr> {
    match family {
        AF_INET => {
            let [a, b, c, d, ..] = address;
            Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        }
        // A v4-mapped address reaches an IPv4 peer, so it is one.
        AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(address)).to_canonical()),
        _ => None,
    }
}

fn split(bytes: &[u8], len: u16) -> Result<(&[u8], &[u8]), DecodeError> {
    bytes.split_at_checked(usize::from(len)).ok_or(DecodeError::Short)
}

/// A path from its components, leaf first and each ended by NUL. One that lacks its beginning starts with `…/`.
fn join(components: &[u8], truncated: bool) -> Bytes {
    let mut path = Vec::with_capacity(components.len() + 4);
    if truncated {
        path.extend_from_slice("…".as_bytes());
    }
    let components = components.strip_suffix(b"\0").unwrap_or(components);
    if components.is_empty() {
        return Vec::new();
    }
    for component in components.rsplit(|byte| *byte == 0) {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn sample(kind: u16) -> raw::Header {
        raw::Header { abi: ABI_VERSION, kind, tid: 7, ..raw::Header::default() }
    }

    #[test]
    fn paths_are_put_together_from_the_leaf() {
        assert_eq!(join(b"m.pt\0srv\0", false), b"/srv/m.pt");
        assert_eq!(join(b"m.pt\0deep\0", true), "…/deep/m.pt".as_bytes());
        assert_eq!(join(b"", false), b"");
    }

    #[test]
    fn a_path_that_a_call_was_given_is_taken_from_its_folder() {
        let resolved = |text: &str, base: &str| String::from_utf8(resolve(text.as_bytes(), base.into())).unwrap();
        assert_eq!(resolved("/etc/cron.d/x\0", "/home"), "/etc/cron.d/x");
        assert_eq!(resolved("../a/./b//c", "/home/u"), "/home/a/b/c");
        assert_eq!(resolved("../../../etc/x", "/home"), "/etc/x");
        assert_eq!(resolved("", "/home"), "/home");
    }

    #[test]
    fn a_bystander_is_an_older_thread_than_the_load_and_not_the_one_that_loads() {
        let task = sensor_abi::identity::TaskKey { tgid: 5, start_boottime_ns: 1_000_000_000, ..Default::default() };
        let artifact =
            sensor_abi::mark::Artifact { opener: task, tid: 5, first_ns: 3_000_000_000, ..Default::default() };
        let is = |tid: u32, thread_ms: u32, task: sensor_abi::identity::TaskKey| {
            let load = raw::Load { thread_ms, ..raw::Load::default() };
            is_bystander(&raw::Header { task, tid, ..sample(kind::CONNECT) }, &load, &artifact)
        };
        assert!(is(7, 1, task) && is(7, 2_000, task));
        assert!(!is(7, 2_001, task), "made after the open, or in its millisecond");
        assert!(!is(5, 1, task), "the thread that opened it");
        assert!(!is(7, raw::UNKNOWN_MS, task));
        assert!(!is(7, 1, sensor_abi::identity::TaskKey { tgid: 6, ..task }), "a child");
    }

    #[test]
    fn a_mapped_address_is_ipv4() {
        let mut fixed = raw::Net { family: AF_INET6, ..raw::Net::default() };
        fixed.address = "::ffff:203.0.113.9".parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(net(&fixed).ip, Some("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn a_unix_sockets_name_is_a_path_or_begins_with_an_at_sign() {
        let named = |name: &[u8], len: u32| {
            let mut fixed = raw::Unix {
                header: sample(kind::UNIX),
                load: raw::Load::default(),
                name: [0; raw::UNIX_NAME_BYTES_MAX],
                name_len: len,
                reserved: 0,
            };
            fixed.name[..name.len()].copy_from_slice(name);
            match decode(fixed.as_bytes()) {
                Ok(Record::Unix { name, .. }) => Some(name),
                _ => None,
            }
        };
        assert_eq!(named(b"/run/docker.sock\0", 17), Some(b"/run/docker.sock".to_vec()));
        assert_eq!(named(b"\0bus\0x", 6), Some(b"@bus\0x".to_vec()));
        assert_eq!(named(b"/", 113), None);
    }

    #[test]
    fn an_old_or_unknown_record_is_refused() {
        let mut old = sample(kind::EXIT);
        old.abi = 0;
        assert_eq!(decode(old.as_bytes()), Err(DecodeError::Abi(0)));
        assert_eq!(decode(sample(99).as_bytes()), Err(DecodeError::Kind(99)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(kind in 0u16..28, mut bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            if bytes.len() >= 4 {
                bytes[..2].copy_from_slice(&ABI_VERSION.to_ne_bytes());
                bytes[2..4].copy_from_slice(&kind.to_ne_bytes());
            }
            let _ = decode(&bytes);
        }

        #[test]
        fn no_length_is_believed(path in 0u16..1_024, exe in any::<u16>(), argv in any::<u16>(), rest in 0usize..512) {
            let open = raw::Open { header: sample(kind::OPEN), path_len: path, ..raw::Open::default() };
            let who = raw::Who { header: sample(kind::WHO), exe_len: exe, argv_len: argv, ..raw::Who::default() };
            let behind = |fixed: &[u8]| [fixed, &vec![b'x'; rest]].concat();
            prop_assert_eq!(decode(&behind(open.as_bytes())).is_ok(), usize::from(path) <= rest);
            prop_assert_eq!(decode(&behind(who.as_bytes())).is_ok(), usize::from(exe) + usize::from(argv) <= rest);
        }
    }
}
