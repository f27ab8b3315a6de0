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
//! `int security_path_symlink(const struct path *dir, struct dentry *dentry, const char *old_name)`,
//! `int security_path_unlink(const struct path *dir, struct dentry *dentry)`,
//! `int security_path_truncate(const struct path *path)`,
//! `int security_path_chmod(const struct path *path, umode_t mode)`,
//! `int security_inode_setxattr(struct mnt_idmap *idmap, struct dentry *dentry, const char *name, const void *value, size_t
//! size, int flags)` (before 5.12 without its first argument),
//! `int security_bpf(int cmd, union bpf_attr *attr, unsigned int size)` (6.15 has one more),
//! `int security_socket_bind(struct socket *sock, struct sockaddr *address, int addrlen)`.
//!
//! Namespaces have no security function on every kernel: the entries of `ksys_unshare(unsigned long flags)`
//! (kernel/fork.c) and of setns(2).

use sensor_abi::act::{access, call};

use super::access::{meaning, sensor_destroyed};
use crate::act::{self, Path};
use crate::entry::{Entry, Registers, Typed, security_hook};
use crate::field::{Address, Checked, Reach, field, member, number, read};
use crate::net::{self, AF_XDP};
use crate::{file, loader};

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
    if mode & PTRACE_MODE_ATTACH != 0 && loader::current_is_marked() {
        act::tell(call::ACCESS, field!(child, task_tgid, u32)?, u64::from(mode), Path::NOWHERE);
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
    if loader::current_is_marked() {
        act::tell(call, 0, 0, if file.is_null() { Path::NOWHERE } else { Path::of_file(file)? });
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
    if loader::current_is_marked() {
        act::tell(call, 0, 0, Path::of_path(path)?);
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
    if before != 0 && field!(new, cred_euid, u32)? == 0 && loader::current_is_marked() {
        act::tell(call::SETUID, 0, u64::from(before), Path::NOWHERE);
    }
    Some(())
}

security_hook! {
    fn path_rename(old_folder: Address, old: Address, folder: Address, dentry: Address, flags: u32) {
        renamed(old_folder, old, folder, dentry, flags)
    }
}

security_hook! {
    fn path_link(old: Address, folder: Address, dentry: Address) {
        linked(old, folder, dentry)
    }
}

security_hook! {
    fn path_symlink(folder: Address, dentry: Address, _to: Address) {
        named(call::SYMLINK, folder, dentry)
    }
}

/// `include/uapi/linux/fs.h`: each of the two names gets the other's file.
pub const RENAME_EXCHANGE: u32 = 2;

#[inline(always)]
fn renamed(old_folder: Address, old: Address, folder: Address, dentry: Address, flags: u32) -> Option<()> {
    if !loader::current_is_marked() {
        return None;
    }
    let (old, dentry) = (number(old) as Address, number(dentry) as Address);
    removed(old);
    removed(dentry);
    if flags & RENAME_EXCHANGE != 0 {
        moved(folder, dentry, old_folder, old);
    }
    moved(old_folder, old, folder, dentry)
}

#[inline(always)]
fn moved(old_folder: Address, old: Address, folder: Address, dentry: Address) -> Option<()> {
    // A secret is as good under another name, and so is all that is in a folder.
    tell_name(call::MOVED, access::READ, old_folder, old);
    tell_name(call::RENAME, access::WRITE, folder, dentry)
}

#[inline(always)]
fn linked(old: Address, folder: Address, dentry: Address) -> Option<()> {
    if !loader::current_is_marked() {
        return None;
    }
    // Both names are on one mount. What is written by the new one is written to the old one.
    tell_name(call::ALIAS, access::READ | access::WRITE, folder, old);
    tell_name(call::LINK, access::WRITE, folder, dentry)
}

#[inline(always)]
fn named(call: u16, folder: Address, dentry: Address) -> Option<()> {
    if loader::current_is_marked() { tell_name(call, access::WRITE, folder, dentry) } else { None }
}

/// A new name has its folder already, but no inode yet.
#[inline(always)]
fn tell_name(call: u16, wanted: u8, folder: Address, dentry: Address) -> Option<()> {
    let dentry = number(dentry) as Address;
    if meaning(dentry) & wanted != 0 {
        act::tell(call, 0, 0, Path { dentry, mount: field!(folder, path_mnt, Address)? });
    }
    Some(())
}

/// A name of a file goes away.
#[inline(always)]
fn removed(dentry: Address) {
    if let Some(inode) = field!(dentry, dentry_inode, Address) {
        sensor_destroyed(number(inode));
    }
}

security_hook! {
    fn path_unlink(_folder: Address, dentry: Address) {
        if loader::current_is_marked() {
            removed(number(dentry) as Address);
        }
    }
}

security_hook! {
    fn path_truncate(path: Address) {
        cut(path)
    }
}

#[inline(always)]
fn cut(path: Address) -> Option<()> {
    if loader::current_is_marked() {
        removed(field!(path, path_dentry, Address)?);
    }
    Some(())
}

security_hook! {
    fn path_chmod(path: Address, mode: u32) {
        mode_set(path, mode as u16)
    }
}

#[inline(always)]
fn mode_set(path: Address, mode: u16) -> Option<()> {
    if mode & file::S_ISUID == 0 || !loader::current_is_marked() {
        return None;
    }
    let dentry: Address = field!(path, path_dentry, Address)?;
    if file::is_regular::<Checked>(field!(dentry, dentry_inode, Address)?) {
        act::tell(call::SET_USER_ID, 0, 0, Path::of_path(path)?);
    }
    Some(())
}

pub type Capabilities = [u8; 20];
/// What runs with the capabilities that it names (`XATTR_NAME_CAPS`).
pub const CAPABILITIES: Capabilities = *b"security.capability\0";

security_hook! {
    fn inode_setxattr(first: Address, second: Address, third: Address) -> void {
        attribute_set(first, second, third)
    }
}

#[inline(always)]
fn attribute_set(first: Address, second: Address, third: Address) -> Option<()> {
    if !loader::current_is_marked() {
        return None;
    }
    // A file, and the attribute's name; newer kernels have something before them.
    let is_caps = |name: Address| read::<Capabilities>(name, 0) == Some(CAPABILITIES);
    let dentry = if is_caps(third) {
        second
    } else if is_caps(second) {
        first
    } else {
        return None;
    };
    // On no mount: the call says which file, not by which way.
    act::tell(call::SET_CAPABILITIES, 0, 0, Path { dentry: number(dentry) as Address, mount: core::ptr::null() });
    Some(())
}

/// `include/uapi/linux/bpf.h`
pub const BPF_PROG_LOAD: u32 = 5;

security_hook! {
    fn bpf(command: u32) -> void {
        if command == BPF_PROG_LOAD && loader::current_is_marked() {
            act::tell(call::BPF, 0, 0, Path::NOWHERE);
        }
    }
}

security_hook! {
    fn socket_bind(socket: Address, _address: Address, _len: i32) {
        bound::<E::Reach>(socket)
    }
}

#[inline(always)]
fn bound<R: Reach>(socket: Address) -> Option<()> {
    let sk = net::sk_of::<R>(socket)?;
    if member!(R, sk, sock_family, u16)? == AF_XDP && loader::current_is_marked() {
        act::tell(call::XDP, 0, 0, Path::NOWHERE);
    }
    Some(())
}

#[inline(always)]
fn unshares(flags: u64) {
    if loader::current_is_marked() {
        act::tell(call::UNSHARE, 0, flags, Path::NOWHERE);
    }
}

#[inline(always)]
fn enters() {
    if loader::current_is_marked() {
        act::tell(call::SETNS, 0, 0, Path::NOWHERE);
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
