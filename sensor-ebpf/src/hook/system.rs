//! A marked process acts on the system: other processes, the kernel, mounts, privileges, names of files. The
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
//! dentry *new_dentry, unsigned int flags)` (the LSM hook has no flags before 5.19: there it is `fentry` that sees it),
//! `int security_path_link(struct dentry *old_dentry, const struct path *new_dir, struct dentry *new_dentry)`,
//! `int security_path_symlink(const struct path *dir, struct dentry *dentry, const char *old_name)`.
//!
//! Namespaces have no security function on every kernel: the entries of `ksys_unshare(unsigned long flags)`
//! (kernel/fork.c) and of setns(2).

use sensor_abi::act::{access, call};

use super::access::meaning;
use crate::act::{self, Place};
use crate::entry::{Entry, Registers, Typed, security_hook};
use crate::field::{Address, field, number};

/// `include/linux/ptrace.h`: the check is for more than to look.
const PTRACE_MODE_ATTACH: u32 = 0x2;
/// `include/linux/kernel_read_file.h`, `enum kernel_read_file_id`; `kernel_load_data_id` counts alike.
const READING_MODULE: u32 = 2;
const READING_KEXEC_IMAGE: u32 = 3;

security_hook! {
    fn ptrace_access_check(child: Address, mode: u32) {
        reached(child, mode)
    }
}

#[inline(always)]
fn reached(child: Address, mode: u32) -> Option<()> {
    if mode & PTRACE_MODE_ATTACH != 0 && act::is_marked() {
        act::tell(call::ACCESS, field!(child, task_tgid, u32)?, u64::from(mode), Place::NOWHERE);
    }
    Some(())
}

security_hook! {
    fn kernel_read_file(file: Address, id: u32, _contents: u32) {
        read_by_kernel(file, id)
    }
}

security_hook! {
    fn kernel_load_data(id: u32, _contents: u32) {
        read_by_kernel(core::ptr::null(), id)
    }
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

security_hook! {
    fn sb_mount(_device: Address, path: Address, _kind: Address, _flags: u64, _data: Address) {
        mounted(call::MOUNT, path)
    }
}

security_hook! {
    fn move_mount(_from: Address, path: Address) {
        mounted(call::MOUNT, path)
    }
}

security_hook! {
    fn sb_pivotroot(_old: Address, path: Address) {
        mounted(call::PIVOT_ROOT, path)
    }
}

#[inline(always)]
fn mounted(call: u16, path: Address) -> Option<()> {
    if act::is_marked() {
        act::tell(call, 0, 0, Place::of_path(path)?);
    }
    Some(())
}

security_hook! {
    fn task_fix_setuid(new: Address, old: Address, _flags: u32) {
        changed_user(new, old)
    }
}

#[inline(always)]
fn changed_user(new: Address, old: Address) -> Option<()> {
    let before = field!(old, cred_euid, u32)?;
    if before != 0 && field!(new, cred_euid, u32)? == 0 && act::is_marked() {
        act::tell(call::SETUID, 0, u64::from(before), Place::NOWHERE);
    }
    Some(())
}

security_hook! {
    fn path_rename(_old_folder: Address, _old: Address, folder: Address, dentry: Address, _flags: u32) {
        named(call::RENAME, folder, dentry)
    }
}

security_hook! {
    fn path_link(_old: Address, folder: Address, dentry: Address) {
        named(call::LINK, folder, dentry)
    }
}

security_hook! {
    fn path_symlink(folder: Address, dentry: Address, _to: Address) {
        named(call::SYMLINK, folder, dentry)
    }
}

/// The new name has its folder already, but no inode yet.
#[inline(always)]
fn named(call: u16, folder: Address, dentry: Address) -> Option<()> {
    if act::is_marked() && meaning(dentry) & access::WRITE != 0 {
        let dentry = number(dentry) as Address;
        act::tell(call, 0, 0, Place { dentry, mount: field!(folder, path_mnt, Address)? });
    }
    Some(())
}

#[inline(always)]
fn unshares(flags: u64) {
    if act::is_marked() {
        act::tell(call::UNSHARE, 0, flags, Place::NOWHERE);
    }
}

#[inline(always)]
fn enters() {
    if act::is_marked() {
        act::tell(call::SETNS, 0, 0, Place::NOWHERE);
    }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/ksys_unshare")]
extern "C" fn fentry_unshare(ctx: *const u64) -> i32 {
    unshares(Typed::argument(ctx, 0));
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "kprobe/ksys_unshare")]
extern "C" fn kprobe_unshare(ctx: *const u64) -> i32 {
    unshares(Registers::argument(ctx, 0));
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/sys_setns")]
extern "C" fn fentry_setns(_ctx: *const u64) -> i32 {
    enters();
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "kprobe/sys_setns")]
extern "C" fn kprobe_setns(_ctx: *const u64) -> i32 {
    enters();
    0
}
