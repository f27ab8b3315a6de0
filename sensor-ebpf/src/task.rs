//! Who is acting: identity of a task, and the header that every record begins with.

use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_uid_gid,
    bpf_ktime_get_boot_ns, generated::bpf_get_current_task_btf,
};
use sensor_abi::ABI_VERSION;
use sensor_abi::identity::TaskKey;
use sensor_abi::record::{ANCESTORS_MAX, Header, UNKNOWN_MS, UNKNOWN_UID};

use crate::field::{Address, Reach, field, member};

#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: no arguments, no memory.
    unsafe { bpf_ktime_get_boot_ns() }
}

#[inline(always)]
pub fn current() -> Address {
    // SAFETY: no arguments; the address is only ever read through checked reads.
    unsafe { bpf_get_current_task() as Address }
}

/// The same, known to the verifier. Only where `config!(has_known_task)` says that the kernel has it (5.11).
#[inline(always)]
pub fn current_known() -> Address {
    // SAFETY: no arguments; a task that runs is there.
    unsafe { bpf_get_current_task_btf().cast_const().cast() }
}

#[inline(always)]
pub fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
pub fn current_tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

#[inline(always)]
pub fn current_cgroup() -> u64 {
    // SAFETY: no arguments, no memory.
    unsafe { bpf_get_current_cgroup_id() }
}

/// The process (thread group) that `task` belongs to.
#[inline(always)]
pub fn key_of<R: Reach>(task: Address) -> Option<TaskKey> {
    let leader: Address = member!(R, task, task_group_leader, Address)?;
    Some(TaskKey {
        start_boottime_ns: member!(R, leader, task_start_boottime, u64)?,
        tgid: member!(R, task, task_tgid, u32)?,
        reserved: 0,
    })
}

/// The process that `task`'s real parent belongs to.
#[inline(always)]
pub fn parent_of<R: Reach>(task: Address) -> Option<TaskKey> {
    let parent: Address = member!(R, task, task_real_parent, Address)?;
    key_of::<R>(parent)
}

/// Writes the header of a record about `task`.
///
/// # Safety
/// `header` points to writable memory of its size.
#[inline(always)]
pub unsafe fn write_header<R: Reach>(header: *mut Header, kind: u16, task: Address, key: TaskKey) {
    // SAFETY: the caller's promise.
    unsafe { write_header_of::<R>(header, kind, task, key, who_is_current(), now_ns()) };
}

/// What a header says of a process beside its identity.
#[derive(Clone, Copy)]
pub struct Who {
    pub uid: u32,
    pub cgroup: u64,
}

/// Somebody of whom that can't be asked.
pub const NOBODY: Who = Who { uid: UNKNOWN_UID, cgroup: 0 };

/// The same of the current process.
#[inline(always)]
pub fn who_is_current() -> Who {
    Who { uid: bpf_get_current_uid_gid() as u32, cgroup: current_cgroup() }
}

/// The same, where the verifier knows `task`, the current one: cheaper than to ask for its user.
#[inline(always)]
pub fn who_is_current_by<R: Reach>(task: Address) -> Option<Who> {
    if !R::KNOWN {
        return Some(who_is_current());
    }
    let cred: Address = member!(R, task, task_cred, Address)?;
    Some(Who { uid: member!(R, cred, cred_uid, u32)?, cgroup: current_cgroup() })
}

/// [`Who`] `task` is, from its own memory: for programs that aren't given the helpers.
#[inline(always)]
pub fn who(task: Address) -> Who {
    let uid = field!(task, task_cred, Address).and_then(|cred| field!(cred, cred_uid, u32));
    let cgroup = field!(task, task_cgroups, Address)
        .and_then(|set| field!(set, css_set_cgroup, Address))
        .and_then(|cgroup| field!(cgroup, cgroup_kn, Address))
        .and_then(|node| field!(node, kernfs_id, u64));
    Who { uid: uid.unwrap_or(UNKNOWN_UID), cgroup: cgroup.unwrap_or(0) }
}

/// [`write_header`], by somebody who knows `who` that is, and what time it is.
///
/// # Safety
/// `header` points to writable memory of its size.
#[inline(always)]
pub unsafe fn write_header_of<R: Reach>(
    header: *mut Header,
    kind: u16,
    task: Address,
    key: TaskKey,
    who: Who,
    time_ns: u64,
) {
    let parent = parent_of::<R>(task).unwrap_or_default();
    // SAFETY: the caller's promise.
    unsafe {
        (*header).abi = ABI_VERSION;
        (*header).kind = kind;
        (*header).tid = member!(R, task, task_pid, u32).unwrap_or(0);
        (*header).time_ns = time_ns;
        (*header).task = key;
        (*header).parent = parent;
        (*header).cgroup = who.cgroup;
        (*header).uid = who.uid;
        (*header).reserved = 0;
        // As words: a plain load has no other sizes.
        let comm = member!(R, task, task_comm, [u64; 2]).unwrap_or([0; 2]);
        (*header).comm = core::mem::transmute::<[u64; 2], [u8; 16]>(comm);
    }
}

/// When thread `task` of the process `key` was made, as [`Load::thread_ms`](sensor_abi::record::Load).
#[inline(always)]
pub fn thread_ms(task: Address, key: TaskKey) -> u32 {
    let Some(start_ns) = field!(task, task_start_boottime, u64) else { return UNKNOWN_MS };
    (start_ns.wrapping_sub(key.start_boottime_ns) / 1_000_000 + 1).min(u64::from(UNKNOWN_MS)) as u32
}

/// Writes the nearest ancestors of `task`, nearest first; unused entries are zero.
///
/// # Safety
/// `ancestors` points to writable memory of its size.
#[inline(always)]
pub unsafe fn write_ancestors<R: Reach>(ancestors: *mut [TaskKey; ANCESTORS_MAX], task: Address) {
    let mut at = Some(task);
    for i in 0..ANCESTORS_MAX {
        let parent = at.and_then(|at| member!(R, at, task_real_parent, Address));
        let key = parent.and_then(key_of::<R>).filter(|key| key.tgid != 0);
        at = key.and(parent);
        // One by one, and volatile: zeroes that are written as a whole are a call, and that writes them byte by byte.
        // SAFETY: the caller's promise; `i` is below the length.
        unsafe { core::ptr::write_volatile(&raw mut (*ancestors)[i], key.unwrap_or_default()) };
    }
}
