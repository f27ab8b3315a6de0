//! A marked process opens a file that gives a payload away: a credential to read, a place to stay in to write, what it
//! loaded itself to write over it, a program of its own making that runs as somebody else.
//!
//! Called from the open hook, on whichever rung that is. The name, and the names of the two folders above it, are keys
//! into one small map (`NAMES`); whether the whole path is one of those that the data lists, userspace decides.

use sensor_abi::act::{access, call, place};

use crate::act::{self, Path};
use crate::field::{Address, Checked, field, number, offset, read};
use crate::maps::NAMES;
use crate::{file, loader, mark, task};

/// `include/uapi/linux/magic.h`: PROC_SUPER_MAGIC.
const PROC_MAGIC: u64 = 0x9fa0;
/// `include/linux/pid.h`: PIDTYPE_TGID.
const PIDTYPE_TGID: u32 = 1;

/// A process that carries no load pays one look-up.
#[inline(always)]
pub fn opened(file: Address, mode: u32, tgid: u32) {
    let mut wanted = 0u8;
    if mode & file::FMODE_READ != 0 {
        wanted |= access::READ;
    }
    if mode & file::FMODE_WRITE != 0 {
        wanted |= access::WRITE;
    }
    if wanted == 0 || mode & (file::FMODE_PATH | file::FMODE_NOACCOUNT) != 0 {
        return;
    }
    if loader::is_marked(tgid) {
        sensor_accessed(number(file), u64::from(wanted));
    }
}

/// A marked process opened `file`: a function of its own, so that its stack isn't part of every open's.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_accessed(file: u64, wanted: u64) -> u64 {
    let _ = accessed(file as Address, wanted as u8);
    0
}

#[inline(always)]
fn accessed(file: Address, wanted: u8) -> Option<()> {
    let dentry: Address = field!(file, file_path_dentry, Address)?;
    let inode: Address = field!(file, file_inode, Address)?;
    if wanted & access::WRITE != 0 {
        sensor_destroyed(number(inode));
    }
    if field!(file, file_mode, u32)? & file::FMODE_CREATED != 0 && file::is_set_user_id(field!(inode, inode_mode, u16)?)
    {
        act::tell(call::SET_USER_ID, 0, 0, Path::of_file(file)?);
    }
    let found = meaning(dentry) & wanted;
    if found == 0 {
        return None;
    }
    if !file::is_regular::<Checked>(inode) {
        return None;
    }
    let about = subject(inode, task::current())?;
    act::tell(call::OPEN, about, u64::from(found), Path::of_file(file)?);
    Some(())
}

/// A marked process changes `inode`, or takes a name from it: told where it is what the process loaded, and nobody has
/// read it yet.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sensor_destroyed(inode: u64) -> u64 {
    let _ = destroyed(inode as Address);
    0
}

#[inline(always)]
fn destroyed(inode: Address) -> Option<()> {
    if inode.is_null() {
        return None;
    }
    let (mark, ..) = mark::find_current()?;
    let key = file::key_of::<Checked>(inode)?;
    // SAFETY: a live map value.
    if mark::sensor_has_unread(unsafe { (*mark).set }, key.ino, u64::from(key.dev)) != 0 {
        act::tell(call::DESTROY, 0, key.ino, Path::NOWHERE);
    }
    Some(())
}

/// [`access`] bits of what is called like something that the data lists.
#[inline(always)]
pub fn meaning(dentry: Address) -> u8 {
    let mut found = of_name(dentry, place::FILE);
    if let Some(folder) = field!(dentry, dentry_parent, Address) {
        found |= of_name(folder, place::FOLDER);
        if let Some(above) = field!(folder, dentry_parent, Address) {
            found |= of_name(above, place::ABOVE);
        }
    }
    found
}

#[inline(always)]
fn of_name(dentry: Address, at: u32) -> u8 {
    let key = file::name_of::<Checked>(dentry).and_then(|name| file::tail_key::<Checked>(dentry, &name, 0));
    // SAFETY: plain bytes.
    let bits = key.and_then(|key| unsafe { NAMES.get(key) }.copied()).unwrap_or(0);
    bits >> at & (access::READ | access::WRITE)
}

/// The process that a file of procfs is about, else 0; `None` where it is the acting one.
#[inline(always)]
fn subject(inode: Address, task: Address) -> Option<u32> {
    let sb: Address = field!(inode, inode_sb, Address)?;
    if field!(sb, sb_magic, u64)? != PROC_MAGIC {
        return Some(0);
    }
    let pid: Address = field!(inode.wrapping_sub(offset!(proc_inode) as usize), proc_pid, Address)?;
    if pid.is_null() {
        return Some(0);
    }
    let signal: Address = field!(task, task_signal, Address)?;
    let own: Address = read(signal, offset!(signal_pids) + 8 * PIDTYPE_TGID)?;
    let thread: Address = field!(task, task_thread_pid, Address)?;
    if pid == own || pid == thread {
        return None;
    }
    field!(pid, pid_numbers, u32)
}
