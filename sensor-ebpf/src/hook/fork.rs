//! A process is made: it inherits its creator's mark.
//!
//! `tp_btf/sched_process_fork` (match-proto: include/trace/events/sched.h: TP_PROTO(struct task_struct *parent,
//! struct task_struct *child)). Runs in the creator; threads share their group's mark, and it is remembered which of them
//! were made inside a load.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{btf_tracepoint, kprobe};
use aya_ebpf::programs::{BtfTracePointContext, ProbeContext};
use sensor_abi::act::{call, namespace};
use sensor_abi::counter::Counter;
use sensor_abi::identity::{InodeKey, TaskKey};
use sensor_abi::mark::{Mark, role};
use sensor_abi::record::{Fork, kind};

use crate::act::{self, Path};
use crate::emit::{Area, atomic_add, forget};
use crate::entry::{Entry as _, Registers};
use crate::field::{Address, Checked, Direct, Reach, config, field, member, offset, read};
use crate::maps::{BPF_NOEXIST, LOAD_SETS, RING_PRIORITY, count, lose, needed};
use crate::{introduce, mark, program, task, window};

#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    let child: *const u8 = ctx.arg(1);
    let _ = forked::<Direct>(child);
    0
}

/// The same once more, where the kernel preempts its own code (match-proto: kernel/sched/core.c: void
/// wake_up_new_task(struct task_struct *p)): a program on a typed tracepoint that was preempted is left out of every other
/// fork on that CPU until it goes on, so that a loader could let forks of its own hide another. A kprobe isn't preempted.
#[kprobe]
pub fn wake_up_new_task(ctx: ProbeContext) -> u32 {
    let child = Registers::argument(ctx.as_ptr().cast(), 0) as Address;
    let _ = forked_unseen(child);
    0
}

#[inline(always)]
fn forked_unseen(child: Address) -> Option<()> {
    if task::current_tgid() == config!(own_tgid) {
        return None;
    }
    let tgid = field!(child, task_tgid, u32)?;
    let start_ns = field!(child, task_start_boottime, u64)?;
    // A thread began later than its process: whether that is known from before isn't asked.
    // SAFETY: a live map value.
    let is_marked = mark::of(tgid).is_some_and(|mark| unsafe { (*mark).start_boottime_ns } == start_ns);
    if is_marked { None } else { forked::<Checked>(child) }
}

#[inline(always)]
fn forked<R: Reach>(child: Address) -> Option<()> {
    let tgid = task::current_tgid();
    if tgid == config!(own_tgid) {
        count(Counter::CanaryFork);
        return own_child(child);
    }
    let child_tgid = member!(R, child, task_tgid, u32)?;
    if child_tgid != tgid && program::is_python(tgid) {
        program::set_python(child_tgid);
    }
    let (parent, creator, creator_key) = mark::find_current()?;
    // SAFETY: `parent` is a live map value.
    match unsafe { mark::role_of(parent) } {
        role::READER => return None,
        role::OWN => return own_child(child),
        _ => {}
    }
    // SAFETY: as above.
    let set = unsafe { (*parent).set };
    // Nothing that it opened is a model, as the path files of every Python: a child has nothing to inherit.
    if mark::sensor_counts(set) == 0 {
        return None;
    }
    if child_tgid == tgid {
        return window::threaded(child, window::held(creator, set, creator_key.start_boottime_ns));
    }
    // Its child runs what it runs.
    // SAFETY: `parent` is a live map value, and `creator` the current task.
    unsafe { introduce::first(parent, creator) };
    let child_key = needed(task::key_of::<Checked>(child))?;
    // A thread of the creator may be changing its set: the child's share is counted before anybody can free it.
    // SAFETY: as above.
    let mut inherited: Mark = unsafe {
        if !mark::lock(parent) {
            return None;
        }
        let copy = *parent;
        let set = LOAD_SETS.get_ptr_mut(copy.set);
        if let Some(set) = set {
            mark::reference(set);
        }
        mark::unlock(parent);
        set?;
        copy
    };
    inherited.busy = 0;
    inherited.start_boottime_ns = child_key.start_boottime_ns;
    inherited.born |= window::held(creator, inherited.set, creator_key.start_boottime_ns) as u8;
    if !inherit(&child_key, &inherited) {
        return None;
    }
    let area = Area::claim()?;
    let record: *mut Fork = area.record();
    // SAFETY: the area is larger than the record.
    unsafe {
        task::write_header::<Checked>(&raw mut (*record).header, kind::FORK, creator, creator_key);
        (*record).child = child_key;
    }
    area.send(&RING_PRIORITY, size_of::<Fork>() as u64);
    let namespaces = own_namespaces(creator, child)?;
    act::tell(call::CLONE, child_key.tgid, namespaces, Path::NOWHERE);
    Some(())
}

/// The namespaces that `child` has for itself; `None` where it has none.
#[inline(always)]
fn own_namespaces(creator: Address, child: Address) -> Option<u64> {
    let cred = |task: Address| field!(task, task_cred, Address);
    let user = |task: Address| field!(cred(task)?, cred_user_ns, u64);
    let mut own = 0;
    // Bits are added where the verifier doesn't keep count of them: it would tell 256 cases apart.
    // SAFETY: a live number on the stack, eight-byte aligned.
    let mut add = |bit: u64| unsafe { atomic_add(&raw mut own, bit as i64) };
    if user(creator)? != user(child)? {
        add(namespace::USER);
    }
    let (old, new) = (field!(creator, task_nsproxy, Address)?, field!(child, task_nsproxy, Address)?);
    if old != new {
        let members = [
            (offset!(nsproxy_uts), namespace::UTS),
            (offset!(nsproxy_ipc), namespace::IPC),
            (offset!(nsproxy_mnt), namespace::MNT),
            (offset!(nsproxy_pid), namespace::PID),
            (offset!(nsproxy_net), namespace::NET),
            (offset!(nsproxy_time), namespace::TIME),
            (offset!(nsproxy_cgroup), namespace::CGROUP),
        ];
        for (offset, bit) in members {
            if read::<u64>(old, offset)? != read::<u64>(new, offset)? {
                add(bit);
            }
        }
    }
    let own = forget(own);
    (own != 0).then_some(own)
}

/// Gives the process `key` the mark that it inherits, whose share of the set is counted already. False where there is
/// no room: counted.
#[inline(always)]
fn inherit(key: &TaskKey, inherited: &Mark) -> bool {
    if mark::put(key.tgid, inherited, BPF_NOEXIST) {
        return true;
    }
    // Marked by the sensor that this one is about to replace; or the mark of an earlier process with this pid, whose exit
    // was missed; or no room.
    let stale = match mark::of(key.tgid) {
        // SAFETY: a live map value.
        Some(known) => unsafe {
            if (*known).start_boottime_ns == key.start_boottime_ns {
                mark::unref(inherited.set);
                return true;
            }
            (*known).set
        },
        None => 0,
    };
    if !mark::put(key.tgid, inherited, 0) {
        lose(Counter::TasksFull);
        mark::unref(inherited.set);
        return false;
    }
    if stale != 0 {
        mark::unref(stale);
    }
    true
}

/// The sensor's children are the sensor.
#[inline(always)]
fn own_child(child: Address) -> Option<()> {
    let key = task::key_of::<Checked>(child)?;
    if key.tgid == task::current_tgid() {
        return None;
    }
    let own = Mark {
        start_boottime_ns: key.start_boottime_ns,
        set: 0,
        exe: InodeKey { ino: u64::from(config!(own_tgid)), dev: 0, generation: 0 },
        role: role::OWN,
        born: 0,
        untold: 0,
        pad: 0,
        reserved: 0,
        busy: 0,
    };
    if !mark::put(key.tgid, &own, 0) {
        lose(Counter::TasksFull);
    }
    Some(())
}
