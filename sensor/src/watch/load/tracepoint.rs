//! Attaching a program to a tracepoint where tracefs isn't mounted: through a mount that nobody else sees.

#![expect(unsafe_code, reason = "perf_event_open(2) and its ioctls have no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya_obj::generated::{bpf_attach_type, bpf_cmd};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Where tracefs is mounted, if it is.
const MOUNTED: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// A view of tracefs.
#[derive(Debug)]
pub struct Tracefs {
    root: PathBuf,
    /// Keeps a private mount alive.
    _mount: Option<OwnedFd>,
}

impl Tracefs {
    /// Takes the mounted one, or makes a detached mount (needs CAP_SYS_ADMIN; fsmount(2), Linux 5.2).
    pub fn open() -> io::Result<Self> {
        if let Some(root) = MOUNTED.iter().find(|root| Path::new(root).join("events").is_dir()) {
            return Ok(Self { root: PathBuf::from(root), _mount: None });
        }
        let (mount, root) = mount_privately("tracefs")?;
        Ok(Self { root, _mount: Some(mount) })
    }

    /// The event's number, from its `id` file.
    pub fn id(&self, category: &str, name: &str) -> io::Result<u64> {
        let path = self.root.join("events").join(category).join(name).join("id");
        let text = std::fs::read_to_string(path)?;
        text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    }
}

/// A mount of one of the kernel's own file systems that nobody else sees, and its path: there as long as the mount is held.
pub fn mount_privately(kind: &str) -> io::Result<(OwnedFd, PathBuf)> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let root = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
    Ok((mount, root))
}

/// A program on a tracepoint; dropping it detaches.
#[derive(Debug)]
pub struct TracepointLink {
    _event: OwnedFd,
    /// Where the kernel makes one (5.15): it can be pinned.
    _link: Option<OwnedFd>,
}

/// `struct perf_event_attr` in its first published size, include/uapi/linux/perf_event.h: PERF_ATTR_SIZE_VER0.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}

const _: () = assert!(size_of::<PerfEventAttr>() == 64);

const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
/// `_IOW('$', 8, __u32)`, include/uapi/linux/perf_event.h
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
/// `_IO('$', 0)`
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;

/// Attaches `program` to the tracepoint numbered `id`, for every process on every CPU.
pub fn attach(program: BorrowedFd<'_>, id: u64) -> io::Result<TracepointLink> {
    let attr = PerfEventAttr {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<PerfEventAttr>() as u32,
        config: id,
        ..PerfEventAttr::default()
    };
    const ANY_PROCESS: libc::pid_t = -1;
    const NO_GROUP: libc::c_int = -1;
    // The program runs on every CPU whichever one is named (kernel/events/core.c: perf_event_set_bpf_prog).
    const CPU: libc::c_int = 0;
    // SAFETY: the attribute is a live, sized structure; the other arguments are numbers.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attr, ANY_PROCESS, CPU, NO_GROUP, PERF_FLAG_FD_CLOEXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the call above made and nobody else knows.
    let event = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
    let link = link(program, event.as_fd());
    let set = link.is_some() || {
        // SAFETY: takes numbers only; the descriptors are live.
        unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()) == 0 }
    };
    // SAFETY: as above.
    if !set || unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TracepointLink { _event: event, _link: link })
}

/// `bpf(BPF_LINK_CREATE)` on a perf event, include/uapi/linux/bpf.h; 5.15.
fn link(program: BorrowedFd<'_>, event: BorrowedFd<'_>) -> Option<OwnedFd> {
    #[repr(C)]
    struct LinkCreate {
        prog_fd: u32,
        target_fd: u32,
        attach_type: u32,
        flags: u32,
        bpf_cookie: u64,
    }
    let attr = LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        target_fd: event.as_raw_fd() as u32,
        attach_type: bpf_attach_type::BPF_PERF_EVENT as u32,
        flags: 0,
        bpf_cookie: 0,
    };
    // SAFETY: the attribute is a live, sized structure of numbers.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_LINK_CREATE as libc::c_long, &raw const attr, size_of::<LinkCreate>())
    };
    if fd < 0 {
        return None;
    }
    // SAFETY: a descriptor that the call above made and nobody else knows.
    Some(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}
