//! A marked process connects.
//!
//! `cgroup/connect4`, `cgroup/connect6` (kernel: net/ipv4/af_inet.c: inet_stream_connect and udp_pre_connect through
//! BPF_CGROUP_PRE_CONNECT_*): TCP, MPTCP, Fast Open, UDP connect, also by io_uring; the address is the kernel's own copy.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use sensor_abi::counter::Counter;
use sensor_abi::mark::role;
use sensor_abi::record::{FoldKey, Net, kind};

use crate::emit::{self, Area};
use crate::field::config;
use crate::maps::{LOAD_SETS, RING_BULK, count};
use crate::{mark, task, window};

/// `include/linux/socket.h`
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

/// The verdict of a cgroup program that lets the call go on.
pub const PROCEED: i32 = 1;

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    inet4(&ctx, kind::CONNECT, Counter::CanaryConnect)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    inet6(&ctx, kind::CONNECT, Counter::CanaryConnect6)
}

#[inline(always)]
pub fn inet4(ctx: &SockAddrContext, kind: u16, canary: Counter) -> i32 {
    let mut address = [0u8; 16];
    // SAFETY: the context is valid for the program's run; members are read one by one, as the verifier demands.
    let (ip, port, sock_type, protocol) = unsafe {
        let addr = ctx.sock_addr;
        ((*addr).user_ip4, (*addr).user_port, (*addr).type_, (*addr).protocol)
    };
    address[..4].copy_from_slice(&ip.to_ne_bytes());
    let _ = acted(kind, canary, AF_INET, &address, port, sock_type, protocol);
    PROCEED
}

#[inline(always)]
pub fn inet6(ctx: &SockAddrContext, kind: u16, canary: Counter) -> i32 {
    let mut address = [0u8; 16];
    // SAFETY: as for IPv4.
    let (port, sock_type, protocol) = unsafe {
        let addr = ctx.sock_addr;
        let a = core::ptr::read_volatile(&raw const (*addr).user_ip6[0]);
        let b = core::ptr::read_volatile(&raw const (*addr).user_ip6[1]);
        let c = core::ptr::read_volatile(&raw const (*addr).user_ip6[2]);
        let d = core::ptr::read_volatile(&raw const (*addr).user_ip6[3]);
        address[..4].copy_from_slice(&a.to_ne_bytes());
        address[4..8].copy_from_slice(&b.to_ne_bytes());
        address[8..12].copy_from_slice(&c.to_ne_bytes());
        address[12..].copy_from_slice(&d.to_ne_bytes());
        ((*addr).user_port, (*addr).type_, (*addr).protocol)
    };
    let _ = acted(kind, canary, AF_INET6, &address, port, sock_type, protocol);
    PROCEED
}

/// Tells userspace, if the current process carries a load.
#[inline(always)]
pub fn acted(
    kind: u16,
    canary: Counter,
    family: u16,
    address: &[u8; 16],
    port_be: u32,
    sock_type: u32,
    protocol: u32,
) -> Option<()> {
    if task::current_tgid() == config!(own_tgid) {
        count(canary);
        return None;
    }
    let (mark, current, key) = mark::find_current()?;
    // SAFETY: a live map value.
    if matches!(unsafe { mark::role_of(mark) }, role::READER | role::OWN) {
        return None;
    }
    // SAFETY: as above.
    let set = LOAD_SETS.get_ptr_mut(unsafe { (*mark).set })?;
    // SAFETY: as above.
    if mark::sensor_counts(unsafe { (*mark).set }) == 0 {
        return None;
    }
    // SAFETY: as above.
    let held = window::held(current, unsafe { (*mark).set }, key.start_boottime_ns);
    // SAFETY: mark and set are live map values.
    let fold = unsafe {
        FoldKey {
            task: key,
            set: (*mark).set,
            kind,
            family,
            port: u16::from_be(port_be as u16),
            sock_type: sock_type as u16,
            protocol: protocol as u16,
            held: held as u8,
            born: (*mark).born,
            artifacts: (*set).count + (*set).omitted,
            address: *address,
        }
    };
    if emit::folded(&fold) {
        return None;
    }
    let area = Area::claim()?;
    let record: *mut Net = area.record();
    // SAFETY: the area is larger than the record's fixed part; mark and set are live map values.
    let artifacts = unsafe {
        task::write_header(&raw mut (*record).header, kind, current, key);
        (*record).last_ns = (*record).header.time_ns;
        (*record).times = 1;
        (*record).family = family;
        (*record).port = u16::from_be(port_be as u16);
        (*record).sock_type = sock_type as u16;
        (*record).protocol = protocol as u16;
        (*record).address = *address;
        emit::write_load(&raw mut (*record).load, mark, set, held as u8, (held >> 8) as u8)
    };
    let end = emit::write_artifacts(area.bytes(), size_of::<Net>() as u64, set, artifacts);
    area.send_foldable(&RING_BULK, end, &fold);
    Some(())
}
