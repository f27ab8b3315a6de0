//! TCP sockets of marked processes: they listen, and they carry bytes away.
//!
//! `sockops` (kernel: net/ipv4/tcp.h: tcp_call_bpf). BPF_SOCK_OPS_TCP_LISTEN_CB and TCP_CONNECT_CB run in the process
//! that calls listen(2) or connect(2); a socket of a marked one is told to call back at round trips and at its end, others
//! never do. Children of a listening socket inherit that (kernel: tcp_create_openreq_child copies the flags).

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use sensor_abi::ABI_VERSION;
use sensor_abi::counter::Counter;
use sensor_abi::identity::TaskKey;
use sensor_abi::mark::Flow;
use sensor_abi::record::{Egress, Header, UNKNOWN_UID, kind};

use crate::emit::Area;
use crate::field::{config, field};
use crate::maps::{FLOWS, RING_BULK, count};
use crate::net::{self, AF_INET, AF_INET6, End, IPPROTO_TCP, SOCK_STREAM};
use crate::{loader, task};

/// `include/uapi/linux/bpf.h`
const TCP_CONNECT_CB: u32 = 3;
const PASSIVE_ESTABLISHED_CB: u32 = 5;
const STATE_CB: u32 = 10;
const TCP_LISTEN_CB: u32 = 11;
const RTT_CB: u32 = 12;
const STATE_CB_FLAG: u32 = 1 << 2;
const RTT_CB_FLAG: u32 = 1 << 3;
/// `include/net/tcp_states.h`
const TCP_FIN_WAIT2: u32 = 5;
const TCP_CLOSE: u32 = 7;
const TCP_LAST_ACK: u32 = 9;
const TCP_CLOSING: u32 = 11;

/// Bytes at which a connection that goes on is reported first; then at ten times as much, and so on.
const EGRESS_FIRST_BYTES: u64 = 1 << 20;

/// What a `sockops` program answers where it has nothing to say.
const NO_OPINION: u32 = 1;

#[sock_ops]
pub fn tcp_socket(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        TCP_CONNECT_CB => drop(connects(&ctx)),
        TCP_LISTEN_CB => drop(listens(&ctx)),
        // Only sockets of marked processes have these flags from us.
        PASSIVE_ESTABLISHED_CB if ctx.cb_flags() & RTT_CB_FLAG != 0 => follow(&ctx, NOBODY),
        RTT_CB => drop(round_trip(&ctx)),
        STATE_CB => drop(changes(&ctx)),
        _ => {}
    }
    NO_OPINION
}

#[inline(always)]
fn is_own() -> bool {
    field!(task::current(), task_tgid, u32) == Some(config!(own_tgid))
}

#[inline(always)]
fn connects(ctx: &SockOpsContext) -> Option<()> {
    let loader = loader::from_memory()?;
    call_back(ctx);
    follow(ctx, loader.key);
    Some(())
}

#[inline(always)]
fn listens(ctx: &SockOpsContext) -> Option<()> {
    if is_own() {
        count(Counter::CanarySockops);
        return None;
    }
    let loader = loader::from_memory()?;
    call_back(ctx);
    let family = ctx.family() as u16;
    let mut address = [0u8; 16];
    if family == AF_INET {
        address[..4].copy_from_slice(&ctx.local_ip4().to_ne_bytes());
    } else if family == AF_INET6 {
        for i in 0..4 {
            // SAFETY: the context is valid for the program's run; words are read one by one, as the verifier demands.
            let word = unsafe { core::ptr::read_volatile(&raw const (*ctx.ops).local_ip6[i]) };
            address[i * 4..i * 4 + 4].copy_from_slice(&word.to_ne_bytes());
        }
    } else {
        return None;
    }
    let port = ctx.local_port() as u16;
    // SAFETY: as above.
    let protocol = net::protocol_of(unsafe { (*ctx.ops).__bindgen_anon_2.sk }, IPPROTO_TCP);
    loader.tell(kind::BIND, &End { family, port, sock_type: SOCK_STREAM, protocol, address, cookie: 0, bytes: 0 })
}

/// Asks for round trips and changes of state of this socket, beside what others asked for.
#[inline(always)]
fn call_back(ctx: &SockOpsContext) {
    let _ = ctx.set_cb_flags((ctx.cb_flags() | STATE_CB_FLAG | RTT_CB_FLAG) as i32);
}

#[inline(always)]
fn follow(ctx: &SockOpsContext, task: TaskKey) {
    // SAFETY: the context is valid for the program's run.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let _ = FLOWS.insert(cookie, Flow { next: EGRESS_FIRST_BYTES, told: 0, task }, 0);
}

#[inline(always)]
fn round_trip(ctx: &SockOpsContext) -> Option<()> {
    // SAFETY: the context is valid for the program's run.
    let (cookie, bytes) = unsafe { (bpf_get_socket_cookie(ctx.as_ptr()), (*ctx.ops).bytes_acked) };
    let flow = FLOWS.get_ptr_mut(cookie)?;
    // SAFETY: a live map value; two acknowledgements at once may both tell.
    unsafe {
        if bytes < (*flow).next {
            return None;
        }
        (*flow).next = mark_above(bytes);
    }
    tell(ctx, cookie, flow, bytes)
}

/// The next of 1 MiB, 10 MiB, 100 MiB … above `bytes`.
#[inline(always)]
fn mark_above(bytes: u64) -> u64 {
    let mut above = EGRESS_FIRST_BYTES;
    // Up to 10 EiB; the verifier sees a short loop.
    for _ in 0..13 {
        if above <= bytes {
            above = above.saturating_mul(10);
        }
    }
    above
}

#[inline(always)]
fn changes(ctx: &SockOpsContext) -> Option<()> {
    // SAFETY: as above; words are read one by one.
    let (before, now) = unsafe {
        let args = &raw const (*ctx.ops).__bindgen_anon_1.args;
        (core::ptr::read_volatile(args.cast::<u32>()), core::ptr::read_volatile(args.cast::<u32>().add(1)))
    };
    if now != TCP_CLOSE {
        return None;
    }
    // SAFETY: as above.
    let (cookie, acked) = unsafe { (bpf_get_socket_cookie(ctx.as_ptr()), (*ctx.ops).bytes_acked) };
    let flow = FLOWS.get_ptr_mut(cookie)?;
    // The first number that the peer of one that connected acknowledges is the SYN's (of one that was accepted, that is
    // before the count begins: net/ipv4/tcp_minisocks.c: tcp_create_openreq_child), the last one the FIN's.
    // SAFETY: a live map value.
    let syn = u64::from(unsafe { (*flow).task.tgid } != NOBODY.tgid);
    let controls = syn + u64::from(matches!(before, TCP_FIN_WAIT2 | TCP_LAST_ACK | TCP_CLOSING));
    let told = tell(ctx, cookie, flow, acked.saturating_sub(controls));
    let _ = FLOWS.remove(cookie);
    told
}

#[inline(always)]
fn tell(ctx: &SockOpsContext, cookie: u64, flow: *mut Flow, bytes: u64) -> Option<()> {
    // SAFETY: a live map value.
    let (more, task) = unsafe { (bytes.saturating_sub((*flow).told), (*flow).task) };
    if more == 0 {
        return None;
    }
    // SAFETY: as above.
    unsafe { (*flow).told = bytes };
    let area = Area::claim()?;
    let record: *mut Egress = area.record();
    let family = ctx.family() as u16;
    let mut address = [0u8; 16];
    if family == AF_INET {
        address[..4].copy_from_slice(&ctx.remote_ip4().to_ne_bytes());
    } else {
        for i in 0..4 {
            // SAFETY: the context is valid for the program's run; words are read one by one, as the verifier demands.
            let word = unsafe { core::ptr::read_volatile(&raw const (*ctx.ops).remote_ip6[i]) };
            address[i * 4..i * 4 + 4].copy_from_slice(&word.to_ne_bytes());
        }
    }
    // SAFETY: the area is larger than the record.
    unsafe {
        (*record).header = nobody(kind::EGRESS);
        (*record).header.task = task;
        (*record).cookie = cookie;
        (*record).bytes = bytes;
        (*record).more = more;
        (*record).address = address;
        (*record).family = family;
        (*record).port = u16::from_be((ctx.remote_port() >> 16) as u16);
        (*record).reserved = [0; 12];
    }
    area.send(&RING_BULK, size_of::<Egress>() as u64);
    Some(())
}

/// Nobody: see [`Flow::task`].
const NOBODY: TaskKey = TaskKey { start_boottime_ns: 0, tgid: 0, reserved: 0 };

/// The header of a record that no process acts in.
#[inline(always)]
pub fn nobody(kind: u16) -> Header {
    Header {
        abi: ABI_VERSION,
        kind,
        tid: 0,
        time_ns: task::now_ns(),
        task: NOBODY,
        parent: NOBODY,
        cgroup: 0,
        uid: UNKNOWN_UID,
        reserved: 0,
        comm: [0; 16],
    }
}
