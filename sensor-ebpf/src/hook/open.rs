//! A file is opened: is it a model, and who loads it?
//!
//! Best rungs: `file_open` (match-proto: security/security.c: int security_file_open(struct file *file)).
//! Restricted rung: `syscalls/sys_exit_open`, `_openat`, `_openat2`: the descriptor that the call returned, so the real
//! inode behind links; misses io_uring. The same for `_open_by_handle_at` and `_pidfd_getfd`.

use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use sensor_abi::counter::Counter;
use sensor_abi::identity::{ContentStamp, InodeKey, TaskKey};
use sensor_abi::mark::{InodeInfo, LoadSet, Mark, class, role, verdict};
use sensor_abi::record::{NO_FD, Open, PATH_BYTES_MAX, kind, reason};

use super::access;
use crate::emit::{self, Area};
use crate::entry::security_hook;
use crate::field::{Address, Checked, Direct, Reach, config, field, member, number};
use crate::file::{self, Place};
use crate::maps::{CANDIDATE_RATES, INODES, OWN_OPENS, RING_PRIORITY, Rate, count, lose};
use crate::mark::{self, Added};
use crate::{introduce, judge, program, task};

security_hook! {
    fn file_open(file: Address) {
        opened::<E::Reach>(file, NO_FD)
    }
}

/// `include/trace/events/syscalls.h`: the return value of `sys_exit`, behind the common fields and the call's number.
const SYS_EXIT_RET: usize = 16;

#[tracepoint]
pub fn sys_exit_open(ctx: TracePointContext) -> u32 {
    // SAFETY: the record of a `sys_exit` tracepoint is 24 bytes.
    if let Ok(fd) = unsafe { ctx.read_at::<i64>(SYS_EXIT_RET) } {
        if fd >= 0 {
            let _ = descriptor_opened(fd as u32);
        }
    }
    0
}

#[inline(always)]
fn descriptor_opened(fd: u32) -> Option<()> {
    opened::<Checked>(file::of_descriptor(task::current(), fd)?, fd)
}

/// What an open is about, once it is worth more than one look.
struct Opened {
    task: Address,
    key: TaskKey,
    place: Place,
    fd: u32,
    reason: u8,
    /// The arguments can be read: `task` is the current one.
    is_current: bool,
}

impl Opened {
    /// `why` as [`model_opened`] packs it.
    #[inline(always)]
    fn of(file: u64, task: u64, why: u64) -> Option<Self> {
        let (file, task) = (file as Address, task as Address);
        let (key, place) = (task::key_of::<Checked>(task)?, place_of(file, why)?);
        Some(Self { task, key, place, fd: why as u32, reason: (why >> 32) as u8, is_current: why >> 40 & 1 != 0 })
    }

    /// The current process, by a `file` and a task that the verifier knows.
    #[inline(always)]
    fn known(file: Address, why: u64) -> Option<Self> {
        let task = task::current_known();
        let (key, place) = (task::key_of::<Direct>(task)?, file::place_of::<Direct>(file)?);
        Some(Self { task, key, place, fd: why as u32, reason: (why >> 32) as u8, is_current: true })
    }
}

#[inline(always)]
fn opened<R: Reach>(file: Address, fd: u32) -> Option<()> {
    let mode: u32 = member!(R, file, file_mode, u32)?;
    let tgid = task::current_tgid();
    access::opened(file, mode, tgid);
    if mode & file::FMODE_READ == 0 || mode & (file::FMODE_PATH | file::FMODE_CREATED | file::FMODE_NOACCOUNT) != 0 {
        return None;
    }
    // O_TRUNC: nothing of what was there is read. What is executed is no load: an interpreter opens its script itself.
    if member!(R, file, file_flags, u32)? & (file::O_TRUNC | file::FMODE_EXEC) != 0 {
        return None;
    }
    if tgid == config!(own_tgid) {
        count(Counter::CanaryOpen);
    }
    let dentry: Address = member!(R, file, file_path_dentry, Address)?;
    let inode: Address = member!(R, file, file_inode, Address)?;
    let reason = judge::why::<R>(dentry, inode, tgid, mode & file::FMODE_WRITE == 0)?;
    if R::KNOWN && config!(has_known_task) != 0 {
        // Forgotten, so that the verifier goes on once, and not once for each reason.
        known_opened(file, emit::forget(packed(fd, reason, true)));
    } else {
        model_opened(file, task::current(), fd, reason, true);
    }
    Some(())
}

/// [`model_opened`] by the current process, where the verifier knows `file` and who that is.
#[inline(always)]
fn known_opened(file: Address, why: u64) {
    let drafted = sensor_carry(draft_known(file, why));
    if drafted != 0 {
        if drafted & drafted::FIRST != 0 {
            introduce::with_load(number(task::current()), true);
        }
        announce_known(file, drafted);
    }
}

#[inline(never)]
fn draft_known(file: Address, why: u64) -> u64 {
    Opened::known(file, why).and_then(|opened| draft::<Direct>(&opened)).unwrap_or(0)
}

#[inline(never)]
fn announce_known(file: Address, drafted: u64) {
    announce::<Direct>(file::place_of::<Direct>(file), drafted);
}

/// What the steps of [`model_opened`] are told in one number.
#[inline(always)]
fn packed(fd: u32, reason: u8, is_current: bool) -> u64 {
    u64::from(fd) | u64::from(reason) << 32 | u64::from(is_current) << 40
}

/// Process `task` has what may be a model open, as descriptor `fd`: marks it, and tells userspace what it needs to know
/// about both. `is_current`: it is the one that runs, so its arguments can be read.
///
/// In steps, each a function of its own, so that the stack of none is part of every open's, nor of another step's.
#[inline(always)]
pub fn model_opened(file: Address, task: Address, fd: u32, reason: u8, is_current: bool) {
    let why = packed(fd, reason, is_current);
    let (file, task) = (number(file), number(task));
    let drafted = sensor_carry(sensor_draft(file, task, why));
    if drafted != 0 {
        if drafted & drafted::FIRST != 0 {
            introduce::with_load(task, is_current);
        }
        sensor_announce(file, why, drafted);
    }
}

/// [`draft`], or 0 where there is nothing to do.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_draft(file: u64, task: u64, why: u64) -> u64 {
    Opened::of(file, task, why).and_then(|opened| draft::<Checked>(&opened)).unwrap_or(0)
}

/// [`carry`], and what is to be announced, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_carry(drafted: u64) -> u64 {
    if drafted == 0 { 0 } else { carry(drafted) }
}

/// [`announce`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_announce(file: u64, why: u64, drafted: u64) -> u64 {
    announce::<Checked>(place_of(file as Address, why), drafted);
    0
}

/// Of a file that is opened, or was found. What another process has, and no number of a descriptor, was found mapped.
#[inline(always)]
fn place_of(file: Address, why: u64) -> Option<Place> {
    if why as u32 == NO_FD && why >> 40 & 1 == 0 {
        return file::place_of_mapped(file, field!(file, file_mode, u32)?);
    }
    file::place_of::<Checked>(file)
}

/// What the steps hand on: the index of the scratch area that holds a [`Draft`], from bit 32 on, over these.
mod drafted {
    pub const ANY: u64 = 1;
    /// Nobody has to hear of it at once.
    pub const QUIET: u64 = 2;
    /// The scanner has nothing to learn from it.
    pub const KNOWN: u64 = 4;
    /// The cgroup had too many that it could.
    pub const LIMITED: u64 = 8;
    /// Who the process is hasn't been told, and has to be.
    pub const FIRST: u64 = 16;
}

/// Where an open is put together.
#[repr(C)]
struct Draft {
    /// Its path takes the place of the set, which is used by then.
    record: Open,
    /// What the process loads, as its first artifact; the whole set of one that carries nothing yet.
    set: LoadSet,
}

/// What is known of a file, over its class.
mod found {
    pub const KNOWN: u64 = 1 << 8;
    pub const CLEAN: u64 = 1 << 9;
}

#[inline(always)]
fn flag(flag: u64, is: bool) -> u64 {
    if is { flag } else { 0 }
}

/// The first step: is this open worth a mark, and what is there to say of it?
#[inline(always)]
fn draft<R: Reach>(opened: &Opened) -> Option<u64> {
    let inode = file::key_of::<R>(opened.place.inode)?;
    let mark = mark::find(&opened.key);
    if opened.is_current && mark::is_own(opened.key.tgid, mark) {
        let _ = OWN_OPENS.insert(opened.key.tgid, inode, 0);
        return None;
    }
    let stamp = file::stamp_of::<R>(opened.place.inode)?;
    if stamp.size == 0 {
        return None;
    }
    let mut found = u64::from(class::PENDING);
    if let Some(info) = judge::lookup(&inode) {
        if info.stamp == stamp {
            if info.class == class::NOT_MODEL {
                return None;
            }
            // What could not be read is tried again.
            let known = info.class != class::UNKNOWN || info.verdict != verdict::NONE;
            let clean = info.verdict == verdict::CLEAN;
            found = u64::from(info.class) | flag(found::KNOWN, known) | flag(found::CLEAN, clean);
        }
    }
    // Here and below, what was found out is forgotten: the verifier would follow each case to the end.
    let found = emit::forget(found);
    let (class, known, clean) = (found as u8, found & found::KNOWN != 0, found & found::CLEAN != 0);
    let (exe_file, exe) = file::exe_of::<R>(opened.task)?;
    let decided = emit::forget(program::role_of(&exe).into()) as u8;
    if decided == role::READER {
        return None;
    }
    // (What carries is never decided: userspace knows its names, too.)
    if mark.is_none() && decided == role::UNDECIDED && program::is_carrier::<R>(exe_file) {
        return None;
    }
    let named = emit::forget((opened.reason != reason::UNKNOWN_NAME).into()) != 0;
    // Over its rate a cgroup's file is marked and not announced: what it does later still is. One that nothing but its
    // content could accuse waits for another open.
    let limited = !known && !allowed(inode, stamp, named, opened);
    if limited && !named {
        return None;
    }
    let writers = file::writers_of::<R>(opened.place.inode);
    // Nothing is to be found out about it now.
    let is_quiet =
        clean && writers == 0 && opened.is_current && decided != role::UNDECIDED && config!(quiet_opens) != 0;
    let flags = flag(drafted::QUIET, is_quiet) | flag(drafted::KNOWN, known) | flag(drafted::LIMITED, limited);
    let flags = emit::forget(flags);
    let now = task::now_ns();
    // What others have is read of the sensor itself.
    let who = match opened.is_current {
        true => task::who_is_current_by::<R>(opened.task)?,
        false => task::NOBODY,
    };
    let sb: Address = member!(R, opened.place.inode, inode_sb, Address)?;
    let area = Area::claim()?;
    let draft: *mut Draft = area.record();
    // SAFETY: the area is larger than a draft.
    unsafe {
        let record = &raw mut (*draft).record;
        task::write_header_of::<R>(&raw mut (*record).header, kind::OPEN, opened.task, opened.key, who, now);
        (*record).inode = inode;
        (*record).stamp = stamp;
        (*record).exe = exe;
        (*record).fs_magic = member!(R, sb, sb_magic, u64).unwrap_or(0);
        (*record).fd = opened.fd;
        (*record).writers = writers;
        (*record).reason = opened.reason;
        (*record).class = class;
        (*record).role = decided;
        (*record).is_quiet = u8::from(flags & drafted::QUIET != 0);
        let artifact = &raw mut (*draft).set.artifacts[0];
        (*artifact).inode = inode;
        (*artifact).stamp = stamp;
        (*artifact).opener = opened.key;
        (*artifact).opened_ns = now;
        (*artifact).first_ns = now;
        (*artifact).held_ns = now;
        (*artifact).tid = (*record).header.tid;
        (*artifact).fd = opened.fd;
        (*artifact).named = u32::from(named);
        (*artifact).reserved = 0;
    }
    Some(u64::from(area.index()) << 32 | flags | drafted::ANY)
}

/// The second: marks the process. What is left to announce, or 0.
#[inline(always)]
fn carry(drafted: u64) -> u64 {
    let Some(area) = Area::claimed((drafted >> 32) as u32) else { return 0 };
    let draft: *mut Draft = area.record();
    // SAFETY: the area holds a draft; marks are live map values.
    let is_again = unsafe {
        let record = &raw const (*draft).record;
        let key = (*record).header.task;
        let mut new = Mark {
            start_boottime_ns: key.start_boottime_ns,
            set: 0,
            exe: (*record).exe,
            role: (*record).role,
            born: 0,
            untold: 1,
            pad: 0,
            reserved: 0,
            busy: 0,
        };
        mark::add(&key, mark::find(&key), &mut new, &raw mut (*draft).set) == Added::Again
    };
    if drafted & drafted::LIMITED != 0 || (is_again && drafted & drafted::KNOWN != 0) {
        area.release();
        return 0;
    }
    if drafted & drafted::QUIET != 0 {
        return drafted;
    }
    // It has a mark by now, unless there was no room for one.
    // SAFETY: as above.
    let is_told = unsafe {
        mark::find(&(*draft).record.header.task).is_some_and(|mark| core::mem::take(&mut (*mark).untold) == 0)
    };
    if is_told { drafted } else { drafted | drafted::FIRST }
}

/// Of the candidates that a cgroup may cause, one in so many may have a name that says nothing.
const UNNAMED_SHARE: u64 = 4;
/// Sets the two kinds of candidates of one cgroup apart in `CANDIDATE_RATES`.
const UNNAMED: u64 = 1 << 63;

/// May this inode be sent as a candidate now? Remembers that it was. What is found at the start (not of the current
/// process) comes once, in one second, and is no cgroup's doing. What makes a process a loader is sent at any rate: it
/// comes once a process, and processes have a price of their own.
#[inline(always)]
fn allowed(inode: InodeKey, stamp: ContentStamp, named: bool, opened: &Opened) -> bool {
    let limit = u64::from(config!(candidates_per_s));
    if limit != 0 && opened.is_current {
        let limit = if named { limit } else { limit.div_ceil(UNNAMED_SHARE) };
        let cgroup = task::current_cgroup() | if named { 0 } else { UNNAMED };
        let second = task::now_ns() / 1_000_000_000;
        match CANDIDATE_RATES.get_ptr_mut(cgroup) {
            // SAFETY: a live map value; a lost update costs or grants one candidate.
            Some(rate) => unsafe {
                if (*rate).second != second {
                    (*rate).second = second;
                    (*rate).count = 0;
                }
                (*rate).count += 1;
                if (*rate).count > limit && !(named && is_first(&opened.key)) {
                    if named {
                        lose(Counter::CandidateRate);
                    } else {
                        count(Counter::UnknownRate);
                    }
                    return false;
                }
            },
            None => {
                let _ = CANDIDATE_RATES.insert(cgroup, Rate { second, count: 1 }, 0);
            }
        }
    }
    let named = u8::from(named);
    let info = InodeInfo { stamp, class: class::PENDING, verdict: verdict::NONE, named, reserved: [0; 5] };
    judge::may_know(inode.ino);
    if INODES.insert(inode, info, 0).is_err() {
        lose(Counter::InodesFull);
    }
    true
}

/// Has the process nothing yet that is called like a model?
#[inline(always)]
fn is_first(key: &TaskKey) -> bool {
    // SAFETY: a live map value.
    mark::find(key).is_none_or(|mark| mark::sensor_names_model(unsafe { (*mark).set }) == 0)
}

/// The third: sends the record with its path.
#[inline(always)]
fn announce<R: Reach>(place: Option<Place>, drafted: u64) {
    let Some(area) = Area::claimed((drafted >> 32) as u32) else { return };
    let Some(place) = place else {
        area.release();
        return lose(Counter::ReadFailed);
    };
    let (bytes, fixed) = (area.bytes(), size_of::<Open>() as u64);
    let (below, folder) = file::write_short_names::<R>(bytes, fixed, place.dentry, place.mnt);
    let (folder, mount) = (area.untyped(folder), area.untyped(place.mnt));
    let path = emit::forget(file::write_path_at(bytes, below, folder, mount, fixed + PATH_BYTES_MAX as u64 - below));
    let end = path & 0xffff;
    let record: *mut Open = area.record();
    // SAFETY: the area is larger than the record's fixed part.
    unsafe {
        (*record).path_len = (end - fixed) as u16;
        (*record).truncated = (path >> 32 & 1) as u16;
    }
    if drafted & drafted::QUIET != 0 {
        area.send_quietly(&RING_PRIORITY, end);
    } else {
        area.send(&RING_PRIORITY, end);
    }
}
