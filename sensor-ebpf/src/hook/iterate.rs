//! What was open or mapped before the sensor came: the same judgement, walked once at start.
//!
//! `iter/task_file` (5.8; kernel/bpf/task_iter.c: DEFINE_BPF_ITER_FUNC(task_file, struct bpf_iter_meta *meta, struct
//! task_struct *task, u32 fd, struct file *file)) and `iter/task_vma` (5.12; …, struct vm_area_struct *vma)).

use core::ffi::c_void;

use sensor_abi::record::{NO_FD, reason};

use super::open::model_opened;
use crate::field::{Address, Checked, field};
use crate::file::Place;
use crate::{file, judge, program};

/// `struct bpf_iter__task_file`
#[repr(C)]
struct TaskFile {
    meta: *const c_void,
    task: *const u8,
    fd: u32,
    file: *const u8,
}

/// `struct bpf_iter__task_vma`
#[repr(C)]
struct TaskVma {
    meta: *const c_void,
    task: *const u8,
    vma: *const u8,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn task_file(ctx: *mut c_void) -> i32 {
    let ctx: *const TaskFile = ctx.cast();
    // SAFETY: the kernel passes this structure to a program of this section.
    let (task, fd, file) = unsafe { ((*ctx).task, (*ctx).fd, (*ctx).file) };
    if !task.is_null() && !file.is_null() {
        let _ = held(task, file, fd);
    }
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_vma")]
extern "C" fn task_vma(ctx: *mut c_void) -> i32 {
    let ctx: *const TaskVma = ctx.cast();
    // SAFETY: as above.
    let (task, vma) = unsafe { ((*ctx).task, (*ctx).vma) };
    if !task.is_null() && !vma.is_null() {
        let _ = mapped(task, vma);
    }
    0
}

#[inline(always)]
fn held(task: Address, file: Address, fd: u32) -> Option<()> {
    let mode: u32 = field!(file, file_mode, u32)?;
    if mode & file::FMODE_NOACCOUNT != 0 {
        return None;
    }
    found(task, file, file::place_of::<Checked>(file)?, mode, fd, reason::FOUND_OPEN)
}

#[inline(always)]
fn mapped(task: Address, vma: Address) -> Option<()> {
    let file: Address = field!(vma, vma_file, Address)?;
    if file.is_null() {
        return None;
    }
    let mode: u32 = field!(file, file_mode, u32)?;
    let place = file::place_of_mapped(file, mode)?;
    if program::is_python_name(&file::name_of::<Checked>(place.dentry)?) {
        program::set_python(field!(task, task_tgid, u32)?);
    }
    found(task, file, place, mode, NO_FD, reason::FOUND_MAPPED)
}

#[inline(always)]
fn found(task: Address, file: Address, place: Place, mode: u32, fd: u32, reason: u8) -> Option<()> {
    if mode & file::FMODE_READ == 0 || mode & (file::FMODE_PATH | file::FMODE_CREATED) != 0 {
        return None;
    }
    let tgid = field!(task, task_tgid, u32)?;
    let looked = judge::why::<Checked>(place.dentry, place.inode, tgid, mode & file::FMODE_WRITE == 0)?;
    let reason = if looked == reason::UNKNOWN_NAME {
        // The program itself is mapped by everybody who runs it. (Libraries are known by their names; one that isn't costs
        // one look, and so does a model that its loader maps as if it were code.)
        if file::exe_of::<Checked>(task).is_some_and(|(_, exe)| file::key_of::<Checked>(place.inode) == Some(exe)) {
            return None;
        }
        looked
    } else {
        reason
    };
    model_opened(file, task, fd, reason, false);
    Some(())
}
