//! Who a process is that carries a load: its program, its arguments, and those above it.
//!
//! Told once, before the first that needs it. Of a load that somebody has to look at, that is the load. Of one that is known
//! to be clean it is what the process does next, if that is worth a record: most of them go on as they are.

use sensor_abi::counter::Counter;
use sensor_abi::mark::Mark;
use sensor_abi::record::{EXE_BYTES_MAX, Who, kind};

use crate::emit::{self, Area};
use crate::field::{Address, Checked, field};
use crate::maps::{RING_PRIORITY, lose};
use crate::{file, mark, program, task};

/// Introduces the current process, if nobody did, before it is told what it does.
///
/// # Safety
/// `mark` is a live map value: the mark of `task`, which is current.
#[inline(always)]
pub unsafe fn first(mark: *mut Mark, task: Address) {
    // SAFETY: the caller's promise. Of two threads that meet here one tells; an act of the other may be heard before.
    unsafe {
        if (*mark).untold != 0 {
            (*mark).untold = 0;
            if !introduce(task as u64, CURRENT | LATE) {
                (*mark).untold = 1;
            }
        }
    }
}

/// [`first`] of whoever is current, for those who tell by a function of their own: with its stack below it an introduction
/// would take more than a program may have (512 bytes).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_introduce_current() -> u64 {
    if let Some((mark, task, _)) = mark::find_current() {
        // SAFETY: a live map value, and the mark of the current task.
        unsafe { first(mark, task) };
    }
    0
}

/// Introduces the process of `task`, with what it has opened just now. `is_current`: it is the one that runs, so its
/// arguments can be read.
#[inline(always)]
pub fn with_load(task: u64, is_current: bool) {
    introduce(task, if is_current { CURRENT } else { 0 });
}

/// The process is the one that runs.
const CURRENT: u64 = 1;
/// It has loaded something before.
const LATE: u64 = 2;

/// False where that was not sent: counted.
#[inline(always)]
fn introduce(task: u64, how: u64) -> bool {
    let begun = sensor_introduce_fixed(task, how);
    if begun == 0 {
        lose(Counter::ReadFailed);
    }
    begun & BEGUN != 0 && sensor_introduce_strings(begun >> 32, task, how) != 0
}

/// In the answer of [`sensor_introduce_fixed`]: from bit 32 on stands the index of a scratch area.
const BEGUN: u64 = 1;
/// The same: there is no area, which is counted.
const NO_AREA: u64 = 2;

/// Writes a [`Who`] without its strings into a scratch area; 0 where that can't be read. A function of its own, as the other
/// half is, so that the stack of neither is part of every hook's, nor of the other's.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_introduce_fixed(task: u64, how: u64) -> u64 {
    fixed(task as Address, how).unwrap_or(0)
}

#[inline(always)]
fn fixed(task: Address, how: u64) -> Option<u64> {
    let key = task::key_of::<Checked>(task)?;
    let (file, exe) = file::exe_of::<Checked>(task)?;
    let inode: Address = field!(file, file_inode, Address)?;
    let dentry: Address = field!(file, file_path_dentry, Address)?;
    let folder: Address = field!(dentry, dentry_parent, Address)?;
    let folder: Address = field!(folder, dentry_inode, Address)?;
    let sb: Address = field!(inode, inode_sb, Address)?;
    if folder.is_null() {
        return None;
    }
    // Mounted by itself over another name: its name and folder are not its own, and prove nothing.
    let mount: Address = field!(file, file_path_mnt, Address)?;
    let is_bound = field!(mount, vfsmount_root, Address)? == dentry;
    let Some(area) = Area::claim() else { return Some(NO_AREA) };
    let record: *mut Who = area.record();
    // SAFETY: the area is larger than the record's fixed part.
    unsafe {
        // What others have was found by the sensor's own walk: whose it is, it can't ask.
        let who = if how & CURRENT != 0 { task::who(task) } else { task::NOBODY };
        task::write_header_of::<Checked>(&raw mut (*record).header, kind::WHO, task, key, who, task::now_ns());
        (*record).exe = exe;
        (*record).exe_uid = field!(inode, inode_uid, u32).unwrap_or(u32::MAX);
        (*record).exe_mode = match field!(inode, inode_mode, u16) {
            Some(mode) if !is_bound => u32::from(mode),
            _ => u32::MAX,
        };
        (*record).exe_fs_magic = field!(sb, sb_magic, u64).unwrap_or(0);
        (*record).exe_dir_uid = field!(folder, inode_uid, u32).unwrap_or(u32::MAX);
        (*record).exe_dir_mode = field!(folder, inode_mode, u16).map_or(u32::MAX, u32::from);
        (*record).role = program::role_of(&exe);
        (*record).is_late = u8::from(how & LATE != 0);
        task::write_ancestors::<Checked>(&raw mut (*record).ancestors, task);
    }
    Some(u64::from(area.index()) << 32 | BEGUN)
}

/// Writes the strings of a [`Who`] that is in scratch area `area`, and sends it. 0 where there was no room.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_introduce_strings(area: u64, task: u64, how: u64) -> u64 {
    let Some(area) = Area::claimed(area as u32) else { return 0 };
    let task = task as Address;
    let mm = field!(task, task_mm, Address).unwrap_or(core::ptr::null());
    let file = field!(mm, mm_exe_file, Address).unwrap_or(core::ptr::null());
    let fixed = size_of::<Who>() as u64;
    let exe_path = emit::forget(file::write_path(area.bytes(), fixed, file, EXE_BYTES_MAX as u64));
    let exe_end = exe_path & 0xffff;
    let argv =
        if how & CURRENT != 0 { emit::write_argv::<Checked>(area.bytes(), exe_end, mm) } else { exe_end | emit::CUT };
    let end = argv & 0xffff;
    let record: *mut Who = area.record();
    // SAFETY: the area is larger than the record's fixed part.
    unsafe {
        (*record).exe_len = (exe_end - fixed) as u16;
        (*record).argv_len = (end - exe_end) as u16;
        (*record).truncated = (exe_path >> 32 & 1) as u16 * 2 | (argv >> 32 & 1) as u16 * 4;
    }
    u64::from(area.send(&RING_PRIORITY, end))
}
