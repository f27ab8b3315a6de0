//! The load window: does the acting thread act inside a load?
//!
//! A window is open while the opener still holds the descriptor, for the thread that opened it and for threads that were
//! made inside it, at most `load_window_ns` after the open.

use core::ffi::{c_long, c_void};

use sensor_abi::counter::Counter;
use sensor_abi::identity::InodeKey;
use sensor_abi::mark::{BornThread, LOAD_SET_ARTIFACTS_MAX, LoadSet};

use crate::descriptors::{self, Step};
use crate::emit::{atomic_add, forget};
use crate::field::{Address, Checked, config, field, read};
use crate::file::FMODE_READ;
use crate::maps::{LOAD_SETS, THREADS, count, lose};
use crate::mark::ARTIFACT_MASK;
use crate::repeat::{self, repeat};
use crate::task::now_ns;

/// Open descriptors, and words of the table's bitmap, that a walk looks at.
const STEPS_MAX: u32 = 4_096;
/// The same where the loop has to be unrolled: what the oldest verifiers afford.
const STEPS_UNROLLED_MAX: u32 = 64;

/// A thread of a marked process was made by a thread that is inside the windows `held`.
#[inline(always)]
pub fn threaded(thread: Address, held: u64) -> Option<()> {
    let born = held & 0xff;
    if born == 0 {
        return None;
    }
    let entry = BornThread { start_boottime_ns: field!(thread, task_start_boottime, u64)?, born };
    if THREADS.insert(field!(thread, task_pid, u32)?, entry, 0).is_err() {
        lose(Counter::ThreadsFull);
    }
    Some(())
}

/// In which windows thread `tid` was made (bit i).
#[inline(always)]
fn born_of(tid: u32, start_ns: u64) -> u64 {
    // SAFETY: plain bytes.
    match unsafe { THREADS.get(tid) } {
        Some(thread) if thread.start_boottime_ns == start_ns => thread.born,
        _ => 0,
    }
}

/// Which artifacts of load set `id` the acting thread of `task` is inside the load window of (bit i), with [`CUT`] where
/// a walk met its limit before it knew.
#[inline(always)]
pub fn held(task: Address, id: u64, group_start_ns: u64) -> u64 {
    let Some(thread_start_ns) = field!(task, task_start_boottime, u64) else { return 0 };
    let Some(files) = field!(task, task_files, Address) else { return 0 };
    if files.is_null() {
        return 0;
    }
    let Some(fdt) = field!(files, files_fdt, Address) else { return 0 };
    sensor_held(id, fdt as u64, u64::from(field!(task, task_pid, u32).unwrap_or(0)), thread_start_ns, group_start_ns)
}

/// [`held`], as a function that the verifier checks once and not at each call: numbers in, a number out.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_held(id: u64, fdt: u64, tid: u64, thread_start_ns: u64, group_start_ns: u64) -> u64 {
    let hints = sensor_held_hints(id, fdt, tid, thread_start_ns, group_start_ns);
    let wanted = forget(hints >> 8);
    if wanted == 0 {
        return hints;
    }
    // Descriptors that were moved, or whose index was never known.
    let walked = sensor_walk(id, fdt, wanted);
    if walked & CUT != 0 {
        count(Counter::WalkCut);
    }
    (hints & 0xff) | walked
}

/// Artifacts whose descriptor is where it was last (bit i), and from bit 8 on the others that could be held.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_held_hints(id: u64, fdt: u64, tid: u64, thread_start_ns: u64, group_start_ns: u64) -> u64 {
    let Some(set) = LOAD_SETS.get_ptr_mut(id) else { return 0 };
    let now = now_ns();
    let thread_born = born_of(tid as u32, thread_start_ns);
    // Bits are added where the verifier doesn't keep count of them: it would tell 6,561 cases apart.
    let mut held = 0u64;
    let mut wanted = 0u64;
    for i in 0..LOAD_SET_ARTIFACTS_MAX {
        // SAFETY: a live map value; the index is below the length.
        let (artifact, len) = unsafe { (&mut (*set).artifacts[i & ARTIFACT_MASK], (*set).count) };
        if i as u32 >= len {
            break;
        }
        let made_inside = thread_born >> i & 1 != 0 && thread_start_ns >= artifact.first_ns;
        let inside = u64::from(artifact.tid) == tid || made_inside;
        if !inside
            || artifact.opener.start_boottime_ns != group_start_ns
            || now.wrapping_sub(artifact.opened_ns) > config!(load_window_ns)
        {
            continue;
        }
        if sensor_holds(fdt, u64::from(artifact.fd), artifact.inode.ino, u64::from(artifact.inode.dev)) == 1 {
            artifact.held_ns = now;
            // SAFETY: a live number on the stack, eight-byte aligned.
            unsafe { atomic_add(&raw mut held, 1 << i) };
        } else {
            // SAFETY: as above.
            unsafe { atomic_add(&raw mut wanted, 1 << i) };
        }
    }
    forget(held) | forget(wanted) << 8
}

/// 1 where descriptor `fd` is open on inode number `ino` of device `dev`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_holds(fdt: u64, fd: u64, ino: u64, dev: u64) -> u64 {
    let fdt = fdt as Address;
    let Some(descriptors) = field!(fdt, fdt_fd, Address) else { return 0 };
    let Some(len) = field!(fdt, fdt_max_fds, u32) else { return 0 };
    if fd >= u64::from(len) {
        return 0;
    }
    let open = read::<Address>(descriptors, fd as u32 * 8).and_then(open_inode);
    u64::from(open.is_some_and(|key| key.ino == ino && u64::from(key.dev) == dev))
}

/// Which artifacts of `wanted` (bit i) some descriptor is open on, with [`CUT`] where not all were looked at.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_walk(id: u64, fdt: u64, wanted: u64) -> u64 {
    let Some(open) = descriptors::Walk::of::<Checked>(fdt as Address) else { return 0 };
    let Some(set) = LOAD_SETS.get_ptr_mut(id) else { return 0 };
    let mut walk = Walk { open, set, wanted, held: 0 };
    // Older kernels check the step once, with what the walk begins with (`hook/inherit.rs`).
    walk.open.forget();
    // SAFETY: the step takes a `Walk`.
    unsafe { repeat::<_, STEPS_UNROLLED_MAX>(STEPS_MAX, &mut walk, walk_step) };
    let held = forget(walk.held);
    (held & 0xff) | if held == wanted || walk.open.is_through() { 0 } else { CUT }
}

/// What [`sensor_walk`] works on.
#[repr(C)]
struct Walk {
    open: descriptors::Walk,
    set: *mut LoadSet,
    wanted: u64,
    held: u64,
}

/// One word of the bitmap, or one descriptor.
unsafe extern "C" fn walk_step(_: u32, walk: *mut c_void) -> c_long {
    // SAFETY: `repeat` hands over what `sensor_walk` gave it, on the stack of the caller; the set is a live map value.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    if config!(has_loop) == 0 {
        walk.open.forget();
    }
    let fd = match walk.open.step() {
        Step::Word => return repeat::GO_ON,
        Step::Descriptor(fd) => fd,
        Step::End => return repeat::STOP,
    };
    let Some(key) = walk.open.file(fd).and_then(open_inode) else { return repeat::GO_ON };
    for i in 0..LOAD_SET_ARTIFACTS_MAX {
        // SAFETY: as above; the index is below the length.
        let artifact = unsafe { &mut (*walk.set).artifacts[i & ARTIFACT_MASK] };
        if walk.wanted >> i & 1 != 0 && artifact.inode.ino == key.ino && artifact.inode.dev == key.dev {
            artifact.fd = fd;
            artifact.held_ns = now_ns();
            // SAFETY: live numbers on the caller's stack, eight-byte aligned. A bit that is found is wanted no more.
            unsafe {
                atomic_add(&raw mut walk.held, 1 << i);
                atomic_add(&raw mut walk.wanted, -(1 << i));
            }
        }
    }
    if walk.wanted == 0 { repeat::STOP } else { repeat::GO_ON }
}

/// [`held`]: the walk met its limit.
pub const CUT: u64 = 1 << 8;

/// The inode that `file` is open on, to be read: who writes over what it loaded doesn't load it any more. Numbers are small
/// on many file systems, so the device belongs to it.
#[inline(always)]
fn open_inode(file: Address) -> Option<InodeKey> {
    if file.is_null() || field!(file, file_mode, u32)? & FMODE_READ == 0 {
        return None;
    }
    let inode = field!(file, file_inode, Address)?;
    let sb = field!(inode, inode_sb, Address)?;
    Some(InodeKey { ino: field!(inode, inode_ino, u64)?, dev: field!(sb, sb_dev, u32)?, generation: 0 })
}
