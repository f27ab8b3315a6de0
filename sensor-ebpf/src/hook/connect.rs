//! A marked process connects by IPv4 or IPv6, on the restricted rung; on the others `socket.rs` tells of it, for less.
//!
//! `cgroup/connect4`, `cgroup/connect6` (kernel: net/ipv4/af_inet.c: inet_stream_connect and udp_pre_connect through
//! BPF_CGROUP_PRE_CONNECT_*): TCP, MPTCP, Fast Open, UDP connect, also by io_uring; the address is the kernel's own copy.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use sensor_abi::counter::Counter;
use sensor_abi::record::kind;

use crate::field::config;
use crate::maps::count;
use crate::net::{self, AF_INET, AF_INET6, End, PROCEED};
use crate::{loader, task};

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    inet(&ctx, AF_INET, kind::CONNECT, Counter::CanaryConnect)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    inet(&ctx, AF_INET6, kind::CONNECT, Counter::CanaryConnect6)
}

/// Tells of a call that names an IPv4 or IPv6 address, which the program may read by `family`.
#[inline(always)]
pub fn inet(ctx: &SockAddrContext, family: u16, kind: u16, canary: Counter) -> i32 {
    if task::current_tgid() == config!(own_tgid) {
        count(canary);
    } else {
        let _ = acted(ctx, family, kind);
    }
    PROCEED
}

#[inline(always)]
fn acted(ctx: &SockAddrContext, family: u16, kind: u16) -> Option<()> {
    let loader = loader::current()?;
    let addr = ctx.sock_addr;
    let mut address = [0u8; 16];
    // SAFETY: the context is valid for the program's run; members are read one by one, as the verifier demands.
    let end = unsafe {
        if family == AF_INET {
            address[..4].copy_from_slice(&(*addr).user_ip4.to_ne_bytes());
        } else {
            for i in 0..4 {
                let word = core::ptr::read_volatile(&raw const (*addr).user_ip6[i]);
                address[i * 4..i * 4 + 4].copy_from_slice(&word.to_ne_bytes());
            }
        }
        End {
            family,
            port: u16::from_be((*addr).user_port as u16),
            sock_type: (*addr).type_ as u16,
            protocol: net::protocol_of((*addr).__bindgen_anon_1.sk, (*addr).protocol as u16),
            address,
            cookie: bpf_get_socket_cookie(ctx.as_ptr()),
            bytes: 0,
        }
    };
    loader.tell(kind, &end)
}
