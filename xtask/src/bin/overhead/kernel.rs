//! The calls that have no safe wrapper, and the count of instructions.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

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
