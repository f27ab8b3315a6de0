//! The calls that have no safe wrapper, and the count of instructions.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Instructions that this machine has executed.
///
/// Under `-icount shift=0` the time-stamp counter is that number (QEMU: softmmu/icount.c).
#[cfg(target_arch = "x86_64")]
pub fn instructions() -> u64 {
    // SAFETY: reads a register that every x86-64 CPU has.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// As near as other machines come to it: nanoseconds of virtual time.
#[cfg(not(target_arch = "x86_64"))]
pub fn instructions() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A child's pid, or nothing in the child. This program has one thread, so the child may do whatever its parent may.
pub fn fork() -> io::Result<Option<rustix::process::Pid>> {
    // SAFETY: no thread but this one exists, so no lock is held that the child would wait for.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(rustix::process::Pid::from_raw(child)),
    }
}

/// Ends this process without anything that its parent left behind.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: takes a number.
    unsafe { libc::_exit(status) }
}

/// Becomes another program, without arguments and environment. Comes back only where that failed.
pub fn exec(program: &CStr) {
    let arguments = [program.as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null()];
    // SAFETY: both lists are ended by a null and outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
}

/// Maps a file's first bytes for reading, looks at none of them, and lets go.
pub fn map_and_unmap(file: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    // SAFETY: a fresh mapping, where the kernel likes; nobody reads it.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping from above, which nobody knows.
    unsafe { libc::munmap(at, len) };
    Ok(())
}

/// With `alone`, this process is never put aside for an ordinary one: what the sensor does in its own process is not
/// counted among what it adds to an operation, until this process sleeps. (Its children inherit it.)
pub fn run_alone(alone: bool) -> io::Result<()> {
    let (policy, priority) = if alone { (libc::SCHED_FIFO, 1) } else { (libc::SCHED_OTHER, 0) };
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: a live structure.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A loaded kernel program.
pub struct Program {
    pub id: u32,
    pub name: String,
    /// Counted while `kernel.bpf_stats_enabled` is 1.
    pub runs: u64,
    pub time_ns: u64,
}

/// Every loaded kernel program (bpf(2): BPF_PROG_GET_NEXT_ID, BPF_PROG_GET_FD_BY_ID, BPF_OBJ_GET_INFO_BY_FD).
pub fn programs() -> io::Result<Vec<Program>> {
    const PROG_GET_NEXT_ID: i32 = 11;
    const PROG_GET_FD_BY_ID: i32 = 13;
    const OBJ_GET_INFO_BY_FD: i32 = 15;
    // include/uapi/linux/bpf.h: struct bpf_prog_info.
    const NAME: std::ops::Range<usize> = 64..80;
    const RUN_TIME_NS: usize = 192;
    const RUN_CNT: usize = 200;
    let mut all = Vec::new();
    let mut id = 0u32;
    loop {
        let mut next = [id, 0, 0];
        if bpf(PROG_GET_NEXT_ID, &mut next).is_err() {
            return Ok(all);
        }
        id = next[1];
        let Ok(fd) = bpf(PROG_GET_FD_BY_ID, &mut [id, 0, 0]) else { continue };
        // SAFETY: a descriptor that the call has just made, which nobody else knows.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut info = [0u8; 256];
        let at = info.as_mut_ptr() as u64;
        bpf(OBJ_GET_INFO_BY_FD, &mut [fd.as_raw_fd() as u32, info.len() as u32, at as u32, (at >> 32) as u32])?;
        let number =
            |at: usize| info.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |it| u64::from_le_bytes(*it));
        let name = info.get(NAME).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        all.push(Program { id, name, runs: number(RUN_CNT), time_ns: number(RUN_TIME_NS) });
    }
}

fn bpf<const N: usize>(command: i32, attributes: &mut [u32; N]) -> io::Result<i32> {
    // SAFETY: a live structure of that size; what it points to is live, too, and as long as it says.
    match unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) } {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer as i32),
    }
}
