//! A file is opened: is it a model, and who loads it?
//!
//! Best rungs: `file_open` (match-proto: security/security.c: int security_file_open(struct file *file)).
//! Restricted rung: `syscalls/sys_exit_open`, `_openat`, `_openat2`: the descriptor that the call returned, so the real
//! inode behind links; misses io_uring. The same for `_open_by_handle_at` and `_pidfd_getfd`.

use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use sensor_abi::counter::Counter;
use sensor_abi::identity::{ContentStamp, InodeKey, TaskKey};
use sensor_abi::mark::{Artifact, InodeInfo, class, role, suffix, verdict};
use sensor_abi::name::{LIBRARY_BYTES, is_library, suffix_len};
use sensor_abi::record::{EXE_BYTES_MAX, NO_FD, Open, PATH_BYTES_MAX, UNKNOWN_UID, kind, reason};

use super::access;
use crate::emit::{self, Area};
use crate::entry::security_hook;
use crate::field::{Address, config, field, number, read};
use crate::file::{self, Name, Place};
use crate::maps::{
    CANDIDATE_RATES, EXES, INODES, INODES_MALICIOUS, OWN_OPENS, RING_PRIORITY, Rate, SUFFIXES, count, lose,
};
use crate::mark::{self, Added};
use crate::{program, task};

security_hook! {
    fn file_open(file: Address) {
        opened(file, NO_FD)
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
    opened(file::of_descriptor(task::current(), fd)?, fd)
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
            file::place_of(file)?
        };
        Some(Self { task, key: task::key_of(task)?, place, fd, reason: (why >> 32) as u8, is_current })
    }
}

#[inline(always)]
fn opened(file: Address, fd: u32) -> Option<()> {
    let mode: u32 = field!(file, file_mode, u32)?;
    access::opened(file, mode);
    if mode & file::FMODE_READ == 0
        || mode & (file::FMODE_PATH | file::FMODE_CREATED | file::FMODE_NOACCOUNT) != 0
        || (mode & file::FMODE_WRITE != 0 && field!(file, file_flags, u32)? & file::O_TRUNC != 0)
    {
        return None;
    }
    if task::current_tgid() == config!(own_tgid) {
        count(Counter::CanaryOpen);
    }
    let dentry: Address = field!(file, file_path_dentry, Address)?;
    let inode: Address = field!(file, file_inode, Address)?;
    let reason = why(dentry, inode, task::current_tgid(), mode & file::FMODE_WRITE == 0)?;
    model_opened(file, task::current(), fd, reason, true);
    Some(())
}

/// Process `task` has what may be a model open, as descriptor `fd`: marks it, and tells userspace what it needs to know
/// about both. `is_current`: it is the one that runs, so its arguments can be read.
#[inline(always)]
pub fn model_opened(file: Address, task: Address, fd: u32, reason: u8, is_current: bool) {
    let why = u64::from(fd) | u64::from(reason) << 32 | u64::from(is_current) << 40;
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
    Opened::of(file, task, why).and_then(|opened| load(&opened)).map_or(0, News::pack)
}

/// [`announce`] of what [`sensor_load`] answered.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_announce(file: u64, task: u64, why: u64, news: u64) -> u64 {
    if let Some(opened) = Opened::of(file, task, why) {
        announce(&opened, &News::unpack(news));
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

/// Is this name, its place, or the inode a reason to look? The order is that of cost. What process `tgid` opens for
/// reading alone, and CPython runs there, is looked at whatever its name, if that isn't one of the harmless: they are what
/// CPython opens thousands of at every start, and a program that unpickles one was written to do it. The versions behind
/// a library's name make it no less one.
#[inline(always)]
pub fn why(dentry: Address, inode: Address, tgid: u32, reads_only: bool) -> Option<u8> {
    let name = file::name_of(dentry)?;
    let class = class_of_name(&name, tgid)?;
    let reason = if class == suffix::MODEL {
        reason::NAME
    } else if place_is_store(dentry, &name) {
        reason::PATH_SHAPE
    } else if let Some(reason) = known_inode(inode) {
        reason
    } else if class != suffix::HARMLESS && reads_only && program::is_python(tgid) {
        (may_be_model(inode) && sensor_is_library(number(name.text), name.len.into()) == 0)
            .then_some(reason::UNKNOWN_NAME)?
    } else {
        return None;
    };
    file::is_regular(inode).then_some(reason)
}

/// Of [`suffix`]; 0 where the name says nothing.
#[inline(always)]
fn class_of_name(name: &Name, tgid: u32) -> Option<u8> {
    let key = file::tail_key(name, 0)?;
    // SAFETY: plain bytes.
    match unsafe { SUFFIXES.get(key) } {
        Some(&suffix::STRIP) => {
            // `libpython3.11.so.1.0`: an interpreter inside another program.
            if program::is_python_name(name) {
                program::set_python(tgid);
            }
            let Some(key) = file::tail_key(name, suffix_len(key) as u32) else { return Some(0) };
            // SAFETY: plain bytes.
            Some(unsafe { SUFFIXES.get(key) }.copied().filter(|class| *class != suffix::STRIP).unwrap_or(0))
        }
        class => Some(class.copied().unwrap_or(0)),
    }
}

/// Smallest file that is looked at for its content alone, bytes.
const UNKNOWN_BYTES_MIN: u64 = 16;

/// File systems whose files are the kernel's words (include/uapi/linux/magic.h).
#[inline(always)]
fn is_pseudo(magic: u64) -> bool {
    matches!(
        magic,
        0x9FA0          // proc
        | 0x6265_6572   // sysfs
        | 0x0027_E0EB   // cgroup
        | 0x6367_7270   // cgroup2
        | 0x6462_6720   // debugfs
        | 0x7472_6163   // tracefs
        | 0x7363_6673   // securityfs
        | 0xCAFE_4A11   // bpf
        | 0xF97C_FF8C   // selinuxfs
        | 0xDE5E_81E4   // efivarfs
        | 0x6165_676C   // pstore
        | 0x6E73_6673 // nsfs
    )
}

/// [`is_library`] of the name at `text`. A function that the verifier checks once and not at each call: numbers in, a
/// number out.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_is_library(text: u64, len: u64) -> u64 {
    let start = len.saturating_sub(LIBRARY_BYTES as u64) as u32;
    // Names live in at least 32 inline bytes or a longer allocation.
    let Some(words) = read::<[u64; LIBRARY_BYTES / 8]>(text as Address, start) else { return 0 };
    u64::from(is_library(words, len as usize))
}

/// Could a file whose name says nothing be a model?
#[inline(always)]
fn may_be_model(inode: Address) -> bool {
    let Some(size) = field!(inode, inode_size, u64) else { return false };
    let magic = field!(inode, inode_sb, Address).and_then(|sb| field!(sb, sb_magic, u64));
    size >= UNKNOWN_BYTES_MIN && magic.is_some_and(|magic| !is_pseudo(magic))
}

/// Lengths of names in a store of blobs: hex of a git sha1, of a sha256, `sha256-` and hex.
const GIT_SHA1_LEN: u32 = 40;
const SHA256_LEN: u32 = 64;
const OLLAMA_LEN: u32 = 71;

/// Hub cache (`models--ORG--NAME/blobs/HASH`), Ollama (`blobs/sha256-HASH`) and OCI layout (`blobs/sha256/HASH`).
#[inline(always)]
fn place_is_store(dentry: Address, name: &Name) -> bool {
    if name.len != SHA256_LEN && name.len != GIT_SHA1_LEN && name.len != OLLAMA_LEN {
        return false;
    }
    let Some(parent) = field!(dentry, dentry_parent, Address) else { return false };
    let Some(parent_name) = file::name_of(parent) else { return false };
    if parent_name.len == 5 {
        return read::<[u8; 5]>(parent_name.text, 0) == Some(*b"blobs");
    }
    if parent_name.len != 6 || read::<[u8; 6]>(parent_name.text, 0) != Some(*b"sha256") {
        return false;
    }
    let Some(above) = field!(parent, dentry_parent, Address) else { return false };
    let Some(above_name) = file::name_of(above) else { return false };
    above_name.len == 5 && read::<[u8; 5]>(above_name.text, 0) == Some(*b"blobs")
}

#[inline(always)]
fn known_inode(inode: Address) -> Option<u8> {
    let key = file::key_of(inode)?;
    let info = lookup(&key)?;
    let is_model = info.class == class::CODE || info.class == class::DATA;
    (is_model || (info.named != 0 && info.class != class::NOT_MODEL)).then_some(reason::INODE)
}

#[inline(always)]
fn lookup(key: &InodeKey) -> Option<InodeInfo> {
    // SAFETY: plain bytes; a value that is replaced meanwhile is old or new, and both were true.
    unsafe { INODES_MALICIOUS.get(key).or_else(|| INODES.get(key)).copied() }
}

/// Marks the process.
#[inline(always)]
fn load(opened: &Opened) -> Option<News> {
    let inode = file::key_of(opened.place.inode)?;
    if opened.is_current && mark::current_is_own() {
        let _ = OWN_OPENS.insert(opened.key.tgid, inode, 0);
        return None;
    }
    let stamp = file::stamp_of(opened.place.inode)?;
    if stamp.size == 0 {
        return None;
    }
    let mut class = class::PENDING;
    let mut known = false;
    if let Some(info) = lookup(&inode) {
        if info.stamp == stamp {
            if info.class == class::NOT_MODEL {
                return None;
            }
            class = info.class;
            // What could not be read is tried again.
            known = info.class != class::UNKNOWN || info.verdict != verdict::NONE;
        }
    }
    let (exe_file, exe) = file::exe_of(opened.task)?;
    // SAFETY: plain bytes.
    let decided = unsafe { EXES.get(exe) }.copied().unwrap_or(role::UNDECIDED);
    let is_new = mark::find(&opened.key).is_none();
    if decided == role::READER || (is_new && program::is_carrier(exe_file)) {
        return None;
    }
    let named = opened.reason != reason::UNKNOWN_NAME;
    // Over its rate a cgroup's file is marked and not announced: what it does later still is. One that nothing but its
    // content could accuse waits for another open.
    let limited = !known && !allowed(inode, stamp, named, opened.is_current);
    if limited && !named {
        return None;
    }
    let now = task::now_ns();
    let artifact = Artifact {
        inode,
        stamp,
        opener: opened.key,
        opened_ns: now,
        first_ns: now,
        held_ns: now,
        tid: field!(opened.task, task_pid, u32)?,
        fd: opened.fd,
        named: u32::from(named),
        reserved: 0,
    };
    let added = mark::add(&opened.key, &exe, decided, &artifact);
    if limited || (added == Added::Again && known) {
        return None;
    }
    Some(News { class, decided, is_new })
}

#[inline(always)]
fn announce(opened: &Opened, news: &News) {
    if send(opened, news).is_none() {
        lose(Counter::ReadFailed);
    }
}

/// Of the candidates that a cgroup may cause, one in so many may have a name that says nothing.
const UNNAMED_SHARE: u64 = 4;
/// Sets the two kinds of candidates of one cgroup apart in `CANDIDATE_RATES`.
const UNNAMED: u64 = 1 << 63;

/// May this inode be sent as a candidate now? Remembers that it was. What is found at the start (not of the current
/// process) comes once, in one second, and is no cgroup's doing.
#[inline(always)]
fn allowed(inode: InodeKey, stamp: ContentStamp, named: bool, is_current: bool) -> bool {
    let limit = u64::from(config!(candidates_per_s));
    if limit != 0 && is_current {
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
                if (*rate).count > limit {
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
    if INODES.insert(inode, info, 0).is_err() {
        lose(Counter::InodesFull);
    }
    true
}

#[inline(always)]
fn send(opened: &Opened, news: &News) -> Option<()> {
    let (exe_file, exe) = file::exe_of(opened.task)?;
    let exe_inode: Address = field!(exe_file, file_inode, Address)?;
    let exe_dentry: Address = field!(exe_file, file_path_dentry, Address)?;
    let exe_dir: Address = field!(exe_dentry, dentry_parent, Address)?;
    let exe_dir_inode: Address = field!(exe_dir, dentry_inode, Address)?;
    let exe_sb: Address = field!(exe_inode, inode_sb, Address)?;
    // Mounted by itself over another name: its name and folder are not its own, and prove nothing.
    let exe_mount: Address = field!(exe_file, file_path_mnt, Address)?;
    let exe_is_bound = field!(exe_mount, vfsmount_root, Address)? == exe_dentry;
    let sb: Address = field!(opened.place.inode, inode_sb, Address)?;
    let mm: Address = field!(opened.task, task_mm, Address)?;
    let (inode, stamp) = (file::key_of(opened.place.inode)?, file::stamp_of(opened.place.inode)?);
    let area = Area::claim()?;
    let record: *mut Open = area.record();
    let bytes = area.bytes();
    // SAFETY: the area is larger than the record's fixed part.
    unsafe {
        task::write_header(&raw mut (*record).header, kind::OPEN, opened.task, opened.key);
        if !opened.is_current {
            // Those were read of the sensor itself.
            (*record).header.cgroup = 0;
            (*record).header.uid = UNKNOWN_UID;
        }
        (*record).inode = inode;
        (*record).stamp = stamp;
        (*record).exe = exe;
        (*record).exe_uid = field!(exe_inode, inode_uid, u32).unwrap_or(u32::MAX);
        (*record).exe_mode = match field!(exe_inode, inode_mode, u16) {
            Some(mode) if !exe_is_bound => u32::from(mode),
            _ => u32::MAX,
        };
        (*record).exe_fs_magic = field!(exe_sb, sb_magic, u64).unwrap_or(0);
        (*record).exe_dir_uid = field!(exe_dir_inode, inode_uid, u32).unwrap_or(u32::MAX);
        (*record).exe_dir_mode = field!(exe_dir_inode, inode_mode, u16).map_or(u32::MAX, u32::from);
        (*record).fd = opened.fd;
        (*record).reason = opened.reason;
        (*record).class = news.class;
        (*record).pad = 0;
        (*record).role = news.decided;
        task::write_ancestors(&raw mut (*record).ancestors, opened.task);
        (*record).fs_magic = field!(sb, sb_magic, u64).unwrap_or(0);
        (*record).writers = file::writers_of(opened.place.inode);
        (*record).reserved = 0;
    }
    let fixed = size_of::<Open>() as u64;
    let path = file::write_path_at(bytes, fixed, opened.place.dentry, opened.place.mnt, PATH_BYTES_MAX as u64);
    let path = emit::forget(path);
    let path_end = path & 0xffff;
    // Who a marked process is was said when it was marked, or when it was executed since.
    let exe_path = if news.is_new {
        emit::forget(file::write_path(bytes, path_end, exe_file, EXE_BYTES_MAX as u64))
    } else {
        path_end | file::TRUNCATED
    };
    let exe_end = exe_path & 0xffff;
    let argv =
        if news.is_new && opened.is_current { emit::write_argv(bytes, exe_end, mm) } else { exe_end | emit::CUT };
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
