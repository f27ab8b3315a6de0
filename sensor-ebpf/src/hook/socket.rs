//! A marked process connects, or sends what the cgroup's `sendmsg4/6` (`send.rs`) don't see: by families other than IPv4
//! and IPv6, protocols other than UDP, raw and packet sockets, datagrams on connected sockets.
//!
//! `socket_connect` (match-proto: security/security.c: int security_socket_connect(struct socket *sock, struct sockaddr
//! *address, int addrlen)) and `socket_sendmsg` (match-proto: int security_socket_sendmsg(struct socket *sock, struct
//! msghdr *msg, int size)). The address is the kernel's own copy in both. A TCP Fast Open names its address in a send
//! (kernel: net/ipv4/tcp.c: tcp_sendmsg_fastopen) and passes the second alone: it is told as a connect.
//!
//! Restricted rung: connects of IPv4 and IPv6 in `connect.rs`. For those of unix and vsock sockets
//! `syscalls/sys_enter_connect` remembers the descriptor, a number, and `sys_exit_connect` looks at the socket behind it;
//! memory of the process is never read. What is sent there: `send.rs`, `packet.rs`.

use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use sensor_abi::counter::Counter;
use sensor_abi::record::kind;

use super::unix;
use crate::entry::security_hook;
use crate::field::{Address, Reach, config, field, member, read};
use crate::maps::{CONNECTING, count};
use crate::net::{
    self, AF_INET, AF_INET6, AF_PACKET, AF_SMC, AF_UNIX, AF_VSOCK, End, IPPROTO_MPTCP, IPPROTO_SMC, IPPROTO_TCP,
    IPPROTO_UDP, IPPROTO_UDPLITE, SOCK_DGRAM, SOCK_STREAM,
};
use crate::{loader, task};

security_hook! {
    fn socket_connect(socket: Address, address: Address, len: i32) {
        if task::current_tgid() == config!(own_tgid) {
            count(Counter::CanarySocket);
            match read(address, 0) {
                Some(AF_INET) => count(Counter::CanaryConnect),
                Some(AF_INET6) => count(Counter::CanaryConnect6),
                _ => {}
            }
        } else if loader::current_is_marked() {
            let _ = connects::<E::Reach>(socket, address, len);
        }
    }
}

security_hook! {
    fn socket_sendmsg(socket: Address, message: Address, size: u32) {
        if task::current_tgid() == config!(own_tgid) {
            count(Counter::CanaryLength);
        } else if concerns::<E::Reach>(|| sends::<E::Reach>(socket, message)) {
            let _ = sent::<E::Reach>(socket, message, size);
        }
    }
}

/// Is it a socket whose act nobody else sees, and a marked process? What costs less is asked first: a read of what the
/// verifier knows, else the look-up.
#[inline(always)]
fn concerns<R: Reach>(by_socket: impl Fn() -> Option<bool>) -> bool {
    let by_socket = || by_socket() == Some(true);
    if R::KNOWN { by_socket() && loader::current_is_marked() } else { loader::current_is_marked() && by_socket() }
}

#[inline(always)]
fn sends<R: Reach>(socket: Address, message: Address) -> Option<bool> {
    let sk = net::sk_of::<R>(socket)?;
    Some(match member!(R, sk, sock_family, u16)? {
        AF_INET | AF_INET6 => match member!(R, socket, socket_type, u16)? {
            SOCK_STREAM if is_connection(member!(R, sk, sock_protocol, u16)?) => opens_fast::<R>(message)?,
            SOCK_DGRAM if is_datagram(member!(R, sk, sock_protocol, u16)?) => {
                member!(R, message, msghdr_name, u64)? == 0
            }
            _ => true,
        },
        AF_SMC => opens_fast::<R>(message)?,
        AF_PACKET => true,
        _ => false,
    })
}

/// The protocols of streams that may be opened by a send; what else they send belongs to their connection.
#[inline(always)]
fn is_connection(protocol: u16) -> bool {
    matches!(protocol, IPPROTO_TCP | IPPROTO_MPTCP | IPPROTO_SMC)
}

/// The protocols of datagrams, which the cgroup sees where each names its address.
#[inline(always)]
fn is_datagram(protocol: u16) -> bool {
    matches!(protocol, IPPROTO_UDP | IPPROTO_UDPLITE)
}

/// `include/linux/socket.h`
const MSG_FASTOPEN: u32 = 0x2000_0000;

#[inline(always)]
fn opens_fast<R: Reach>(message: Address) -> Option<bool> {
    Some(member!(R, message, msghdr_flags, u32)? & MSG_FASTOPEN != 0)
}

/// `include/uapi/linux/net.h`: a socket that may be connected.
const SS_UNCONNECTED: u32 = 1;

/// `address` is the kernel's copy of what the call names, of which it filled `len` bytes.
#[inline(always)]
fn connects<R: Reach>(socket: Address, address: Address, len: i32) -> Option<()> {
    let sk = net::sk_of::<R>(socket)?;
    let end = match member!(R, sk, sock_family, u16)? {
        family @ (AF_INET | AF_INET6 | AF_SMC) => named::<R>(socket, sk, family, address, len)?,
        family @ (AF_PACKET | AF_VSOCK) => End {
            family,
            port: 0,
            sock_type: member!(R, socket, socket_type, u16)?,
            protocol: member!(R, sk, sock_protocol, u16)?,
            address: [0; 16],
            cookie: 0,
            bytes: 0,
        },
        _ => return None,
    };
    loader::current()?.tell(kind::CONNECT, &end)
}

/// Whom a connect names: by the address's own family, since an IPv6 socket may be connected to an IPv4 address. AF_UNSPEC
/// ends a connection.
#[inline(always)]
fn named<R: Reach>(socket: Address, sk: Address, of_socket: u16, address: Address, len: i32) -> Option<End> {
    let address: SocketAddress = read(address, 0)?;
    let len_min = match address.family {
        AF_INET => SOCKADDR_IN_BYTES,
        AF_INET6 => SOCKADDR_IN6_BYTES_MIN,
        _ => return None,
    };
    if len < len_min {
        return None;
    }
    let (ip, port) = address.named();
    let protocol: u16 = member!(R, sk, sock_protocol, u16)?;
    // A program that doesn't wait asks again by the same call how far its connection is (kernel: net/ipv4/af_inet.c:
    // __inet_stream_connect). The state alone is no proof of it: another thread may end the connection meanwhile.
    if is_connection(protocol)
        && of_socket == address.family
        && member!(R, socket, socket_state, u32)? != SS_UNCONNECTED
    {
        let (peer_ip, peer_port) = net::peer_of(sk, of_socket)?;
        if (u128::from_ne_bytes(peer_ip), peer_port) == (u128::from_ne_bytes(ip), port) {
            return None;
        }
    }
    // SMC begins with a TCP connection, and stays with it where the other end speaks TCP alone.
    let protocol = if of_socket == AF_SMC || protocol == IPPROTO_SMC { IPPROTO_TCP } else { protocol };
    Some(End {
        family: address.family,
        port,
        sock_type: member!(R, socket, socket_type, u16)?,
        protocol,
        address: ip,
        cookie: 0,
        bytes: 0,
    })
}

/// `include/linux/in6.h`: what the kernel demands of a `struct sockaddr_in` and of a `sockaddr_in6` (SIN6_LEN_RFC2133).
const SOCKADDR_IN_BYTES: i32 = 16;
const SOCKADDR_IN6_BYTES_MIN: i32 = 24;

/// `struct sockaddr_in` and `sockaddr_in6` in one. Both are copied into a `sockaddr_storage`, which is larger.
#[repr(C)]
#[derive(Clone, Copy)]
struct SocketAddress {
    family: u16,
    /// Network byte order.
    port: u16,
    ipv4: [u8; 4],
    ipv6: [u8; 16],
}

impl SocketAddress {
    #[inline(always)]
    fn named(&self) -> ([u8; 16], u16) {
        let mut ip = self.ipv6;
        if self.family != AF_INET6 {
            ip = [0; 16];
            ip[..4].copy_from_slice(&self.ipv4);
        }
        (ip, u16::from_be(self.port))
    }
}

#[inline(always)]
fn sent<R: Reach>(socket: Address, message: Address, size: u32) -> Option<()> {
    let sk = net::sk_of::<R>(socket)?;
    let family: u16 = member!(R, sk, sock_family, u16)?;
    let sock_type: u16 = member!(R, socket, socket_type, u16)?;
    let protocol: u16 = member!(R, sk, sock_protocol, u16)?;
    let address: Address = member!(R, message, msghdr_name, Address)?;
    let (kind, end) = if sock_type == SOCK_STREAM && (family == AF_SMC || is_connection(protocol)) {
        let len: i32 = member!(R, message, msghdr_namelen, i32)?;
        (kind::CONNECT, named::<R>(socket, sk, family, address, len)?)
    } else {
        let (ip, port) = match family {
            // Only the socket knows its peer.
            AF_INET | AF_INET6 if address.is_null() => net::peer_of(sk, family)?,
            // Its own family may be left out.
            AF_INET | AF_INET6 => SocketAddress { family, ..read(address, 0)? }.named(),
            _ => ([0; 16], 0),
        };
        let cookie: u64 = field!(sk, sock_cookie, u64).unwrap_or(0);
        (kind::SEND, End { family, port, sock_type, protocol, address: ip, cookie, bytes: u64::from(size) })
    };
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
