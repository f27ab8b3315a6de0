//! Packets of marked processes that no call names the address of, and names that resolvers are asked for.
//!
//! `cgroup_skb/egress` and `/ingress` (kernel: net/ipv4/ip_output.c: ip_finish_output, BPF_CGROUP_RUN_PROG_INET_EGRESS;
//! net/core/filter.c: sk_filter_trim_cap). Outgoing packets pass in the context of whoever sends them: raw sockets, and
//! datagrams to port 53. Incoming: what a resolver answers a socket that a marked process asked by; no query is ever sent
//! by us. They run for every packet: TCP is told by the socket's type and leaves after a few instructions, UDP by a port.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock, bpf_skb_load_bytes};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use sensor_abi::counter::Counter;
use sensor_abi::record::{Answer, DNS_BYTES_MAX, Packet, kind};

use super::tcp::nobody;
use crate::emit::{self, Area};
use crate::field::{config, field};
use crate::maps::{ASKING, RING_BULK, SCRATCH_BYTES, count};
use crate::net::{
    self, AF_INET, AF_INET6, End, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_UDP, PROCEED, SOCK_DGRAM, SOCK_RAW,
};
use crate::task;

const DNS_PORT: u16 = 53;
const UDP_HEADER_BYTES: u32 = 8;
/// `include/uapi/linux/if_ether.h`, as `__sk_buff.protocol` has them.
const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;
/// Extension headers that are passed to find the datagram behind them (RFC 8200 section 4).
const EXTENSION_HEADERS_MAX: u32 = 4;

#[cgroup_skb(egress)]
pub fn packet_out(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid for the program's run.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return PROCEED;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return PROCEED;
        }
        let (sock_type, protocol) = ((*sk).type_ as u16, (*sk).protocol as u16);
        if sock_type == SOCK_DGRAM && protocol == IPPROTO_UDP {
            let to: u16 = u16::from_be((*sk).dst_port);
            if to == DNS_PORT || to == 0 {
                let _ = asked(skb);
            }
        } else if (sock_type == SOCK_RAW || matches!(protocol, IPPROTO_ICMP | IPPROTO_ICMPV6)) && is_a_users(sk) {
            let _ = raw(skb, sock_type, protocol);
        }
    }
    PROCEED
}

#[cgroup_skb(ingress)]
pub fn packet_in(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid for the program's run; a packet's bytes are read within its bounds.
    unsafe {
        let (start, end) = ((*skb).data as usize, (*skb).data_end as usize);
        if start + 20 > end {
            return PROCEED;
        }
        let bytes = start as *const u8;
        let next = if *bytes >> 4 == 4 { *bytes.add(9) } else { *bytes.add(6) };
        // Extension headers of IPv6 answers are none of ours: no resolver sends them.
        if u16::from(next) == IPPROTO_UDP {
            let _ = answered(skb);
        }
    }
    PROCEED
}

/// Where a UDP header begins, and from or to whom.
struct Datagram {
    family: u16,
    at: u32,
}

/// Finds the UDP header of an IP packet.
#[inline(always)]
fn datagram(skb: *mut __sk_buff) -> Option<Datagram> {
    // SAFETY: the context is valid for the program's run.
    match unsafe { (*skb).protocol } {
        ETH_P_IP => {
            let first: u8 = load(skb, 0)?;
            let protocol: u8 = load(skb, 9)?;
            (u16::from(protocol) == IPPROTO_UDP).then_some(Datagram { family: AF_INET, at: u32::from(first & 15) * 4 })
        }
        ETH_P_IPV6 => {
            let mut next: u8 = load(skb, 6)?;
            let mut at = 40;
            for _ in 0..EXTENSION_HEADERS_MAX {
                if u16::from(next) == IPPROTO_UDP {
                    break;
                }
                let header: [u8; 2] = load(skb, at)?;
                next = header[0];
                at += (u32::from(header[1]) + 1) * 8;
            }
            (u16::from(next) == IPPROTO_UDP).then_some(Datagram { family: AF_INET6, at })
        }
        _ => None,
    }
}

/// An address of the IP header: the source, or the destination.
#[inline(always)]
fn address(skb: *mut __sk_buff, family: u16, is_source: bool) -> Option<[u8; 16]> {
    let mut address = [0u8; 16];
    if family == AF_INET {
        address[..4].copy_from_slice(&load::<[u8; 4]>(skb, if is_source { 12 } else { 16 })?);
        Some(address)
    } else {
        load(skb, if is_source { 8 } else { 24 })
    }
}

#[inline(always)]
fn asked(skb: *mut __sk_buff) -> Option<()> {
    let Datagram { family, at } = datagram(skb)?;
    if u16::from_be(load(skb, at + 2)?) != DNS_PORT {
        return None;
    }
    let loader = net::loader_by_memory()?;
    // SAFETY: the context is valid for the program's run.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    let _ = ASKING.insert(cookie, 1, 0);
    let end = End {
        family,
        port: DNS_PORT,
        sock_type: SOCK_DGRAM,
        protocol: IPPROTO_UDP,
        address: address(skb, family, false)?,
        cookie,
        bytes: 0,
    };
    let area = Area::claim()?;
    let record: *mut Packet = area.record();
    // SAFETY: the area is larger than the record's fixed part.
    let artifacts = unsafe { loader.write_net(kind::PACKET, loader.held(), &raw mut (*record).net, &end) };
    let payload = emit::write_artifacts(area.bytes(), size_of::<Packet>() as u64, loader.set, artifacts);
    let len = write_payload(skb, at + UDP_HEADER_BYTES, area.bytes(), payload);
    // SAFETY: as above.
    unsafe {
        (*record).payload_len = len;
        (*record).reserved = 0;
        // What the datagram holds, whole.
        (*record).net.bytes = u64::from((*skb).len.saturating_sub(at + UDP_HEADER_BYTES));
    }
    area.send(&RING_BULK, payload + u64::from(len));
    Some(())
}

/// The kernel answers pings from raw sockets of its own, which keep no network namespace alive.
#[inline(always)]
fn is_a_users(sk: *mut bpf_sock) -> bool {
    const NET_REFCNT: u8 = 1 << 6;
    net::address_of(sk).and_then(|sk| field!(sk, sock_flags, u8)).is_some_and(|flags| flags & NET_REFCNT != 0)
}

#[inline(always)]
fn raw(skb: *mut __sk_buff, sock_type: u16, protocol: u16) -> Option<()> {
    if field!(task::current(), task_tgid, u32) == Some(config!(own_tgid)) {
        count(Counter::CanaryPacket);
        return None;
    }
    let loader = net::loader_by_memory()?;
    // SAFETY: the context is valid for the program's run.
    let (family, bytes) = unsafe {
        let family = match (*skb).protocol {
            ETH_P_IP => AF_INET,
            ETH_P_IPV6 => AF_INET6,
            _ => return None,
        };
        (family, u64::from((*skb).len))
    };
    let end = End { family, port: 0, sock_type, protocol, address: address(skb, family, false)?, cookie: 0, bytes };
    let area = Area::claim()?;
    let record: *mut Packet = area.record();
    // SAFETY: the area is larger than the record's fixed part.
    let artifacts = unsafe {
        (*record).payload_len = 0;
        (*record).reserved = 0;
        loader.write_net(kind::PACKET, loader.held(), &raw mut (*record).net, &end)
    };
    let last = emit::write_artifacts(area.bytes(), size_of::<Packet>() as u64, loader.set, artifacts);
    area.send(&RING_BULK, last);
    Some(())
}

#[inline(always)]
fn answered(skb: *mut __sk_buff) -> Option<()> {
    let Datagram { family, at } = datagram(skb)?;
    if u16::from_be(load(skb, at)?) != DNS_PORT {
        return None;
    }
    // SAFETY: the context is valid for the program's run.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    ASKING.get_ptr(cookie)?;
    let address = address(skb, family, true)?;
    let area = Area::claim()?;
    let record: *mut Answer = area.record();
    let payload = size_of::<Answer>() as u64;
    let len = write_payload(skb, at + UDP_HEADER_BYTES, area.bytes(), payload);
    // SAFETY: the area is larger than the record's fixed part.
    unsafe {
        (*record).header = nobody(kind::ANSWER);
        (*record).cookie = cookie;
        (*record).address = address;
        (*record).family = family;
        (*record).reserved = 0;
        (*record).payload_len = len;
    }
    area.send(&RING_BULK, payload + u64::from(len));
    Some(())
}

/// Copies at most [`DNS_BYTES_MAX`] bytes of the packet from `from` on to `at`, and gives their number.
#[inline(always)]
fn write_payload(skb: *mut __sk_buff, from: u32, bytes: *mut u8, at: u64) -> u32 {
    // SAFETY: the context is valid for the program's run.
    let len = unsafe { (*skb).len }.saturating_sub(from).min(DNS_BYTES_MAX as u32);
    let at = at as usize & (SCRATCH_BYTES / 2 - 1);
    if len == 0 {
        return 0;
    }
    // In a form that the verifier sees to be from 1 to the limit; the compiler, which knows it already, has to keep it.
    let len = (core::hint::black_box(len).wrapping_sub(1) & (DNS_BYTES_MAX as u32 - 1)) + 1;
    // SAFETY: `at` is below half the area and `len` at most a sixteenth; the helper checks the source.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), from, bytes.add(at).cast(), len) } != 0;
    if failed { 0 } else { len }
}

/// A `T` at `offset` from the IP header.
#[inline(always)]
fn load<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes the whole value or fails; `T` is plain data for which any bytes are valid.
    unsafe {
        let failed = bpf_skb_load_bytes(skb.cast(), offset, value.as_mut_ptr().cast(), size_of::<T>() as u32);
        (failed == 0).then(|| value.assume_init())
    }
}
