//! What the cgroup pair cannot see: families other than IPv4 and IPv6, protocols other than TCP and UDP, raw and packet
//! sockets, datagrams on connected sockets. Nothing on the restricted rung.
//!
//! `socket_connect` (match-proto: security/security.c: int security_socket_connect(struct socket *sock, struct
//! sockaddr *address, int addrlen)) and `socket_sendmsg` (match-proto: int security_socket_sendmsg(struct socket
//! *sock, struct msghdr *msg, int size)). The address is the kernel's own copy in both.

use sensor_abi::counter::Counter;
use sensor_abi::record::kind;

use super::connect::{AF_INET, AF_INET6, acted};
use crate::entry::security_hook;
use crate::field::{Address, field, read};
use crate::maps::count;
use crate::mark;

/// `include/linux/socket.h`
const AF_PACKET: u16 = 17;
const AF_VSOCK: u16 = 40;
/// `include/uapi/linux/in.h`
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_UDPLITE: u16 = 136;
const IPPROTO_MPTCP: u16 = 262;
/// `include/linux/net.h`
const SOCK_DGRAM: u16 = 2;
const SOCK_RAW: u16 = 3;

security_hook! {
    fn socket_connect(socket: Address, address: Address, _len: i32) {
        if mark::current_is_own() {
            count(Counter::CanarySocket);
        }
        other_connect(socket, address)
    }
}

security_hook! {
    fn socket_sendmsg(socket: Address, message: Address, _size: i32) {
        other_message(socket, message)
    }
}

#[inline(always)]
fn other_message(socket: Address, message: Address) -> Option<()> {
    // A cheap look first: streams pass, and so do the datagrams that the cgroup pair sees.
    let sk: Address = field!(socket, socket_sk, Address)?;
    let family: u16 = field!(sk, sock_family, u16)?;
    let address: Address = field!(message, msghdr_name, Address)?;
    match family {
        AF_INET | AF_INET6 => {
            let sock_type: u16 = field!(socket, socket_type, u16)?;
            let protocol: u16 = field!(sk, sock_protocol, u16)?;
            let connected_datagram = sock_type == SOCK_DGRAM && address.is_null();
            if !connected_datagram && is_the_pairs(sock_type, protocol) {
                return None;
            }
        }
        AF_PACKET => {}
        _ => return None,
    }
    other_family(socket, sk, family, address, kind::SEND)
}

/// Does the cgroup pair see what a socket of this kind does? Connects and datagrams of TCP, UDP and MPTCP.
#[inline(always)]
fn is_the_pairs(sock_type: u16, protocol: u16) -> bool {
    sock_type != SOCK_RAW && matches!(protocol, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_UDPLITE | IPPROTO_MPTCP)
}

#[inline(always)]
fn other_connect(socket: Address, address: Address) -> Option<()> {
    let sk: Address = field!(socket, socket_sk, Address)?;
    let family: u16 = field!(sk, sock_family, u16)?;
    match family {
        AF_INET | AF_INET6 => {
            if is_the_pairs(field!(socket, socket_type, u16)?, field!(sk, sock_protocol, u16)?) {
                return None;
            }
        }
        AF_PACKET | AF_VSOCK => {}
        _ => return None,
    }
    other_family(socket, sk, family, address, kind::CONNECT)
}

/// `address` is the kernel's copy of what the call names; null where only the socket knows its peer.
#[inline(always)]
fn other_family(socket: Address, sk: Address, family: u16, address: Address, kind: u16) -> Option<()> {
    mark::find_current()?;
    let sock_type: u16 = field!(socket, socket_type, u16)?;
    let protocol: u16 = field!(sk, sock_protocol, u16)?;
    let mut ip = [0u8; 16];
    let mut port = 0u16;
    // struct sockaddr_in and sockaddr_in6: the port at 2, the address at 4 and 8.
    if family == AF_INET {
        let from: [u8; 4] = if address.is_null() { field!(sk, sock_daddr, [u8; 4])? } else { read(address, 4)? };
        ip[..4].copy_from_slice(&from);
    } else if family == AF_INET6 {
        ip = if address.is_null() { field!(sk, sock_v6_daddr, [u8; 16])? } else { read(address, 8)? };
    }
    if family == AF_INET || family == AF_INET6 {
        port = if address.is_null() { field!(sk, sock_dport, u16)? } else { read(address, 2)? };
    }
    acted(kind, Counter::CanarySocket, family, &ip, u32::from(port), u32::from(sock_type), u32::from(protocol))
}
