//! A marked process connects or sends to a unix socket: a proxy, or a service that acts for whoever asks.
//!
//! `unix_stream_connect` (match-proto: security/security.c: int security_unix_stream_connect(struct sock *sock, struct
//! sock *other, struct sock *newsk)) and `unix_may_send` (match-proto: int security_unix_may_send(struct socket *sock,
//! struct socket *other)). Restricted rung: `socket.rs`. The name is the one that the peer bound itself to, whatever name
//! it was reached by.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use sensor_abi::counter::Counter;
use sensor_abi::record::{UNIX_NAME_BYTES_MAX, Unix, kind};

use crate::emit::{self, Area};
use crate::entry::security_hook;
use crate::field::{Address, config, field, offset};
use crate::maps::{RING_BULK, count};
use crate::{net, task};

security_hook! {
    fn unix_stream_connect(_socket: Address, peer: Address, _new: Address) {
        if task::current_tgid() == config!(own_tgid) {
            count(Counter::CanaryUnix);
        } else if net::current_is_marked() {
            let _ = reached(peer);
        }
    }
}

security_hook! {
    fn unix_may_send(_socket: Address, other: Address) {
        if net::current_is_marked() {
            if let Some(peer) = field!(other, socket_sk, Address) {
                let _ = reached(peer);
            }
        }
    }
}

/// `struct unix_address`: its name begins with the family.
const FAMILY_BYTES: u32 = 2;

/// Tells of a peer that has a name; what has none was given its socket by somebody (socketpair, descriptor passing).
#[inline(always)]
pub fn reached(peer: Address) -> Option<()> {
    let address: Address = field!(peer, unix_addr, Address)?;
    if address.is_null() {
        return None;
    }
    let len: u32 = field!(address, unix_address_len, u32)?;
    if len <= FAMILY_BYTES {
        return None;
    }
    let len = (len - FAMILY_BYTES).min(UNIX_NAME_BYTES_MAX as u32 - 1);
    let loader = net::loader()?;
    let area = Area::claim()?;
    let record: *mut Unix = area.record();
    // SAFETY: the area is larger than the record's fixed part, `len` below the name's size; the source is checked.
    let artifacts = unsafe {
        (*record).name = [0; UNIX_NAME_BYTES_MAX];
        let from = address.wrapping_add((offset!(unix_address_name) + FAMILY_BYTES) as usize);
        bpf_probe_read_kernel((&raw mut (*record).name).cast(), len & 127, from.cast());
        (*record).name_len = len;
        (*record).reserved = 0;
        loader.write(kind::UNIX, loader.held(), &raw mut (*record).header, &raw mut (*record).load)
    };
    let end = emit::write_artifacts(area.bytes(), size_of::<Unix>() as u64, loader.set, artifacts);
    area.send(&RING_BULK, end);
    Some(())
}
