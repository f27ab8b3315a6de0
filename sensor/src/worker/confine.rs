//! How a child locks itself in before it touches a hostile byte. Nothing here can be undone by it.
//!
//! | | open | scan | process |
//! |---|---|---|---|
//! | capabilities | ptrace, read any file, map_files | none | ptrace, read any file |
//! | Landlock | impossible (see [`super`]) | no rule at all: no file, no network, no signal | impossible |
//! | seccomp | read-only opens; else EPERM | no opens; else the process is killed | read-only opens; else EPERM |
//!
//! The scanner runs an interpreter for bytes that an attacker chose: a system call off its list means that it was
//! taken over, so the kernel ends it there. The other two run no such thing; there an unexpected call is more likely a
//! libc that does things its own way, and an error leaves one file unread where a kill would blind the sensor.

#![allow(unsafe_code, reason = "close_range(2) has no safe wrapper")]

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use rustix::time::{ClockId, clock_gettime};

use super::spawn::Role;
use super::syscalls;
use super::wire::{Confinement, Landlock};

/// Address space of the scanner, bytes: its own limits keep it far below, this is the net.
const SCAN_ADDRESS_SPACE_BYTES_MAX: u64 = 1 << 30;
/// Address space of the other two, bytes.
const READ_ADDRESS_SPACE_BYTES_MAX: u64 = 512 << 20;
/// Descriptors of the scanner: three sockets' worth, the file, and one to spare.
const SCAN_DESCRIPTORS_MAX: u64 = 8;
const READ_DESCRIPTORS_MAX: u64 = 64;

/// Which layers to put on; the daemon always asks for all, `worker check` takes one off to prove the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    pub landlock: bool,
    pub seccomp: bool,
}

impl Layers {
    pub const ALL: Self = Self { landlock: true, seccomp: true };
}

/// Locks the calling process in. It must have one thread and no descriptor that it wants to keep beyond 2.
///
/// What the kernel doesn't know is left out and said; an error is something that should have worked.
pub fn confine(role: Role, layers: Layers) -> io::Result<Confinement> {
    close_the_rest()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Fails only where it leads a group already.
    let _ = rustix::process::setsid();
    rustix::thread::set_name(role.comm())?;
    rustix::thread::set_no_new_privs(true)?;
    // Where memory runs out, a child goes and not the daemon; raising one's own score takes no privilege.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    limit(role)?;
    // The first look at a clock asks for the auxiliary vector, to find the vDSO; no list allows that.
    let _ = clock_gettime(ClockId::ProcessCPUTime);
    let capabilities = drop_capabilities(role)?;
    let landlock = match role {
        Role::Scan if layers.landlock => restrict().map_err(io::Error::other)?,
        Role::Scan => Landlock::Absent,
        Role::Open | Role::Process => Landlock::NotForThisRole,
    };
    let seccomp = layers.seccomp && syscalls::apply(role)?;
    Ok(Confinement { landlock, seccomp, capabilities })
}

/// Descriptors that whoever started the daemon left open and inheritable are none of a child's business.
fn close_the_rest() -> io::Result<()> {
    // SAFETY: takes numbers only; nothing in this process has opened a descriptor beyond 2 yet.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    let error = io::Error::last_os_error();
    // Linux 5.9; the daemon's own descriptors are all close-on-exec.
    if result == 0 || error.raw_os_error() == Some(libc::ENOSYS) { Ok(()) } else { Err(error) }
}

fn limit(role: Role) -> io::Result<()> {
    let (memory, descriptors) = match role {
        Role::Scan => (SCAN_ADDRESS_SPACE_BYTES_MAX, SCAN_DESCRIPTORS_MAX),
        Role::Open | Role::Process => (READ_ADDRESS_SPACE_BYTES_MAX, READ_DESCRIPTORS_MAX),
    };
    for (resource, value) in [
        (Resource::As, memory),
        (Resource::Nofile, descriptors),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Nproc, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?;
    }
    Ok(())
}

/// Reduces all three sets to what the role needs and the daemon has. `false`: the kernel refused.
fn drop_capabilities(role: Role) -> io::Result<bool> {
    let needed = match role {
        Role::Scan => CapabilitySet::empty(),
        Role::Process => CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH,
        // The links of /proc/PID/map_files want the last one (Linux 5.9).
        Role::Open => CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH | CapabilitySet::CHECKPOINT_RESTORE,
    };
    let kept = rustix::thread::capabilities(None)?.permitted & needed;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    // Only matters for a program that is executed, and none can be: kernels before 4.3 don't know the set.
    let _ = rustix::thread::clear_ambient_capability_set();
    let now = rustix::thread::capabilities(None)?;
    Ok(now.permitted == kept && now.effective == kept)
}

/// A Landlock domain that handles everything and allows nothing.
fn restrict() -> Result<Landlock, RulesetError> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Full,
        RulesetStatus::PartiallyEnforced => Landlock::Partial,
        RulesetStatus::NotEnforced => Landlock::Absent,
    })
}
