//! Who is neither marked nor a CPython: almost every process, so that this is asked before any table.
//!
//! `TASK_SLOTS` counts the entries of `TASKS` and `PYTHONS` by some bits of their process ids. It may count one too many,
//! which costs a look-up; never one too few.

use sensor_abi::mark::task_slot;

use crate::emit::atomic_add;
use crate::maps::TASK_SLOTS;

/// Can one of the tables know process `tgid`?
#[inline(always)]
pub fn is_taken(tgid: u32) -> bool {
    // SAFETY: a live map value; volatile, because other CPUs count.
    TASK_SLOTS.get_ptr(task_slot(tgid)).is_some_and(|entries| unsafe { core::ptr::read_volatile(entries) } != 0)
}

/// Inserts an entry for `tgid` by `insert`, which says whether it did. Counted before it is there. An entry that replaces
/// one is counted twice, and taken off once.
#[inline(always)]
pub fn insert(tgid: u32, insert: impl FnOnce() -> bool) -> bool {
    let Some(entries) = TASK_SLOTS.get_ptr_mut(task_slot(tgid)) else { return false };
    // SAFETY: a live map value, eight-byte aligned.
    unsafe { atomic_add(entries, 1) };
    let done = insert();
    if !done {
        // SAFETY: as above.
        unsafe { atomic_add(entries, -1) };
    }
    done
}

/// Removes the entry for `tgid` by `remove`, which says whether there was one: of several that try, one succeeds.
#[inline(always)]
pub fn remove(tgid: u32, remove: impl FnOnce() -> bool) -> bool {
    let done = remove();
    if done {
        if let Some(entries) = TASK_SLOTS.get_ptr_mut(task_slot(tgid)) {
            // SAFETY: a live map value, eight-byte aligned.
            unsafe { atomic_add(entries, -1) };
        }
    }
    done
}
