//! A marked process acts on the system by a system call: the rung below `system`.
//!
//! `syscalls/sys_enter_*` of exactly these calls. What is seen is what the caller passed: a try that the kernel refuses is
//! told too, a path is text that may change under the kernel, links on the way aren't followed; calls of 32-bit programs
//! and of io_uring aren't seen.

use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use sensor_abi::act::call;

use super::system::{BPF_PROG_LOAD, CAPABILITIES, Capabilities, RENAME_EXCHANGE};
use crate::act::{self, Path};
use crate::field::{Address, field};
use crate::maps::CALLS;
use crate::net::{self, AF_XDP};
use crate::{file, loader, mark, task};

/// `include/trace/syscall.h`: the call's number and its arguments, behind the common fields.
const NUMBER: usize = 8;
const ARGUMENTS: usize = 16;

/// `include/uapi/linux/fcntl.h`
const AT_FDCWD: i32 = -100;
/// `include/uapi/linux/ptrace.h`
const PTRACE_ATTACH: u64 = 16;
const PTRACE_SEIZE: u64 = 0x4206;
/// `include/uapi/linux/capability.h`
const CAP_SETUID: u64 = 1 << 7;

#[tracepoint]
pub fn sys_enter_call(ctx: TracePointContext) -> u32 {
    let _ = entered(&ctx);
    0
}

#[inline(always)]
fn entered(ctx: &TracePointContext) -> Option<()> {
    if !loader::current_is_marked() {
        return None;
    }
    let task = task::current();
    // SAFETY: the record of a `sys_enter` tracepoint begins with its number.
    let call: i32 = unsafe { ctx.read_at(NUMBER) }.ok()?;
    // SAFETY: plain bytes.
    let shape = unsafe { CALLS.get(call as u32) }.copied()?;
    let mut number = if shape.number == 0 { 0 } else { argument(ctx, shape.number)? };
    if !matters(task, shape.call, number)? {
        return None;
    }
    if shape.old != 0 {
        let base = if shape.old_folder == 0 { AT_FDCWD } else { argument(ctx, shape.old_folder)? as i32 };
        let call = if shape.call == call::RENAME { call::MOVED } else { call::ALIAS };
        act::tell_text(call, argument(ctx, shape.old)?, folder(task, base)?);
        if shape.flags != 0 && argument(ctx, shape.flags)? as u32 & RENAME_EXCHANGE != 0 {
            act::tell_text(shape.call, argument(ctx, shape.old)?, folder(task, base)?);
            let base = argument(ctx, shape.folder)? as i32;
            act::tell_text(call, argument(ctx, shape.path)?, folder(task, base)?);
        }
    }
    if shape.path != 0 {
        let base = if shape.folder == 0 { AT_FDCWD } else { argument(ctx, shape.folder)? as i32 };
        act::tell_text(shape.call, argument(ctx, shape.path)?, folder(task, base)?);
        return Some(());
    }
    if shape.user != 0 {
        number = u64::from(becomes_root(task, argument(ctx, shape.user)? as u32)?);
    }
    let path = match shape.file {
        0 => Path::NOWHERE,
        which => Path::of_file(file::of_descriptor(task, argument(ctx, which)? as u32)?)?,
    };
    let target = if shape.process == 0 { 0 } else { process(task, argument(ctx, shape.process)? as u32)? };
    act::tell(shape.call, target, number, path);
    Some(())
}

/// Does a call that can mean many things mean what it is looked at for?
#[inline(always)]
fn matters(task: Address, call: u16, number: u64) -> Option<bool> {
    Some(match call {
        call::PTRACE => matches!(number, PTRACE_ATTACH | PTRACE_SEIZE),
        call::BPF => number as u32 == BPF_PROG_LOAD,
        call::XDP => field!(net::socket_of(number as u32)?, sock_family, u16)? == AF_XDP,
        call::SET_USER_ID => number as u16 & file::S_ISUID != 0,
        call::SET_CAPABILITIES => {
            // SAFETY: the helper checks the address.
            unsafe { bpf_probe_read_user(number as *const Capabilities) }.ok()? == CAPABILITIES
        }
        call::DESTROY => {
            let mark = mark::of(field!(task, task_tgid, u32)?)?;
            // SAFETY: a live map value.
            mark::sensor_has_unread(unsafe { (*mark).set }, 0, 0) != 0
        }
        _ => true,
    })
}

/// Argument `which`, counted from 1.
#[inline(always)]
fn argument(ctx: &TracePointContext, which: u8) -> Option<u64> {
    let at = ARGUMENTS + 8 * (which as usize - 1 & 7);
    // SAFETY: a record has room for all arguments that the call has.
    unsafe { ctx.read_at(at) }.ok()
}

/// Would the kernel let the caller become this user, and is it root? Then, who it is now.
#[inline(always)]
fn becomes_root(task: Address, wanted: u32) -> Option<u32> {
    let cred: Address = field!(task, task_cred, Address)?;
    let euid = field!(cred, cred_euid, u32)?;
    let may = field!(cred, cred_uid, u32)? == 0
        || field!(cred, cred_suid, u32)? == 0
        || field!(cred, cred_effective, u64)? & CAP_SETUID != 0;
    (wanted == 0 && euid != 0 && may).then_some(euid)
}

#[inline(always)]
fn folder(task: Address, descriptor: i32) -> Option<Path> {
    if descriptor == AT_FDCWD {
        let fs: Address = field!(task, task_fs, Address)?;
        return Some(Path { dentry: field!(fs, fs_pwd_dentry, Address)?, mount: field!(fs, fs_pwd_mnt, Address)? });
    }
    Path::of_file(file::of_descriptor(task, descriptor as u32)?)
}

/// A process by the number that the caller knows it by; 0 where that says nothing, outside the initial pid namespace.
/// `None` where it is the caller itself.
#[inline(always)]
fn process(task: Address, number: u32) -> Option<u32> {
    let pid: Address = field!(task, task_thread_pid, Address)?;
    if field!(pid, pid_level, u32)? != 0 {
        return Some(0);
    }
    (number != task::current_tgid()).then_some(number)
}
