//! What the cgroup pair cannot see: families other than IPv4 and IPv6, protocols other than TCP and UDP, raw and packet
//! sockets, datagrams on connected sockets.
//!
//! `socket_connect` (match-proto: security/security.c: int security_socket_connect(struct socket *sock, struct sockaddr
//! *address, int addrlen)) and `socket_sendmsg` (match-proto: int security_socket_sendmsg(struct socket *sock, struct
//! msghdr *msg, int size)). The address is the kernel's own copy in both.
//!
//! Restricted rung, for connects of unix and vsock sockets: `syscalls/sys_enter_connect` remembers the descriptor, a
//! number, and `sys_exit_connect` looks at the socket behind it; memory of the process is never read. What is sent there:
//! `send.rs`, `packet.rs`.

use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use sensor_abi::counter::Counter;
use sensor_abi::record::kind;

use super::unix;
use crate::entry::security_hook;
use crate::field::{Address, Reach, config, field, member, read};
use crate::maps::{CONNECTING, count};
use crate::net::{
    self, AF_INET, AF_INET6, AF_PACKET, AF_UNIX, AF_VSOCK, End, IPPROTO_MPTCP, IPPROTO_TCP, IPPROTO_UDP,
    IPPROTO_UDPLITE, SOCK_DGRAM, SOCK_RAW,
};
use crate::{loader, task};

security_hook! {
    fn socket_connect(socket: Address, address: Address, _len: i32) {
        if task::current_tgid() == config!(own_tgid) {
            count(Counter::CanarySocket);
        } else if concerns::<E::Reach>(|| connects::<E::Reach>(socket)) {
            let _ = other_connect(socket, address);
        }
    }
}

security_hook! {
    fn socket_sendmsg(socket: Address, message: Address, size: u32) {
        if task::current_tgid() == config!(own_tgid) {
            count(Counter::CanaryLength);
        } else if concerns::<E::Reach>(|| sends::<E::Reach>(socket, message)) {
            let _ = other_message(socket, message, size);
        }
    }
}

/// Is it a socket whose act the pair doesn't see, and a marked process? What costs less is asked first: a read of what the
/// verifier knows, else the look-up.
#[inline(always)]
fn concerns<R: Reach>(by_socket: impl Fn() -> Option<bool>) -> bool {
    let by_socket = || by_socket() == Some(true);
    if R::KNOWN { by_socket() && loader::current_is_marked() } else { loader::current_is_marked() && by_socket() }
}

#[inline(always)]
fn sends<R: Reach>(socket: Address, message: Address) -> Option<bool> {
    let sk: Address = member!(R, socket, socket_sk, Address)?;
    if sk.is_null() {
        return None;
    }
    Some(match member!(R, sk, sock_family, u16)? {
        AF_INET | AF_INET6 => {
            let sock_type: u16 = member!(R, socket, socket_type, u16)?;
            !is_the_pairs(sock_type, member!(R, sk, sock_protocol, u16)?)
                || (sock_type == SOCK_DGRAM && member!(R, message, msghdr_name, u64)? == 0)
        }
        AF_PACKET => true,
        _ => false,
    })
}

#[inline(always)]
fn other_message(socket: Address, message: Address, size: u32) -> Option<()> {
    let sk: Address = field!(socket, socket_sk, Address)?;
    let family: u16 = field!(sk, sock_family, u16)?;
    let address: Address = field!(message, msghdr_name, Address)?;
    other_family(socket, sk, family, address, kind::SEND, size)
}

/// Does the cgroup pair see what a socket of this kind does? Connects and datagrams of TCP, UDP and MPTCP.
#[inline(always)]
fn is_the_pairs(sock_type: u16, protocol: u16) -> bool {
    sock_type != SOCK_RAW && matches!(protocol, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_UDPLITE | IPPROTO_MPTCP)
}

#[inline(always)]
fn connects<R: Reach>(socket: Address) -> Option<bool> {
    let sk: Address = member!(R, socket, socket_sk, Address)?;
    if sk.is_null() {
        return None;
    }
    Some(match member!(R, sk, sock_family, u16)? {
        AF_INET | AF_INET6 => !is_the_pairs(member!(R, socket, socket_type, u16)?, member!(R, sk, sock_protocol, u16)?),
        AF_PACKET | AF_VSOCK => true,
        _ => false,
    })
}

#[inline(always)]
fn other_connect(socket: Address, address: Address) -> Option<()> {
    let sk: Address = field!(socket, socket_sk, Address)?;
    let family: u16 = field!(sk, sock_family, u16)?;
    other_family(socket, sk, family, address, kind::CONNECT, 0)
}

/// `address` is the kernel's copy of what the call names; null where only the socket knows its peer.
#[inline(always)]
fn other_family(socket: Address, sk: Address, family: u16, address: Address, kind: u16, size: u32) -> Option<()> {
    let sock_type: u16 = field!(socket, socket_type, u16)?;
    let protocol: u16 = field!(sk, sock_protocol, u16)?;
    let mut ip = [0u8; 16];
    let mut port = 0u16;
    if family == AF_INET || family == AF_INET6 {
        if address.is_null() {
            (ip, port) = net::peer_of(sk, family)?;
        } else {
            // struct sockaddr_in and sockaddr_in6: the port at 2, the address at 4 and 8.
            port = u16::from_be(read(address, 2)?);
            if family == AF_INET {
                ip[..4].copy_from_slice(&read::<[u8; 4]>(address, 4)?);
            } else {
                ip = read(address, 8)?;
            }
        }
    }
    let cookie: u64 = field!(sk, sock_cookie, u64).unwrap_or(0);
    let end = End { family, port, sock_type, protocol, address: ip, cookie, bytes: u64::from(size) };
    loader::current()?.tell(kind, &end)
}

/// `include/trace/events/syscalls.h`: the first argument of `sys_enter`, behind the common fields and the call's number.
const SYS_ENTER_ARG0: usize = 16;
/// The return value of `sys_exit`, likewise.
const SYS_EXIT_RET: usize = 16;

#[tracepoint]
pub fn sys_enter_connect(ctx: TracePointContext) -> u32 {
    if loader::current_is_marked() {
        // SAFETY: the record of a `sys_enter` tracepoint holds six arguments behind 16 bytes.
        if let Ok(fd) = unsafe { ctx.read_at::<u64>(SYS_ENTER_ARG0) } {
            let _ = CONNECTING.insert(task::current_tid(), fd as u32, 0);
        }
    }
    0
}

#[tracepoint]
pub fn sys_exit_connect(ctx: TracePointContext) -> u32 {
    if task::current_tgid() == config!(own_tgid) {
        count(Counter::CanaryUnix);
        count(Counter::CanarySocket);
    } else if loader::current_is_marked() {
        // SAFETY: the record of a `sys_exit` tracepoint is 24 bytes.
        if let Ok(ret) = unsafe { ctx.read_at::<i64>(SYS_EXIT_RET) } {
            let _ = connected(ret == 0);
        }
    }
    0
}

#[inline(always)]
fn connected(done: bool) -> Option<()> {
    let tid = task::current_tid();
    // SAFETY: plain bytes.
    let fd = *unsafe { CONNECTING.get(tid) }?;
    let _ = CONNECTING.remove(tid);
    let sk = net::socket_of(fd)?;
    match field!(sk, sock_family, u16)? {
        AF_VSOCK => net::tell_family(sk, AF_VSOCK, kind::CONNECT),
        AF_UNIX if done => {
            let peer: Address = field!(sk, unix_peer, Address)?;
            if peer.is_null() { None } else { unix::reached(peer) }
        }
        _ => None,
    }
}
