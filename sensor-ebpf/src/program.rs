//! What the acting program is: CPython, which loads models by any name, or one that only carries descriptors to another.

use sensor_abi::counter::Counter;
use sensor_abi::identity::InodeKey;
use sensor_abi::mark::role;
use sensor_abi::name::KEY_BYTES;

use crate::field::{Address, Reach, field, member, read};
use crate::maps::{BPF_NOEXIST, CARRIERS, EXES, LOADER_LAST, PYTHONS, lose};
use crate::{file, slot};

/// How the names of interpreters and of the library begin.
const PYTHON: u64 = u64::from_le_bytes(*b"python\0\0");
const PYTHON_MASK: u64 = 0xffff_ffff_ffff;
const LIBPYTHON: u64 = u64::from_le_bytes(*b"libpytho");

/// Does this process run CPython?
#[inline(always)]
pub fn is_python(tgid: u32) -> bool {
    slot::is_taken(tgid) && PYTHONS.get_ptr(tgid).is_some()
}

#[inline(always)]
pub fn set_python(tgid: u32) {
    if !slot::insert(tgid, || PYTHONS.insert(tgid, 1, BPF_NOEXIST).is_ok()) && !is_python(tgid) {
        lose(Counter::PythonsFull);
    }
}

/// Nobody has this process id any more, or another program runs under it.
#[inline(always)]
pub fn unset_python(tgid: u32) {
    if is_python(tgid) {
        slot::remove(tgid, || PYTHONS.remove(tgid).is_ok());
    }
}

/// Is a file of this name the interpreter's?
#[inline(always)]
pub fn is_python_name(name: &file::Name) -> bool {
    if name.len < 6 {
        return false;
    }
    // Names live in at least 32 inline bytes or a longer allocation: eight bytes are always readable.
    let Some(head) = read::<u64>(name.text, 0) else { return false };
    head & PYTHON_MASK == PYTHON || (head == LIBPYTHON && name.len > KEY_BYTES as u32)
}

/// The process `tgid` runs another program: the file named `dentry`.
#[inline(always)]
pub fn executed<R: Reach>(tgid: u32, dentry: Address) {
    let python = file::name_of::<R>(dentry).is_some_and(|name| is_python_name(&name));
    if python {
        set_python(tgid);
    } else {
        unset_python(tgid);
    }
}

/// The role of what runs this executable, as far as it is decided.
#[inline(always)]
pub fn role_of(exe: &InodeKey) -> u8 {
    let last = LOADER_LAST.get_ptr_mut(0);
    // SAFETY: a live map value.
    if last.is_some_and(|last| unsafe { *last == *exe }) {
        return role::LOADER;
    }
    // SAFETY: plain bytes.
    let decided = unsafe { EXES.get(exe) }.copied().unwrap_or(role::UNDECIDED);
    if decided == role::LOADER {
        if let Some(last) = last {
            // SAFETY: a live map value.
            unsafe { *last = *exe };
        }
    }
    decided
}

/// Is this executable a shell, or a program that starts another in its own place, which only root could have put there?
/// What it opens is its child's to load, and nothing else is known of it.
#[inline(always)]
pub fn is_carrier<R: Reach>(exe: Address) -> bool {
    carries::<R>(exe).is_some()
}

#[inline(always)]
fn carries<R: Reach>(exe: Address) -> Option<()> {
    let dentry: Address = member!(R, exe, file_path_dentry, Address)?;
    let key = file::tail_key::<R>(dentry, &file::name_of::<R>(dentry)?, 0)?;
    CARRIERS.get_ptr(key)?;
    // Mounted by itself over another name: its name is not its own.
    let mount: Address = field!(exe, file_path_mnt, Address)?;
    let folder: Address = field!(dentry, dentry_parent, Address)?;
    let bound = field!(mount, vfsmount_root, Address)? == dentry;
    (!bound && is_roots(field!(exe, file_inode, Address)?) && is_roots(field!(folder, dentry_inode, Address)?))
        .then_some(())
}

/// Root owns it, and nobody else may write to it.
#[inline(always)]
fn is_roots(inode: Address) -> bool {
    field!(inode, inode_uid, u32) == Some(0)
        && matches!(field!(inode, inode_mode, u16), Some(mode) if mode & 0o022 == 0)
}
