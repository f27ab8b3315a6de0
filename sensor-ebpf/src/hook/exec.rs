//! A marked process runs another program.
//!
//! `tp_btf/sched_process_exec` (match-proto: include/trace/events/sched.h: TP_PROTO(struct task_struct *p, pid_t
//! old_pid, struct linux_binprm *bprm)): the program is in place, its arguments can be read. By then close-on-exec has
//! closed the model, so whether the exec came from inside a load is asked earlier: `bprm_creds_for_exec` (match-proto:
//! security/security.c: int security_bprm_creds_for_exec(struct linux_binprm *bprm)), once per file; restricted rung
//! `syscalls/sys_enter_execve`, `_execveat`.

use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use sensor_abi::act::call;
use sensor_abi::counter::Counter;
use sensor_abi::identity::TaskKey;
use sensor_abi::mark::role;
use sensor_abi::record::{EXE_BYTES_MAX, Exec, Header, UNKNOWN_MS, kind};

use crate::act::{self, Path};
use crate::emit::{self, Area};
use crate::entry::security_hook;
use crate::field::{Address, Checked, field};
use crate::maps::{Before, EXEC_BEFORE, LOAD_SETS, RING_PRIORITY, THREADS, count, needed};
use crate::{file, introduce, mark, task, window};

security_hook! {
    fn bprm_creds_for_exec(_bprm: Address) {
        about_to_exec()
    }
}

#[tracepoint]
pub fn sys_enter_execve(_ctx: TracePointContext) -> u32 {
    let _ = about_to_exec();
    0
}

#[inline(always)]
fn about_to_exec() -> Option<()> {
    let (mark, current, key) = mark::find_current()?;
    // SAFETY: a live map value.
    if unsafe { (*mark).role } == role::OWN {
        count(Counter::CanaryExecWindow);
        return None;
    }
    // SAFETY: a live map value.
    let held = window::held(current, unsafe { (*mark).set }, key.start_boottime_ns) as u8;
    let (euid, permitted) = privileges(current)?;
    let _ = EXEC_BEFORE.insert(task::current_tid(), Before { held: u32::from(held), euid, permitted }, 0);
    Some(())
}

#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let old_pid: u32 = ctx.arg(1);
    let bprm: *const u8 = ctx.arg(2);
    let _ = executed(old_pid, bprm);
    0
}

/// The same once more, for the reason of [`wake_up_new_task`](super::fork::wake_up_new_task). What was noted before the exec
/// is taken when the exec is told: where it is still there, it wasn't.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec_again(ctx: BtfTracePointContext) -> i32 {
    let old_pid: u32 = ctx.arg(1);
    let bprm: *const u8 = ctx.arg(2);
    // SAFETY: plain bytes.
    if unsafe { EXEC_BEFORE.get(old_pid) }.is_some() {
        let _ = executed(old_pid, bprm);
    }
    0
}

#[inline(always)]
fn executed(old_pid: u32, bprm: Address) -> Option<()> {
    let (mark, current, key) = mark::find_current()?;
    // A thread that was made inside a load takes the place of its process, and its own number is gone.
    let _ = THREADS.remove(old_pid);
    // SAFETY: a live map value.
    match unsafe { mark::role_of(mark) } {
        role::OWN => {
            count(Counter::CanaryExec);
            return None;
        }
        role::READER => {
            // SAFETY: as above; read before it is removed.
            let set = unsafe { (*mark).set };
            return unmarked(current, key, set);
        }
        _ => {}
    }
    // SAFETY: as above.
    let set = LOAD_SETS.get_ptr_mut(unsafe { (*mark).set })?;
    // SAFETY: plain bytes.
    let before = unsafe { EXEC_BEFORE.get(old_pid) }.copied();
    let held = before.map_or(0, |before| before.held as u8);
    if before.is_some() {
        let _ = EXEC_BEFORE.remove(old_pid);
        // SAFETY: as above. The new program began inside the window, as a child would have.
        unsafe { (*mark).born |= held };
    }
    // SAFETY: as above.
    let id = unsafe { (*mark).set };
    if mark::sensor_counts(id) == 0 {
        // Nothing that was opened is a model, as the path files of every Python: what the program is will be said with its
        // first load, which has to find no mark for that.
        return unmarked(current, key, id);
    }
    // What it runs from now on is said below as well, but not who stands above it.
    // SAFETY: as above, the mark of the current task.
    unsafe { introduce::first(mark, current) };
    let file: Address = needed(field!(bprm, bprm_file, Address))?;
    let inode: Address = needed(field!(file, file_inode, Address))?;
    let mm: Address = needed(field!(current, task_mm, Address))?;
    let area = Area::claim()?;
    let record: *mut Exec = area.record();
    let bytes = area.bytes();
    // SAFETY: the area is larger than the record's fixed part; mark and set are live map values.
    let artifacts = unsafe {
        task::write_header::<Checked>(&raw mut (*record).header, kind::EXEC, current, key);
        (*record).exe = file::key_of::<Checked>(inode).unwrap_or_default();
        (*record).nlink = field!(inode, inode_nlink, u32).unwrap_or(1);
        (*record).reserved = [0; 6];
        emit::write_load(&raw mut (*record).load, mark, set, held, 0, UNKNOWN_MS)
    };
    let strings = emit::write_artifacts(bytes, size_of::<Exec>() as u64, set, artifacts);
    let exe = emit::forget(file::write_path(bytes, strings, file, EXE_BYTES_MAX as u64));
    let exe_end = exe & 0xffff;
    let argv = emit::write_argv::<Checked>(bytes, exe_end, mm);
    let end = argv & 0xffff;
    // SAFETY: as above.
    unsafe {
        (*record).exe_len = (exe_end - strings) as u16;
        (*record).argv_len = (end - exe_end) as u16;
        (*record).truncated = (exe >> 32 & 1) as u16 * 2 | (argv >> 32 & 1) as u16 * 4;
    }
    area.send(&RING_PRIORITY, end);
    gained(before?, file)
}

/// The new program carries nothing of what the one before opened. What userspace knows of that one is no longer true.
#[inline(always)]
fn unmarked(current: Address, key: TaskKey, set: u64) -> Option<()> {
    if !mark::remove(key.tgid) {
        return None;
    }
    mark::unref(set);
    let area = Area::claim()?;
    // SAFETY: the area is larger than the record.
    unsafe { task::write_header::<Checked>(area.record::<Header>(), kind::UNMARK, current, key) };
    area.send(&RING_PRIORITY, size_of::<Header>() as u64);
    None
}

/// Effective user and permitted capabilities.
#[inline(always)]
fn privileges(task: Address) -> Option<(u32, u64)> {
    let cred: Address = field!(task, task_cred, Address)?;
    Some((field!(cred, cred_euid, u32)?, field!(cred, cred_permitted, u64)?))
}

/// The program gave its caller what it had not: a setuid bit, or capabilities of the file.
#[inline(always)]
fn gained(before: Before, file: Address) -> Option<()> {
    let (euid, permitted) = privileges(task::current())?;
    let became_root = euid == 0 && before.euid != 0;
    if !became_root && permitted & !before.permitted == 0 {
        return None;
    }
    act::tell(call::EXEC_GAIN, 0, u64::from(before.euid), Path::of_file(file)?);
    Some(())
}
