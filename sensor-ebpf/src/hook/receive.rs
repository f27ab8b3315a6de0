//! A process is given a descriptor of a file that another one opened.
//!
//! Best rungs: `file_receive` (match-proto: security/security.c: int security_file_receive(struct file *file)): SCM_RIGHTS,
//! pidfd_getfd, descriptors that a seccomp supervisor adds; runs in the receiver. Restricted rung: pidfd_getfd only, by
//! the exit of its call.

use sensor_abi::counter::Counter;
use sensor_abi::record::{NO_FD, reason};

use super::open::model_opened;
use crate::entry::security_hook;
use crate::field::{Address, Checked, field};
use crate::maps::count;
use crate::{file, judge, mark, task};

security_hook! {
    fn file_receive(file: Address) {
        if mark::current_is_own() {
            count(Counter::CanaryReceive);
        } else {
            let _ = got(file, NO_FD, reason::RECEIVED);
        }
    }
}

/// The current process has a descriptor that it didn't open. Who made the file, and how, is another's doing.
#[inline(always)]
pub fn got(file: Address, fd: u32, reason: u8) -> Option<()> {
    let mode: u32 = field!(file, file_mode, u32)?;
    if mode & file::FMODE_READ == 0 || mode & (file::FMODE_PATH | file::FMODE_NOACCOUNT) != 0 {
        return None;
    }
    let place = file::place_of::<Checked>(file)?;
    let looked = judge::why::<Checked>(place.dentry, place.inode, task::current_tgid(), mode & file::FMODE_WRITE == 0)?;
    let reason = if looked == reason::UNKNOWN_NAME { looked } else { reason };
    model_opened(file, task::current(), fd, reason, true);
    Some(())
}
