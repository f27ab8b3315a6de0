//! Somebody else's cgroup programs, loaded and attached by bare bpf(2): what a firewall or a service mesh on the same
//! machine has.
#![expect(unsafe_code, reason = "bpf(2) takes pointers to its attributes")]

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use anyhow::{Context, Result};

// include/uapi/linux/bpf.h
const BPF_PROG_LOAD: i64 = 5;
const BPF_PROG_ATTACH: i64 = 8;
const BPF_PROG_DETACH: i64 = 9;
const BPF_LINK_CREATE: i64 = 28;
const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
const BPF_CGROUP_INET4_CONNECT: u32 = 10;
const BPF_F_ALLOW_MULTI: u32 = 2;

#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: u32,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// Of BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
struct AttachAttributes {
    target_fd: RawFd,
    attach_bpf_fd: RawFd,
    attach_type: u32,
    attach_flags: u32,
}

#[repr(C)]
struct LinkAttributes {
    prog_fd: RawFd,
    target_fd: RawFd,
    attach_type: u32,
    flags: u32,
}

/// How a program is attached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum How {
    /// The old call, beside others.
    Multi,
    /// The old call with no flags: alone on its cgroup.
    Exclusive,
    /// A link.
    Link,
}

/// A program on a cgroup that refuses connections to one address; gone when dropped.
pub struct Refusal {
    program: OwnedFd,
    cgroup: OwnedFd,
    link: Option<OwnedFd>,
}

impl Refusal {
    pub fn attach(cgroup: &Path, address: Ipv4Addr, how: How) -> Result<Self> {
        let program = load(address)?;
        let cgroup: OwnedFd =
            std::fs::File::open(cgroup).with_context(|| format!("cannot open {}", cgroup.display()))?.into();
        let link = match how {
            How::Link => Some(call(
                BPF_LINK_CREATE,
                &LinkAttributes {
                    prog_fd: program.as_raw_fd(),
                    target_fd: cgroup.as_raw_fd(),
                    attach_type: BPF_CGROUP_INET4_CONNECT,
                    flags: 0,
                },
            )?),
            How::Multi | How::Exclusive => {
                let flags = if how == How::Multi { BPF_F_ALLOW_MULTI } else { 0 };
                attach_or_detach(BPF_PROG_ATTACH, &program, &cgroup, flags)?;
                None
            }
        };
        Ok(Self { program, cgroup, link: link.map(descriptor) })
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        if self.link.is_none() {
            // Nothing can be done about a failure here.
            let _ = attach_or_detach(BPF_PROG_DETACH, &self.program, &self.cgroup, 0);
        }
    }
}

fn attach_or_detach(command: i64, program: &impl AsFd, cgroup: &impl AsFd, attach_flags: u32) -> Result<RawFd> {
    let attributes = AttachAttributes {
        target_fd: cgroup.as_fd().as_raw_fd(),
        attach_bpf_fd: program.as_fd().as_raw_fd(),
        attach_type: BPF_CGROUP_INET4_CONNECT,
        attach_flags,
    };
    call(command, &attributes)
}

/// `if (ctx->user_ip4 == address) return 0; return 1;`
fn load(address: Ipv4Addr) -> Result<OwnedFd> {
    let address = u32::from_ne_bytes(address.octets());
    let instruction = |code, registers, offset, immediate| Instruction { code, registers, offset, immediate };
    let program = [
        // r2 = *(u32 *)(r1 + 4): struct bpf_sock_addr.user_ip4
        instruction(0x61, 0x12, 4, 0),
        // w0 = 1
        instruction(0xb4, 0, 0, 1),
        // if w2 != address goto +1
        instruction(0x56, 2, 1, address),
        // w0 = 0
        instruction(0xb4, 0, 0, 0),
        // exit
        instruction(0x95, 0, 0, 0),
    ];
    let attributes = LoadAttributes {
        prog_type: BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        expected_attach_type: BPF_CGROUP_INET4_CONNECT,
        ..LoadAttributes::default()
    };
    Ok(descriptor(call(BPF_PROG_LOAD, &attributes)?))
}

fn descriptor(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn call<T>(command: i64, attributes: &T) -> Result<RawFd> {
    // SAFETY: `attributes` is live for the call, as large as it says, and what it points to lives as long.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("bpf(2) command {command}"));
    }
    RawFd::try_from(result).context("the answer of bpf(2)")
}
