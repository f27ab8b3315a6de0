//! What a marked process does with sockets: whom with, and the record of it.

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use sensor_abi::record::{FoldKey, Net};

use crate::emit::{self, Area};
use crate::field::{Address, Checked, Reach, field, member};
use crate::loader::Loader;
use crate::maps::RING_BULK;
use crate::{file, loader, task};

/// `include/linux/socket.h`
pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const AF_PACKET: u16 = 17;
pub const AF_VSOCK: u16 = 40;
pub const AF_SMC: u16 = 43;
pub const AF_XDP: u16 = 44;
/// `include/uapi/linux/in.h`
pub const IPPROTO_ICMP: u16 = 1;
pub const IPPROTO_TCP: u16 = 6;
pub const IPPROTO_UDP: u16 = 17;
pub const IPPROTO_ICMPV6: u16 = 58;
pub const IPPROTO_UDPLITE: u16 = 136;
pub const IPPROTO_SMC: u16 = 256;
pub const IPPROTO_MPTCP: u16 = 262;
/// `include/linux/net.h`
pub const SOCK_STREAM: u16 = 1;
pub const SOCK_DGRAM: u16 = 2;
pub const SOCK_RAW: u16 = 3;

/// The verdict of a cgroup program that lets the call, or the packet, go on.
pub const PROCEED: i32 = 1;

/// One end of a connection, or of a datagram's way.
#[derive(Clone, Copy)]
pub struct End {
    pub family: u16,
    /// Host byte order.
    pub port: u16,
    pub sock_type: u16,
    pub protocol: u16,
    /// IPv4 in the first four bytes.
    pub address: [u8; 16],
    pub cookie: u64,
    pub bytes: u64,
}

impl Loader {
    /// Writes a [`Net`], and gives the number of artifacts that belong behind it.
    ///
    /// # Safety
    /// `net` points to writable memory of its size.
    #[inline(always)]
    pub unsafe fn write_net(&self, kind: u16, held: u64, net: *mut Net, end: &End) -> u64 {
        // SAFETY: the caller's promise.
        unsafe {
            (*net).family = end.family;
            (*net).port = end.port;
            (*net).sock_type = end.sock_type;
            (*net).protocol = end.protocol;
            (*net).address = end.address;
            (*net).cookie = end.cookie;
            (*net).bytes = end.bytes;
            let artifacts = self.write(kind, held, &raw mut (*net).header, &raw mut (*net).load);
            (*net).last_ns = (*net).header.time_ns;
            (*net).times = 1;
            artifacts
        }
    }

    /// Tells userspace of a connect, a datagram or a bind; equal ones are counted instead.
    #[inline(always)]
    pub fn tell(&self, kind: u16, end: &End) -> Option<()> {
        let held = self.held();
        // SAFETY: mark and set are live map values.
        let fold = unsafe {
            FoldKey {
                task: self.key,
                set: (*self.mark).set,
                kind,
                family: end.family,
                port: end.port,
                sock_type: end.sock_type,
                protocol: end.protocol,
                held: held as u8,
                born: (*self.mark).born,
                artifacts: (*self.set).count + (*self.set).omitted,
                address: end.address,
            }
        };
        if emit::folded(&fold, end.bytes) {
            return None;
        }
        let area = Area::claim()?;
        // SAFETY: the area is larger than the record's fixed part.
        let artifacts = unsafe { self.write_net(kind, held, area.record(), end) };
        let last = emit::write_artifacts(area.bytes(), size_of::<Net>() as u64, self.set, artifacts);
        area.send_foldable(&RING_BULK, last, &fold);
        Some(())
    }
}

/// Where the socket is that a cgroup program was given: the verifier lets nobody calculate with such a pointer, but the
/// kernel reads it off the stack.
#[inline(always)]
pub fn address_of(sk: *mut bpf_sock) -> Option<Address> {
    let on_stack = sk;
    // SAFETY: the helper checks the address; the stack slot is live.
    let read = unsafe { bpf_probe_read_kernel((&raw const on_stack).cast::<u64>()) };
    read.ok().map(|address| address as Address)
}

/// IPPROTO_MPTCP for a socket that carries a part of an MPTCP connection: it says of itself that it speaks TCP.
#[inline(always)]
pub fn protocol_of(sk: *mut bpf_sock, protocol: u16) -> u16 {
    let is_mptcp = || field!(address_of(sk)?, tcp_is_mptcp, u8);
    if protocol == IPPROTO_TCP && is_mptcp().is_some_and(|is| is != 0) { IPPROTO_MPTCP } else { protocol }
}

/// The kernel's side of a socket. It may be gone, and newer verifiers let nobody read what may not be there.
#[inline(always)]
pub fn sk_of<R: Reach>(socket: Address) -> Option<Address> {
    let sk: Address = member!(R, socket, socket_sk, Address)?;
    (!sk.is_null()).then_some(sk)
}

/// The peer of a connected IPv4 or IPv6 socket.
#[inline(always)]
pub fn peer_of(sk: Address, family: u16) -> Option<([u8; 16], u16)> {
    let mut address = [0u8; 16];
    if family == AF_INET {
        address[..4].copy_from_slice(&field!(sk, sock_daddr, [u8; 4])?);
    } else {
        address = field!(sk, sock_v6_daddr, [u8; 16])?;
    }
    Some((address, u16::from_be(field!(sk, sock_dport, u16)?)))
}

/// What an IPv4 or IPv6 socket is bound to.
#[inline(always)]
pub fn bound_to(sk: Address, family: u16) -> Option<([u8; 16], u16)> {
    let mut address = [0u8; 16];
    if family == AF_INET {
        address[..4].copy_from_slice(&field!(sk, sock_rcv_saddr, [u8; 4])?);
    } else {
        address = field!(sk, sock_v6_rcv_saddr, [u8; 16])?;
    }
    Some((address, field!(sk, sock_num, u16)?))
}

/// `include/uapi/linux/magic.h`: SOCKFS_MAGIC.
const SOCKFS_MAGIC: u64 = 0x534f_434b;

/// The socket behind descriptor `fd` of the current process.
#[inline(always)]
pub fn socket_of(fd: u32) -> Option<Address> {
    let file = file::of_descriptor(task::current(), fd)?;
    let inode: Address = field!(file, file_inode, Address)?;
    let sb: Address = field!(inode, inode_sb, Address)?;
    if field!(sb, sb_magic, u64)? != SOCKFS_MAGIC {
        return None;
    }
    sk_of::<Checked>(field!(file, file_private, Address)?)
}

/// Tells of what a connection of another family than IPv4 and IPv6 did: it has no address that anybody could place.
#[inline(always)]
pub fn tell_family(sk: Address, family: u16, what: u16) -> Option<()> {
    let end = End {
        family,
        port: 0,
        sock_type: field!(sk, sock_type, u16)?,
        protocol: 0,
        address: [0; 16],
        cookie: 0,
        bytes: 0,
    };
    loader::current()?.tell(what, &end)
}
