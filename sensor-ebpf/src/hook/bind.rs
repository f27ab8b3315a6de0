//! A marked process binds a datagram socket: others can send to it from now on.
//!
//! `cgroup/post_bind4`, `cgroup/post_bind6` (kernel: net/ipv4/af_inet.c: __inet_bind,
//! BPF_CGROUP_RUN_PROG_INET4_POST_BIND): the address and port that the kernel gave. A TCP socket is reachable only when
//! it listens: `tcp.rs`.

use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use sensor_abi::counter::Counter;
use sensor_abi::record::kind;

use crate::field::config;
use crate::maps::count;
use crate::net::{self, AF_INET, AF_INET6, End, PROCEED, SOCK_DGRAM};
use crate::task;

#[cgroup_sock(post_bind4)]
pub fn post_bind4(ctx: SockContext) -> i32 {
    bound(&ctx, AF_INET, Counter::CanaryBind)
}

#[cgroup_sock(post_bind6)]
pub fn post_bind6(ctx: SockContext) -> i32 {
    bound(&ctx, AF_INET6, Counter::CanaryBind6)
}

#[inline(always)]
fn bound(ctx: &SockContext, family: u16, canary: Counter) -> i32 {
    if task::current_tgid() == config!(own_tgid) {
        count(canary);
        return PROCEED;
    }
    // SAFETY: the context is valid for the program's run.
    if unsafe { (*ctx.sock).type_ } == u32::from(SOCK_DGRAM) {
        let _ = tell(ctx, family);
    }
    PROCEED
}

#[inline(always)]
fn tell(ctx: &SockContext, family: u16) -> Option<()> {
    let loader = net::loader()?;
    let sock = ctx.sock;
    let mut address = [0u8; 16];
    // SAFETY: as above; members are read one by one, as the verifier demands.
    let end = unsafe {
        if family == AF_INET {
            address[..4].copy_from_slice(&(*sock).src_ip4.to_ne_bytes());
        } else {
            for i in 0..4 {
                let word = core::ptr::read_volatile(&raw const (*sock).src_ip6[i]);
                address[i * 4..i * 4 + 4].copy_from_slice(&word.to_ne_bytes());
            }
        }
        End {
            family,
            port: (*sock).src_port as u16,
            sock_type: SOCK_DGRAM,
            protocol: (*sock).protocol as u16,
            address,
            cookie: 0,
            bytes: 0,
        }
    };
    loader.tell(kind::BIND, &end)
}
