//! A marked process sends a datagram on an unconnected socket.
//!
//! `cgroup/sendmsg4`, `cgroup/sendmsg6` (kernel: net/ipv4/udp.c: udp_sendmsg, BPF_CGROUP_RUN_PROG_UDP4_SENDMSG_LOCK):
//! sendto, sendmsg, each datagram of sendmmsg, also by io_uring.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use sensor_abi::counter::Counter;
use sensor_abi::record::kind;

use super::connect::{inet4, inet6};

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    inet4(&ctx, kind::SEND, Counter::CanarySend)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    inet6(&ctx, kind::SEND, Counter::CanarySend6)
}
