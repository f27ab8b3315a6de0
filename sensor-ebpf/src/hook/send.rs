//! A marked process sends a datagram.
//!
//! On an unconnected socket: `cgroup/sendmsg4`, `cgroup/sendmsg6` (kernel: net/ipv4/udp.c: udp_sendmsg,
//! BPF_CGROUP_RUN_PROG_UDP4_SENDMSG_LOCK): sendto, sendmsg, each datagram of sendmmsg, also by io_uring.
//!
//! On a connected one, and from packet sockets: `socket.rs`; restricted rung `tp_btf/sock_send_length`
//! (match-proto: include/trace/events/sock.h: TP_PROTO(struct sock *sk, int ret, int flags)), which every send passes,
//! write and io_uring too, with the number of bytes that were taken.

use aya_ebpf::macros::{btf_tracepoint, cgroup_sock_addr};
use aya_ebpf::programs::{BtfTracePointContext, SockAddrContext};
use sensor_abi::counter::Counter;
use sensor_abi::record::kind;

use super::connect::inet;
use crate::field::{Address, config, field};
use crate::maps::count;
use crate::net::{self, AF_INET, AF_INET6, AF_PACKET, End, IPPROTO_UDP, IPPROTO_UDPLITE, SOCK_DGRAM};
use crate::{loader, task};

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    inet(&ctx, AF_INET, kind::SEND, Counter::CanarySend)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    inet(&ctx, AF_INET6, kind::SEND, Counter::CanarySend6)
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    let sent: i32 = ctx.arg(1);
    if task::current_tgid() == config!(own_tgid) {
        count(Counter::CanaryLength);
    } else if sent >= 0 && loader::current_is_marked() {
        let _ = sent_on(sk, sent as u64);
    }
    0
}

#[inline(always)]
fn sent_on(sk: Address, bytes: u64) -> Option<()> {
    let family: u16 = field!(sk, sock_family, u16)?;
    let sock_type: u16 = field!(sk, sock_type, u16)?;
    let protocol: u16 = field!(sk, sock_protocol, u16)?;
    // One end for both families: two would have their places on the stack, which is too full for them where the verifier
    // rounds a function's part up to 32 bytes (before 6.9).
    let mut end = End { family, port: 0, sock_type, protocol: 0, address: [0; 16], cookie: 0, bytes: 0 };
    match family {
        // It has no address that anybody could place.
        AF_PACKET => {}
        AF_INET | AF_INET6 if sock_type == SOCK_DGRAM && matches!(protocol, IPPROTO_UDP | IPPROTO_UDPLITE) => {
            (end.address, end.port) = net::peer_of(sk, family)?;
            // Without a peer the cgroup pair has seen the datagram.
            if end.port == 0 {
                return None;
            }
            end.protocol = protocol;
            end.cookie = field!(sk, sock_cookie, u64).unwrap_or(0);
            end.bytes = bytes;
        }
        _ => return None,
    }
    loader::current()?.tell(kind::SEND, &end)
}
