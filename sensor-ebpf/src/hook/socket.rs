//! What the cgroup pair cannot see: families other than IPv4 and IPv6, raw and packet sockets, datagrams on connected
//! sockets. LSM rung only.
//!
//! `lsm/socket_connect` (match-proto: security/security.c: int security_socket_connect(struct socket *sock, struct
//! sockaddr *address, int addrlen)) and `lsm/socket_sendmsg` (match-proto: int security_socket_sendmsg(struct socket
//! *sock, struct msghdr *msg, int size)). The address is the kernel's own copy in both.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use sensor_abi::counter::Counter;
use sensor_abi::record::kind;

use super::connect::{AF_INET, AF_INET6, acted};
use crate::field::{Address, field, read};
use crate::maps::count;
use crate::mark;

/// `include/linux/socket.h`
const AF_PACKET: u16 = 17;
const AF_VSOCK: u16 = 40;
/// `include/linux/net.h`
const SOCK_DGRAM: u16 = 2;
const SOCK_RAW: u16 = 3;

#[lsm(hook = "socket_connect")]
pub fn socket_connect(ctx: LsmContext) -> i32 {
    let refused: i32 = ctx.arg(3);
    if refused != 0 {
        return refused;
    }
    let socket: *const u8 = ctx.arg(0);
    let address: *const u8 = ctx.arg(1);
    if mark::current_is_own() {
        count(Counter::CanarySocketLsm);
    }
    let _ = other_family(socket, address, kind::CONNECT);
    0
}

#[lsm(hook = "socket_sendmsg")]
pub fn socket_sendmsg(ctx: LsmContext) -> i32 {
    let refused: i32 = ctx.arg(3);
    if refused != 0 {
        return refused;
    }
    let socket: *const u8 = ctx.arg(0);
    let message: *const u8 = ctx.arg(1);
    let _ = other_message(socket, message);
    0
}

#[inline(always)]
fn other_message(socket: Address, message: Address) -> Option<()> {
    // A cheap look first: streams pass, and so do the datagrams that the cgroup pair sees.
    let sock_type: u16 = field!(socket, socket_type, u16)?;
    let sk: Address = field!(socket, socket_sk, Address)?;
    let family: u16 = field!(sk, sock_family, u16)?;
    let address: Address = field!(message, msghdr_name, Address)?;
    if sock_type == SOCK_DGRAM && (family == AF_INET || family == AF_INET6) && address.is_null() {
        return connected_datagram(sk, family);
    }
    if sock_type != SOCK_RAW && family != AF_PACKET {
        return None;
    }
    other_family(socket, address, kind::SEND)
}

/// A datagram on a connected socket names no address; the socket does.
#[inline(always)]
fn connected_datagram(sk: Address, family: u16) -> Option<()> {
    mark::find_current()?;
    let mut ip = [0u8; 16];
    if family == AF_INET {
        ip[..4].copy_from_slice(&field!(sk, sock_daddr, [u8; 4])?);
    } else {
        ip = field!(sk, sock_v6_daddr, [u8; 16])?;
    }
    let port = u32::from(field!(sk, sock_dport, u16)?);
    let protocol: u16 = field!(sk, sock_protocol, u16)?;
    acted(kind::SEND, Counter::CanarySocketLsm, family, &ip, port, u32::from(SOCK_DGRAM), u32::from(protocol))
}

#[inline(always)]
fn other_family(socket: Address, address: Address, kind: u16) -> Option<()> {
    mark::find_current()?;
    let sk: Address = field!(socket, socket_sk, Address)?;
    let family: u16 = field!(sk, sock_family, u16)?;
    let sock_type: u16 = field!(socket, socket_type, u16)?;
    let protocol: u16 = field!(sk, sock_protocol, u16)?;
    let mut ip = [0u8; 16];
    match family {
        // Connects are the cgroup pair's, whose word counts; raw datagrams reach no other hook.
        AF_INET if sock_type == SOCK_RAW => {
            if !address.is_null() {
                ip[..4].copy_from_slice(&read::<[u8; 4]>(address, 4)?);
            }
        }
        AF_INET6 if sock_type == SOCK_RAW => {
            if !address.is_null() {
                ip = read::<[u8; 16]>(address, 8)?;
            }
        }
        AF_PACKET | AF_VSOCK => {}
        _ => return None,
    }
    acted(kind, Counter::CanarySocketLsm, family, &ip, 0, u32::from(sock_type), u32::from(protocol))
}
