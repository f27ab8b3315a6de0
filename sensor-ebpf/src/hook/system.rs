//! A marked process acts on the system: other processes, the kernel, mounts, privileges, names of files. LSM rung: the
//! kernel's own objects, whichever call led there; below it is `call`.
//!
//! match-proto, security/security.c:
//! `int security_ptrace_access_check(struct task_struct *child, unsigned int mode)`,
//! `int security_kernel_read_file(struct file *file, enum kernel_read_file_id id, bool contents)`,
//! `int security_kernel_load_data(enum kernel_load_data_id id, bool contents)`,
//! `int security_sb_mount(const char *dev_name, const struct path *path, const char *type, unsigned long flags, void *data)`,
//! `int security_move_mount(const struct path *from_path, const struct path *to_path)`,
//! `int security_sb_pivotroot(const struct path *old_path, const struct path *new_path)`,
//! `int security_task_fix_setuid(struct cred *new, const struct cred *old, int flags)`,
//! `int security_path_rename(const struct path *old_dir, struct dentry *old_dentry, const struct path *new_dir, struct
//! dentry *new_dentry, unsigned int flags)` (no flags before 6.0),
//! `int security_path_link(struct dentry *old_dentry, const struct path *new_dir, struct dentry *new_dentry)`,
//! `int security_path_symlink(const struct path *dir, struct dentry *dentry, const char *old_name)`.
//!
//! Namespaces have no LSM hook on every kernel: `fentry` of `ksys_unshare(unsigned long flags)` (kernel/fork.c) and of the
//! entry of setns(2).

use aya_ebpf::macros::{fentry, lsm};
use aya_ebpf::programs::{FEntryContext, LsmContext};
use sensor_abi::act::{access, call};

use super::access::meaning;
use crate::act::{self, Place};
use crate::field::{Address, field};

/// `include/linux/ptrace.h`: the check is for more than to look.
const PTRACE_MODE_ATTACH: u32 = 0x2;
/// `include/linux/kernel_read_file.h`, `enum kernel_read_file_id`; `kernel_load_data_id` counts alike.
const READING_MODULE: u32 = 2;
const READING_KEXEC_IMAGE: u32 = 3;

#[lsm(hook = "ptrace_access_check")]
pub fn ptrace_access_check(ctx: LsmContext) -> i32 {
    let child: *const u8 = ctx.arg(0);
    let mode: u32 = ctx.arg(1);
    if mode & PTRACE_MODE_ATTACH != 0 {
        let _ = reached(child, mode);
    }
    0
}

#[inline(always)]
fn reached(child: Address, mode: u32) -> Option<()> {
    if act::is_marked() {
        act::tell(call::ACCESS, field!(child, task_tgid, u32)?, u64::from(mode), Place::NOWHERE);
    }
    Some(())
}

#[lsm(hook = "kernel_read_file")]
pub fn kernel_read_file(ctx: LsmContext) -> i32 {
    let file: *const u8 = ctx.arg(0);
    let id: u32 = ctx.arg(1);
    let _ = read_by_kernel(file, id);
    0
}

#[lsm(hook = "kernel_load_data")]
pub fn kernel_load_data(ctx: LsmContext) -> i32 {
    let id: u32 = ctx.arg(0);
    let _ = read_by_kernel(core::ptr::null(), id);
    0
}

#[inline(always)]
fn read_by_kernel(file: Address, id: u32) -> Option<()> {
    let call = match id {
        READING_MODULE => call::MODULE,
        READING_KEXEC_IMAGE => call::KEXEC,
        _ => return None,
    };
    if act::is_marked() {
        act::tell(call, 0, 0, if file.is_null() { Place::NOWHERE } else { Place::of_file(file)? });
    }
    Some(())
}

#[lsm(hook = "sb_mount")]
pub fn sb_mount(ctx: LsmContext) -> i32 {
    let path: *const u8 = ctx.arg(1);
    let _ = mounted(call::MOUNT, path);
    0
}

#[lsm(hook = "move_mount")]
pub fn move_mount(ctx: LsmContext) -> i32 {
    let path: *const u8 = ctx.arg(1);
    let _ = mounted(call::MOUNT, path);
    0
}

#[lsm(hook = "sb_pivotroot")]
pub fn sb_pivotroot(ctx: LsmContext) -> i32 {
    let path: *const u8 = ctx.arg(1);
    let _ = mounted(call::PIVOT_ROOT, path);
    0
}

#[inline(always)]
fn mounted(call: u16, path: Address) -> Option<()> {
    if act::is_marked() {
        act::tell(call, 0, 0, Place::of_path(path)?);
    }
    Some(())
}

#[lsm(hook = "task_fix_setuid")]
pub fn task_fix_setuid(ctx: LsmContext) -> i32 {
    let new: *const u8 = ctx.arg(0);
    let old: *const u8 = ctx.arg(1);
    let _ = changed_user(new, old);
    0
}

#[inline(always)]
fn changed_user(new: Address, old: Address) -> Option<()> {
    let before = field!(old, cred_euid, u32)?;
    if before != 0 && field!(new, cred_euid, u32)? == 0 && act::is_marked() {
        act::tell(call::SETUID, 0, u64::from(before), Place::NOWHERE);
    }
    Some(())
}

#[lsm(hook = "path_rename")]
pub fn path_rename(ctx: LsmContext) -> i32 {
    let folder: *const u8 = ctx.arg(2);
    let dentry: *const u8 = ctx.arg(3);
    let _ = named(call::RENAME, folder, dentry);
    0
}

#[lsm(hook = "path_link")]
pub fn path_link(ctx: LsmContext) -> i32 {
    let folder: *const u8 = ctx.arg(1);
    let dentry: *const u8 = ctx.arg(2);
    let _ = named(call::LINK, folder, dentry);
    0
}

#[lsm(hook = "path_symlink")]
pub fn path_symlink(ctx: LsmContext) -> i32 {
    let folder: *const u8 = ctx.arg(0);
    let dentry: *const u8 = ctx.arg(1);
    let _ = named(call::SYMLINK, folder, dentry);
    0
}

/// The new name has its folder already, but no inode yet.
#[inline(always)]
fn named(call: u16, folder: Address, dentry: Address) -> Option<()> {
    if act::is_marked() && meaning(dentry) & access::WRITE != 0 {
        act::tell(call, 0, 0, Place { dentry, mount: field!(folder, path_mnt, Address)? });
    }
    Some(())
}

#[fentry(function = "ksys_unshare")]
pub fn ksys_unshare(ctx: FEntryContext) -> i32 {
    let flags: u64 = ctx.arg(0);
    if act::is_marked() {
        act::tell(call::UNSHARE, 0, flags, Place::NOWHERE);
    }
    0
}

#[fentry(function = "sys_setns")]
pub fn sys_setns(_ctx: FEntryContext) -> i32 {
    if act::is_marked() {
        act::tell(call::SETNS, 0, 0, Place::NOWHERE);
    }
    0
}
