//! A thread ends; with the last one of its group the mark goes.
//!
//! `tp_btf/sched_process_exit` (match-proto: include/trace/events/sched.h: TP_PROTO(struct task_struct *p)): fires per
//! thread, after `signal->live` was counted down (kernel/exit.c: do_exit), so a leader that leaves while its threads go
//! on launders nothing.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use sensor_abi::counter::Counter;
use sensor_abi::mark::role;
use sensor_abi::record::{Header, kind};

use crate::emit::Area;
use crate::field::{Address, Checked, config, field};
use crate::maps::{RING_PRIORITY, THREADS, count, needed};
use crate::{mark, program, slot, task};

#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(_ctx: BtfTracePointContext) -> i32 {
    let _ = exited();
    0
}

#[inline(always)]
fn exited() -> Option<()> {
    let tgid = task::current_tgid();
    if !slot::is_taken(tgid) {
        return None;
    }
    let signal: Address = needed(field!(task::current(), task_signal, Address))?;
    let is_last = needed(field!(signal, signal_live, i32))? <= 0;
    if is_last {
        program::unset_python(tgid);
    }
    let (mark, current, key) = mark::find_current()?;
    let _ = THREADS.remove(task::current_tid());
    if !is_last {
        return None;
    }
    // SAFETY: a live map value; read before it is removed.
    let (set, role, owner) = unsafe { ((*mark).set, (*mark).role, (*mark).exe.ino) };
    if role == role::OWN && owner != u64::from(config!(own_tgid)) {
        // A child of another sensor, which is about to replace this one or is replaced by it.
        return None;
    }
    // Threads that end at once may all see that none is left: the one that removes the mark frees what it names.
    if !mark::remove(key.tgid) {
        return None;
    }
    if role == role::OWN {
        count(Counter::CanaryExit);
        return None;
    }
    mark::unref(set);
    let area = Area::claim()?;
    // SAFETY: the area is larger than the record.
    unsafe { task::write_header::<Checked>(area.record::<Header>(), kind::EXIT, current, key) };
    area.send(&RING_PRIORITY, size_of::<Header>() as u64);
    Some(())
}
