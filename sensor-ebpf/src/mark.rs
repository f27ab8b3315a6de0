//! Marks and load sets: set at a load, inherited at fork, freed with the last thread.

use core::ffi::{c_long, c_void};

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use sensor_abi::counter::Counter;
use sensor_abi::identity::TaskKey;
use sensor_abi::mark::{Artifact, InodeInfo, LOAD_SET_ARTIFACTS_MAX, LoadSet, Mark, class, role, verdict};

use crate::emit::{Area, atomic_add, forget};
use crate::field::{Address, Checked, config};
use crate::maps::{BPF_NOEXIST, EXES, INODES, LOAD_SETS, NEXT_SET, TASKS, lose, needed};
use crate::repeat::{self, repeat};
use crate::task::now_ns;
use crate::{file, slot, task};

pub const ARTIFACT_MASK: usize = LOAD_SET_ARTIFACTS_MAX - 1;
const _: () = assert!(LOAD_SET_ARTIFACTS_MAX.is_power_of_two());

/// The mark under process id `tgid`, whichever start time it has.
#[inline(always)]
pub fn of(tgid: u32) -> Option<*mut Mark> {
    if slot::is_taken(tgid) { TASKS.get_ptr_mut(tgid) } else { None }
}

/// Puts a mark under process id `tgid`; `flags` as `bpf_map_update_elem` has them. False where that was refused.
#[inline(always)]
pub fn put(tgid: u32, mark: &Mark, flags: u64) -> bool {
    slot::insert(tgid, || TASKS.insert(tgid, mark, flags).is_ok())
}

/// Removes the mark under process id `tgid`. False where there was none.
#[inline(always)]
pub fn remove(tgid: u32) -> bool {
    slot::remove(tgid, || TASKS.remove(tgid).is_ok())
}

/// The mark of the process `key`, not of an earlier one with its pid.
#[inline(always)]
pub fn find(key: &TaskKey) -> Option<*mut Mark> {
    let mark = of(key.tgid)?;
    // SAFETY: a live map value.
    (unsafe { (*mark).start_boottime_ns } == key.start_boottime_ns).then_some(mark)
}

/// The mark of the current process, whichever start time it has: one look-up, for hooks where almost nobody is marked.
#[inline(always)]
pub fn find_current() -> Option<(*mut Mark, Address, TaskKey)> {
    let mark = of(task::current_tgid())?;
    let current = task::current();
    let key = needed(task::key_of::<Checked>(current))?;
    // SAFETY: a live map value.
    (unsafe { (*mark).start_boottime_ns } == key.start_boottime_ns).then_some((mark, current, key))
}

/// Is the current process the sensor or one of its children?
#[inline(always)]
pub fn current_is_own() -> bool {
    let tgid = task::current_tgid();
    is_own(tgid, of(tgid))
}

/// Is process `tgid`, which has this mark, the sensor or one of its children?
#[inline(always)]
pub fn is_own(tgid: u32, mark: Option<*mut Mark>) -> bool {
    // SAFETY: a live map value. A stale entry can't say `OWN` for a stranger: it is removed at the exit, and those of a
    // sensor that was killed name that one.
    let is_child =
        |mark: *mut Mark| unsafe { (*mark).role == role::OWN && (*mark).exe.ino == u64::from(config!(own_tgid)) };
    tgid == config!(own_tgid) || mark.is_some_and(is_child)
}

/// The role of a mark; an undecided one is looked up again.
///
/// # Safety
/// `mark` is a live map value.
#[inline(always)]
pub unsafe fn role_of(mark: *mut Mark) -> u8 {
    // SAFETY: the caller's promise; `EXES` holds plain bytes.
    unsafe {
        if (*mark).role == role::UNDECIDED {
            if let Some(decided) = EXES.get((*mark).exe) {
                (*mark).role = *decided;
            }
        }
        (*mark).role
    }
}

/// Is any artifact of the set a model, or not known to be none? Asked at each act, so that a mark that a name alone set
/// ends with the look at the content.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_counts(id: u64) -> u64 {
    let Some(set) = LOAD_SETS.get_ptr_mut(id) else { return 0 };
    for i in 0..LOAD_SET_ARTIFACTS_MAX {
        // SAFETY: a live map value; the index is below the length.
        let (artifact, len) = unsafe { (&(*set).artifacts[i & ARTIFACT_MASK], (*set).count) };
        if i as u32 >= len {
            break;
        }
        if known(artifact).is_none_or(|info| info.class != class::NOT_MODEL) {
            return 1;
        }
    }
    0
}

/// Is there an artifact in the set that nobody has read yet, and is it inode `ino` of device `dev`? Number 0 is any.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_has_unread(id: u64, ino: u64, dev: u64) -> u64 {
    let Some(set) = LOAD_SETS.get_ptr_mut(id) else { return 0 };
    for i in 0..LOAD_SET_ARTIFACTS_MAX {
        // SAFETY: a live map value; the index is below the length.
        let (artifact, len) = unsafe { (&(*set).artifacts[i & ARTIFACT_MASK], (*set).count) };
        if i as u32 >= len {
            break;
        }
        if ino != 0 && (artifact.inode.ino != ino || u64::from(artifact.inode.dev) != dev) {
            continue;
        }
        let is_read = |info: &InodeInfo| {
            info.class == class::NOT_MODEL || (info.class != class::PENDING && info.verdict != verdict::NONE)
        };
        if !known(artifact).is_some_and(is_read) {
            return 1;
        }
    }
    0
}

/// Does any artifact of the set have the name or the place of a model?
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_names_model(id: u64) -> u64 {
    let Some(set) = LOAD_SETS.get_ptr_mut(id) else { return 0 };
    for i in 0..LOAD_SET_ARTIFACTS_MAX {
        // SAFETY: a live map value; the index is below the length.
        let (named, len) = unsafe { ((*set).artifacts[i & ARTIFACT_MASK].named, (*set).count) };
        if i as u32 >= len {
            break;
        }
        if named != 0 {
            return 1;
        }
    }
    0
}

/// What [`add`] did.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The process carries this artifact now and did not before.
    New,
    /// It did already: only the times were refreshed.
    Again,
    /// No room: counted.
    Failed,
}

/// Puts the first artifact of `fresh` into the load set of the process `key`, and marks it if it has no `mark`: with `new`,
/// and with `fresh` as its set.
///
/// A set that other processes share is copied first: what a parent opens after a fork is not its child's load.
///
/// # Safety
/// `fresh` points to a set in a scratch area that the caller has.
#[inline(always)]
pub unsafe fn add(key: &TaskKey, mark: Option<*mut Mark>, new: &mut Mark, fresh: *mut LoadSet) -> Added {
    // SAFETY: the caller's promise; marks are live map values.
    unsafe {
        let mark = match mark {
            Some(mark) => mark,
            None => match set(key, new, fresh) {
                Ok(()) => return Added::New,
                Err(mark) if mark.is_null() => return Added::Failed,
                Err(mark) => mark,
            },
        };
        if !lock(mark) {
            return Added::Failed;
        }
        let added = add_locked(key, mark, &(*fresh).artifacts[0]);
        unlock(mark);
        added
    }
}

/// Marks the process `key` with `new`, and with a set that holds the first artifact of `fresh` alone. An error is the mark
/// that another thread was quicker to set, or null where there is no room for one.
///
/// # Safety
/// `fresh` points to a set.
#[inline(always)]
unsafe fn set(key: &TaskKey, new: &mut Mark, fresh: *mut LoadSet) -> Result<(), *mut Mark> {
    // SAFETY: the caller's promise; what stands behind its first artifact is never looked at.
    let id = unsafe {
        (*fresh).count = 1;
        (*fresh).omitted = 0;
        let now = (*fresh).artifacts[0].opened_ns;
        insert_set(fresh, key, now).ok_or(core::ptr::null_mut())?
    };
    new.set = id;
    if put(key.tgid, new, BPF_NOEXIST) {
        return Ok(());
    }
    let quicker = find(key).unwrap_or(core::ptr::null_mut());
    // Full, or the mark of an earlier process with this pid, whose exit was missed.
    if quicker.is_null() && put(key.tgid, new, 0) {
        return Ok(());
    }
    unref(id);
    if quicker.is_null() {
        lose(Counter::TasksFull);
    }
    Err(quicker)
}

/// Puts a set that was put together in a scratch area into its map, and gives its id. `now`: the clock.
///
/// # Safety
/// `fresh` points to a set.
#[inline(always)]
unsafe fn insert_set(fresh: *mut LoadSet, key: &TaskKey, now: u64) -> Option<u64> {
    // SAFETY: the caller's promise.
    let inserted = unsafe {
        (*fresh).owner = *key;
        (*fresh).refs = 1;
        next_id(now).filter(|id| LOAD_SETS.insert(*id, &*fresh, BPF_NOEXIST).is_ok())
    };
    if inserted.is_none() {
        lose(Counter::LoadSetsFull);
    }
    inserted
}

/// Tries to take a mark: each is a handful of instructions, and a holder needs a few hundred.
const LOCK_TRIES_MAX: u32 = 8_192;
/// The same where the loop has to be unrolled.
const LOCK_TRIES_UNROLLED_MAX: u32 = 4;

/// What [`lock`] works on.
#[repr(C)]
struct Lock {
    mark: *mut Mark,
    taken: u64,
}

/// Takes the right to change which set a mark names, and what is in it. Given up where somebody else has it for too
/// long: counted.
///
/// # Safety
/// `mark` is a live map value.
#[inline(always)]
pub unsafe fn lock(mark: *mut Mark) -> bool {
    let mut lock = Lock { mark, taken: 0 };
    // SAFETY: the step takes a `Lock`.
    unsafe { repeat::<_, LOCK_TRIES_UNROLLED_MAX>(LOCK_TRIES_MAX, &mut lock, lock_step) };
    if lock.taken == 0 {
        lose(Counter::Contended);
    }
    lock.taken != 0
}

unsafe extern "C" fn lock_step(_: u32, lock: *mut c_void) -> c_long {
    // SAFETY: `repeat` hands over what `lock` gave it; the mark is a live map value, its word eight-byte aligned.
    unsafe {
        let lock = &mut *lock.cast::<Lock>();
        // Add first, look then: of two that meet here at most one reads its own 1.
        atomic_add(&raw mut (*lock.mark).busy, 1);
        if core::ptr::read_volatile(&raw const (*lock.mark).busy) == 1 {
            lock.taken = 1;
            return repeat::STOP;
        }
        atomic_add(&raw mut (*lock.mark).busy, -1);
    }
    repeat::GO_ON
}

/// # Safety
/// `mark` is a live map value that the caller took.
#[inline(always)]
pub unsafe fn unlock(mark: *mut Mark) {
    // SAFETY: the caller's promise.
    unsafe { atomic_add(&raw mut (*mark).busy, -1) };
}

/// # Safety
/// `mark` is a live map value that the caller took.
#[inline(always)]
unsafe fn add_locked(key: &TaskKey, mark: *mut Mark, artifact: &Artifact) -> Added {
    // SAFETY: the caller's promise; a set that one mark names is that mark's alone.
    unsafe {
        let own = LOAD_SETS.get_ptr_mut((*mark).set).is_some_and(|set| (*set).refs == 1);
        if !own && !give_own_set(mark, key) {
            return Added::Failed;
        }
        match LOAD_SETS.get_ptr_mut((*mark).set) {
            Some(set) => put_into(set, mark, artifact),
            None => Added::Failed,
        }
    }
}

/// Gives a mark a set that nobody shares: a copy of the one it has, or an empty one.
///
/// # Safety
/// `mark` is a live map value that the caller took.
#[inline(always)]
unsafe fn give_own_set(mark: *mut Mark, key: &TaskKey) -> bool {
    let Some(area) = Area::claim() else { return false };
    let fresh: *mut LoadSet = area.record();
    // SAFETY: the area is larger than a set; the source is a live map value, read through a checked copy.
    let inserted = unsafe {
        let mut copied = false;
        if let Some(set) = LOAD_SETS.get_ptr_mut((*mark).set) {
            copied = bpf_probe_read_kernel(fresh.cast(), size_of::<LoadSet>() as u32, set.cast()) == 0;
        }
        if !copied {
            (*fresh).count = 0;
            (*fresh).omitted = 0;
        }
        insert_set(fresh, key, now_ns())
    };
    area.release();
    let Some(id) = inserted else { return false };
    // SAFETY: the caller's promise.
    let old = unsafe { core::mem::replace(&mut (*mark).set, id) };
    if old != 0 {
        unref(old);
    }
    true
}

/// What [`put_into`] looks for in a set.
#[repr(C)]
struct Search<'a> {
    set: *mut LoadSet,
    artifact: &'a Artifact,
    /// The slot that holds it already, or [`NO_SLOT`].
    same: u64,
    /// A slot whose file is no model, or [`NO_SLOT`].
    no_model: u64,
    /// A slot that nobody has looked at, and whose name says nothing, or [`NO_SLOT`].
    unnamed: u64,
    /// A slot, but the first, whose file was found clean, or [`NO_SLOT`].
    clean: u64,
}

const NO_SLOT: u64 = u64::MAX;

unsafe extern "C" fn search_step(i: u32, search: *mut c_void) -> c_long {
    // SAFETY: `repeat` hands over what `put_into` gave it; the set is a live map value, the index masked to the length.
    unsafe {
        let search = &mut *search.cast::<Search<'_>>();
        let slot = i as usize & ARTIFACT_MASK;
        let at = &(*search.set).artifacts[slot];
        if at.inode.ino == search.artifact.inode.ino
            && at.inode.dev == search.artifact.inode.dev
            && at.inode.generation == search.artifact.inode.generation
            && file::is_same_content(&at.stamp, &search.artifact.stamp)
        {
            search.same = slot as u64;
            return repeat::STOP;
        }
        match known(at) {
            Some(info) if info.class == class::NOT_MODEL => search.no_model = slot as u64,
            Some(info) if info.class != class::PENDING => {
                if info.verdict == verdict::CLEAN && i != 0 {
                    search.clean = slot as u64;
                }
            }
            _ if at.named == 0 => search.unnamed = slot as u64,
            _ => {}
        }
    }
    repeat::GO_ON
}

/// A full set gives the next artifact the slot of one that is no model; else of one that only its content could show to be
/// one, and that nobody has looked at; else of one, but the first, that was found clean; else the last, so that what came
/// first can't be pushed out before its verdict is there. What has no name of a model pushes nothing out.
///
/// # Safety
/// `set` and `mark` are live map values that the caller took.
#[inline(always)]
unsafe fn put_into(set: *mut LoadSet, mark: *mut Mark, artifact: &Artifact) -> Added {
    let mut search = Search { set, artifact, same: NO_SLOT, no_model: NO_SLOT, unnamed: NO_SLOT, clean: NO_SLOT };
    // SAFETY: the caller's promise; the step takes a `Search`; indices are masked to the length.
    unsafe {
        let len = (*set).count.min(LOAD_SET_ARTIFACTS_MAX as u32);
        repeat::<_, { LOAD_SET_ARTIFACTS_MAX as u32 }>(len, &mut search, search_step);
        let (same, no_model) = (forget(search.same), forget(search.no_model));
        let (unnamed, clean) = (forget(search.unnamed), forget(search.clean));
        if same != NO_SLOT {
            let at = &mut (*set).artifacts[same as usize & ARTIFACT_MASK];
            let again = at.opener.start_boottime_ns == artifact.opener.start_boottime_ns;
            let (first_ns, named) = (at.first_ns, at.named);
            *at = *artifact;
            at.named |= named;
            if again {
                at.first_ns = first_ns;
                return Added::Again;
            }
            return Added::New;
        }
        let slot = if (len as usize) < LOAD_SET_ARTIFACTS_MAX {
            (*set).count = len + 1;
            len as u64
        } else if no_model != NO_SLOT {
            no_model
        } else {
            (*set).omitted += 1;
            if unnamed != NO_SLOT {
                unnamed
            } else if artifact.named == 0 {
                return Added::Failed;
            } else if clean != NO_SLOT {
                clean
            } else {
                LOAD_SET_ARTIFACTS_MAX as u64 - 1
            }
        };
        let slot = forget(slot) as usize & ARTIFACT_MASK;
        (*mark).born &= !(1u8 << slot);
        (*set).artifacts[slot] = *artifact;
        Added::New
    }
}

/// What is known of an artifact's content, not of an earlier or later one of that file.
#[inline(always)]
fn known(artifact: &Artifact) -> Option<&'static InodeInfo> {
    // SAFETY: plain bytes.
    let info = unsafe { INODES.get(artifact.inode) }?;
    file::is_same_content(&info.stamp, &artifact.stamp).then_some(info)
}

#[inline(always)]
fn next_id(now: u64) -> Option<u64> {
    let next = NEXT_SET.get_ptr_mut(0)?;
    // SAFETY: a live per-CPU map value. A program that preempts between the two lines could be given the same number;
    // the clock in the low bits tells them apart.
    let number = unsafe {
        *next += 1;
        *next
    };
    // SAFETY: no arguments, no memory.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    Some((number << 32) ^ (u64::from(cpu) << 20) ^ (now & 0xf_ffff) ^ (1 << 63))
}

/// One mark more names the set.
#[inline(always)]
pub fn reference(set: *mut LoadSet) {
    // SAFETY: a live map value, eight-byte aligned.
    unsafe { atomic_add((&raw mut (*set).refs).cast(), 1) };
}

/// One mark less does; the last one frees it.
#[inline(always)]
pub fn unref(id: u64) {
    if let Some(set) = LOAD_SETS.get_ptr_mut(id) {
        // SAFETY: a live map value, eight-byte aligned. Two that leave at once may both see zero: removing is idempotent,
        // and nobody can join a set that no living process names.
        let left = unsafe {
            atomic_add((&raw mut (*set).refs).cast(), -1);
            core::ptr::read_volatile(&raw const (*set).refs)
        };
        if left <= 0 {
            let _ = LOAD_SETS.remove(id);
        }
    }
}
