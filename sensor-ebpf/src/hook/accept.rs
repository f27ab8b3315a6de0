//! A marked process accepts a connection: somebody reached it from outside.
//!
//! `sock_graft` (match-proto: security/security.c: void security_sock_graft(struct sock *sk, struct socket
//! *parent)), which accept(2) comes through however it was called, when the peer is known. Restricted rung:
//! `syscalls/sys_exit_accept`, `_accept4`, the socket behind the descriptor that the call returned; misses io_uring.

use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use sensor_abi::counter::Counter;
use sensor_abi::record::{Accept, kind};

use crate::emit::{self, Area};
use crate::entry::security_hook;
use crate::field::{Address, config, field};
use crate::maps::{RING_BULK, count};
use crate::net::{self, AF_INET, AF_INET6, End};
use crate::task;

security_hook! {
    fn sock_graft(sk: Address, _parent: Address) -> void {
        if task::current_tgid() == config!(own_tgid) {
            count(Counter::CanaryAccept);
        } else if net::current_is_marked() {
            let _ = accepted(sk);
        }
    }
}

/// `include/trace/events/syscalls.h`: the return value of `sys_exit`, behind the common fields and the call's number.
const SYS_EXIT_RET: usize = 16;

#[tracepoint]
pub fn sys_exit_accept(ctx: TracePointContext) -> u32 {
    // SAFETY: the record of a `sys_exit` tracepoint is 24 bytes.
    if let Ok(fd) = unsafe { ctx.read_at::<i64>(SYS_EXIT_RET) } {
        if task::current_tgid() == config!(own_tgid) {
            count(Counter::CanaryAccept);
        } else if fd >= 0 && net::current_is_marked() {
            if let Some(sk) = net::socket_of(fd as u32) {
                let _ = accepted(sk);
            }
        }
    }
    0
}

#[inline(always)]
fn accepted(sk: Address) -> Option<()> {
    let family: u16 = field!(sk, sock_family, u16)?;
    if family != AF_INET && family != AF_INET6 {
        return None;
    }
    let (address, port) = net::bound_to(sk, family)?;
    let (peer, peer_port) = net::peer_of(sk, family)?;
    // Also a new socket comes through here, by socket(2) of some families: it has no peer.
    if peer_port == 0 {
        return None;
    }
    let end = End {
        family,
        port,
        sock_type: field!(sk, sock_type, u16)?,
        protocol: field!(sk, sock_protocol, u16)?,
        address,
        cookie: field!(sk, sock_cookie, u64).unwrap_or(0),
        bytes: 0,
    };
    let loader = net::loader()?;
    let area = Area::claim()?;
    let record: *mut Accept = area.record();
    // SAFETY: the area is larger than the record's fixed part.
    let artifacts = unsafe {
        (*record).peer = peer;
        (*record).peer_port = peer_port;
        (*record).reserved = [0; 6];
        loader.write_net(kind::ACCEPT, loader.held(), &raw mut (*record).net, &end)
    };
    let last = emit::write_artifacts(area.bytes(), size_of::<Accept>() as u64, loader.set, artifacts);
    area.send(&RING_BULK, last);
    Some(())
}
