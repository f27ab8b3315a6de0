//! A file is opened: is it a model, and who loads it?
//!
//! Best rungs: `file_open` (match-proto: security/security.c: int security_file_open(struct file *file)).
//! Restricted rung: `syscalls/sys_exit_open`, `_openat`, `_openat2`: the descriptor that the call returned, so the real
//! inode behind links; misses io_uring. The same for `_open_by_handle_at` and `_pidfd_getfd`.

use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use sensor_abi::counter::Counter;
use sensor_abi::identity::{ContentStamp, InodeKey, TaskKey};
use sensor_abi::mark::{Artifact, InodeInfo, class, inode_slot, role, verdict};
use sensor_abi::record::{EXE_BYTES_MAX, NO_FD, Open, PATH_BYTES_MAX, UNKNOWN_UID, kind, reason};

use super::access;
use crate::emit::{self, Area};
use crate::entry::security_hook;
use crate::field::{Address, Checked, Direct, Reach, config, field, member, number};
use crate::file::{self, Place};
use crate::maps::{CANDIDATE_RATES, EXES, INODE_SLOTS, INODES, OWN_OPENS, RING_PRIORITY, Rate, count, lose};
use crate::mark::{self, Added};
use crate::{judge, program, task};

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
        let (fd, is_current) = (why as u32, why >> 40 & 1 != 0);
        // What another process has, and no number of a descriptor, was found mapped.
        let place = if fd == NO_FD && !is_current {
            file::place_of_mapped(file, field!(file, file_mode, u32)?)?
        } else {
            file::place_of::<Checked>(file)?
        };
        Some(Self { task, key: task::key_of::<Checked>(task)?, place, fd, reason: (why >> 32) as u8, is_current })
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
    let news = load_known(file, why);
    if news != 0 {
        announce_known(file, why, news);
    }
}

#[inline(never)]
fn load_known(file: Address, why: u64) -> u64 {
    Opened::known(file, why).and_then(|opened| load::<Direct>(&opened)).map_or(0, News::pack)
}

#[inline(never)]
fn announce_known(file: Address, why: u64, news: u64) {
    if let Some(opened) = Opened::known(file, why) {
        announce::<Direct>(&opened, &News::unpack(news));
    }
}

/// What the halves of [`model_opened`] are told in one number.
#[inline(always)]
fn packed(fd: u32, reason: u8, is_current: bool) -> u64 {
    u64::from(fd) | u64::from(reason) << 32 | u64::from(is_current) << 40
}

/// Process `task` has what may be a model open, as descriptor `fd`: marks it, and tells userspace what it needs to know
/// about both. `is_current`: it is the one that runs, so its arguments can be read.
#[inline(always)]
pub fn model_opened(file: Address, task: Address, fd: u32, reason: u8, is_current: bool) {
    let why = packed(fd, reason, is_current);
    let (file, task) = (number(file), number(task));
    let news = sensor_load(file, task, why);
    if news != 0 {
        sensor_announce(file, task, why, news);
    }
}

/// [`load`], and what is to be announced, or 0. A function of its own, as [`sensor_announce`] is, so that the stack of
/// neither is part of every open's, nor of the other's.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_load(file: u64, task: u64, why: u64) -> u64 {
    Opened::of(file, task, why).and_then(|opened| load::<Checked>(&opened)).map_or(0, News::pack)
}

/// [`announce`] of what [`sensor_load`] answered.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_announce(file: u64, task: u64, why: u64, news: u64) -> u64 {
    if let Some(opened) = Opened::of(file, task, why) {
        announce::<Checked>(&opened, &News::unpack(news));
    }
    0
}

/// What userspace has to hear of an open.
struct News {
    /// [`class`] of the content, as far as it is known.
    class: u8,
    /// [`role`] of the executable.
    decided: u8,
    /// The process was not marked before.
    is_new: bool,
}

impl News {
    #[inline(always)]
    fn pack(self) -> u64 {
        u64::from(self.class) | u64::from(self.decided) << 8 | u64::from(self.is_new) << 16 | 1 << 32
    }

    #[inline(always)]
    fn unpack(packed: u64) -> Self {
        Self { class: packed as u8, decided: (packed >> 8) as u8, is_new: packed >> 16 & 1 != 0 }
    }
}

/// Marks the process.
#[inline(always)]
fn load<R: Reach>(opened: &Opened) -> Option<News> {
    let inode = file::key_of::<R>(opened.place.inode)?;
    if opened.is_current && mark::current_is_own() {
        let _ = OWN_OPENS.insert(opened.key.tgid, inode, 0);
        return None;
    }
    let stamp = file::stamp_of::<R>(opened.place.inode)?;
    if stamp.size == 0 {
        return None;
    }
    let mut class = class::PENDING;
    let mut known = false;
    if let Some(info) = judge::lookup(&inode) {
        if info.stamp == stamp {
            if info.class == class::NOT_MODEL {
                return None;
            }
            class = info.class;
            // What could not be read is tried again.
            known = info.class != class::UNKNOWN || info.verdict != verdict::NONE;
        }
    }
    let (exe_file, exe) = file::exe_of::<R>(opened.task)?;
    // SAFETY: plain bytes.
    let decided = unsafe { EXES.get(exe) }.copied().unwrap_or(role::UNDECIDED);
    let is_new = mark::find(&opened.key).is_none();
    if decided == role::READER || (is_new && program::is_carrier::<R>(exe_file)) {
        return None;
    }
    let named = opened.reason != reason::UNKNOWN_NAME;
    // Over its rate a cgroup's file is marked and not announced: what it does later still is. One that nothing but its
    // content could accuse waits for another open.
    let limited = !known && !allowed(inode, stamp, named, opened);
    if limited && !named {
        return None;
    }
    let tid = member!(R, opened.task, task_pid, u32)?;
    let now = task::now_ns();
    // Not on the stack: a program and what it calls have 512 bytes of it in all.
    let area = Area::claim()?;
    let artifact: *mut Artifact = area.record();
    // SAFETY: the area is larger than an artifact.
    let artifact = unsafe {
        artifact.write(Artifact {
            inode,
            stamp,
            opener: opened.key,
            opened_ns: now,
            first_ns: now,
            held_ns: now,
            tid,
            fd: opened.fd,
            named: u32::from(named),
            reserved: 0,
        });
        &*artifact
    };
    let added = mark::add(&opened.key, &exe, decided, artifact);
    area.release();
    if limited || (added == Added::Again && known) {
        return None;
    }
    Some(News { class, decided, is_new })
}

#[inline(always)]
fn announce<R: Reach>(opened: &Opened, news: &News) {
    if send::<R>(opened, news).is_none() {
        lose(Counter::ReadFailed);
    }
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
    if let Some(slot) = INODE_SLOTS.get_ptr_mut(inode_slot(inode.ino)) {
        // SAFETY: a live map value, of which there is nothing else to say.
        unsafe { *slot = 1 };
    }
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

#[inline(always)]
fn send<R: Reach>(opened: &Opened, news: &News) -> Option<()> {
    let (exe_file, exe) = file::exe_of::<R>(opened.task)?;
    let exe_inode: Address = member!(R, exe_file, file_inode, Address)?;
    let exe_dentry: Address = member!(R, exe_file, file_path_dentry, Address)?;
    let exe_dir: Address = member!(R, exe_dentry, dentry_parent, Address)?;
    let exe_dir_inode: Address = member!(R, exe_dir, dentry_inode, Address)?;
    let exe_sb: Address = member!(R, exe_inode, inode_sb, Address)?;
    if exe_dir_inode.is_null() {
        return None;
    }
    // Mounted by itself over another name: its name and folder are not its own, and prove nothing.
    let exe_mount: Address = member!(R, exe_file, file_path_mnt, Address)?;
    let exe_is_bound = member!(R, exe_mount, vfsmount_root, Address)? == exe_dentry;
    let sb: Address = member!(R, opened.place.inode, inode_sb, Address)?;
    let mm: Address = member!(R, opened.task, task_mm, Address)?;
    let (inode, stamp) = (file::key_of::<R>(opened.place.inode)?, file::stamp_of::<R>(opened.place.inode)?);
    let area = Area::claim()?;
    let record: *mut Open = area.record();
    let bytes = area.bytes();
    let (dentry, mnt) = (area.untyped(opened.place.dentry), area.untyped(opened.place.mnt));
    let (exe_dentry, exe_mount) = (area.untyped(exe_dentry), area.untyped(exe_mount));
    // SAFETY: the area is larger than the record's fixed part.
    unsafe {
        task::write_header::<R>(&raw mut (*record).header, kind::OPEN, opened.task, opened.key);
        if !opened.is_current {
            // Those were read of the sensor itself.
            (*record).header.cgroup = 0;
            (*record).header.uid = UNKNOWN_UID;
        }
        (*record).inode = inode;
        (*record).stamp = stamp;
        (*record).exe = exe;
        (*record).exe_uid = member!(R, exe_inode, inode_uid, u32).unwrap_or(u32::MAX);
        (*record).exe_mode = match member!(R, exe_inode, inode_mode, u16) {
            Some(mode) if !exe_is_bound => u32::from(mode),
            _ => u32::MAX,
        };
        (*record).exe_fs_magic = member!(R, exe_sb, sb_magic, u64).unwrap_or(0);
        (*record).exe_dir_uid = member!(R, exe_dir_inode, inode_uid, u32).unwrap_or(u32::MAX);
        (*record).exe_dir_mode = member!(R, exe_dir_inode, inode_mode, u16).map_or(u32::MAX, u32::from);
        (*record).fd = opened.fd;
        (*record).reason = opened.reason;
        (*record).class = news.class;
        (*record).pad = 0;
        (*record).role = news.decided;
        task::write_ancestors::<R>(&raw mut (*record).ancestors, opened.task);
        (*record).fs_magic = member!(R, sb, sb_magic, u64).unwrap_or(0);
        (*record).writers = file::writers_of::<R>(opened.place.inode);
        (*record).reserved = 0;
    }
    let fixed = size_of::<Open>() as u64;
    let path = file::write_path_at(bytes, fixed, dentry, mnt, PATH_BYTES_MAX as u64);
    let path = emit::forget(path);
    let path_end = path & 0xffff;
    // Who a marked process is was said when it was marked, or when it was executed since.
    let exe_path = if news.is_new {
        emit::forget(file::write_path_at(bytes, path_end, exe_dentry, exe_mount, EXE_BYTES_MAX as u64))
    } else {
        path_end | file::TRUNCATED
    };
    let exe_end = exe_path & 0xffff;
    let argv =
        if news.is_new && opened.is_current { emit::write_argv::<R>(bytes, exe_end, mm) } else { exe_end | emit::CUT };
    let end = argv & 0xffff;
    // SAFETY: as above.
    unsafe {
        (*record).path_len = (path_end - fixed) as u16;
        (*record).exe_len = (exe_end - path_end) as u16;
        (*record).argv_len = (end - exe_end) as u16;
        (*record).truncated = (path >> 32 & 1) as u16 | (exe_path >> 32 & 1) as u16 * 2 | (argv >> 32 & 1) as u16 * 4;
    }
    area.send(&RING_PRIORITY, end);
    Some(())
}
