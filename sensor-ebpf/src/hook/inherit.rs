//! A program is started with a model's descriptor: by a shell's redirection, or by whoever opened it for its child.
//!
//! `tp_btf/sched_process_exec` (match-proto: include/trace/events/sched.h: TP_PROTO(struct task_struct *p, pid_t
//! old_pid, struct linux_binprm *bprm)), beside the program that reports execs, and after it: what is open now was
//! handed over on purpose, close-on-exec has closed the rest. Who is marked is known already.

use core::ffi::{c_long, c_void};

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use sensor_abi::counter::Counter;
use sensor_abi::mark::role;
use sensor_abi::record::reason;

use super::receive::got;
use crate::descriptors::{self, Step};
use crate::emit;
use crate::field::{Address, Checked, Direct, Reach, config, field, member, offset};
use crate::maps::{INHERITED, count, lose};
use crate::repeat::{self, repeat};
use crate::{file, judge, mark, program, task};

/// Descriptors and words of the table's bitmap that are looked at.
const STEPS_MAX: u32 = 4_096;
/// The same where the loop has to be unrolled.
const STEPS_UNROLLED_MAX: u32 = 24;

#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec_inherits(ctx: BtfTracePointContext) -> i32 {
    let bprm: *const u8 = ctx.arg(2);
    let _ = inherits(bprm);
    0
}

#[inline(always)]
fn inherits(bprm: Address) -> Option<()> {
    let tgid = task::current_tgid();
    if tgid == config!(own_tgid) {
        return None;
    }
    let exe: Address = member!(Direct, bprm, bprm_file, Address)?;
    program::executed::<Direct>(tgid, member!(Direct, exe, file_path_dentry, Address)?);
    if let Some(mark) = mark::of(tgid) {
        // SAFETY: a live map value.
        if unsafe { (*mark).role } == role::OWN {
            // What our own child opens is looked at by the same rule as what CPython does: so it can prove that it has the
            // very file, whatever that is called.
            program::set_python(tgid);
            count(Counter::CanaryInherit);
        }
        return None;
    }
    let mut walk = if config!(has_known_task) != 0 {
        let task = task::current_known();
        if has_streams_only(task).is_some() {
            return None;
        }
        Walk::of::<Direct>(task)?
    } else {
        Walk::of::<Checked>(task::current())?
    };
    // Kernels before 6.7 check the step once, with what the walk begins with: what they know of that would be known of
    // every turn, and the rest of the step taken for dead, and removed.
    walk.forget();
    // SAFETY: the step takes a `Walk`.
    unsafe { repeat::<_, STEPS_UNROLLED_MAX>(STEPS_MAX, &mut walk, step) };
    if walk.models > 1 {
        lose(Counter::InheritedMore);
    } else if !walk.open.is_through() {
        count(Counter::WalkCut);
    }
    if walk.models != 0 {
        let _ = INHERITED.insert(task::current_tid(), walk.found, 0);
    }
    Some(())
}

/// Descriptors that almost every program is started with: standard input, output and error.
const STANDARD: u32 = 3;

/// Nothing but those is open, and no file that has content: that needs no walk. Only in a table that is still the first,
/// inside `files_struct`, which the verifier knows.
#[inline(always)]
fn has_streams_only(task: Address) -> Option<()> {
    let files: Address = member!(Direct, task, task_files, Address)?;
    let table: Address = member!(Direct, files, files_fdt, Address)?;
    let open = member!(Direct, files, files_open_fds, u64)?;
    if table != files.wrapping_add(offset!(files_fdtab) as usize) || open >> STANDARD != 0 {
        return None;
    }
    for fd in 0..STANDARD {
        let file: Address = Direct::read(files, offset!(files_fd_array) + 8 * fd)?;
        let inode: Address = member!(Direct, file, file_inode, Address)?;
        if file::is_regular::<Direct>(inode) {
            return None;
        }
    }
    Some(())
}

/// The second half, a program of its own: with the walk's stack below it, marking would take more than a program may have
/// (512 bytes).
#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec_inherited(_ctx: BtfTracePointContext) -> i32 {
    let tid = task::current_tid();
    // SAFETY: plain bytes.
    let Some(found) = unsafe { INHERITED.get(tid) }.copied() else { return 0 };
    let _ = INHERITED.remove(tid);
    let _ = inherited(found);
    0
}

/// What the first half looks through, and what it found.
#[repr(C)]
struct Walk {
    open: descriptors::Walk,
    /// The first that a model is open on.
    found: u32,
    /// How many were met; after the second nothing is looked at: counted.
    models: u32,
    /// The file of the descriptor before: standard input, output and error are mostly one.
    last: u64,
}

impl Walk {
    #[inline(always)]
    fn of<R: Reach>(task: Address) -> Option<Self> {
        let files: Address = member!(R, task, task_files, Address)?;
        let open = descriptors::Walk::of::<R>(member!(R, files, files_fdt, Address)?)?;
        Some(Self { open, found: 0, models: 0, last: 0 })
    }

    #[inline(always)]
    fn forget(&mut self) {
        self.open.forget();
        self.last = emit::forget(self.last);
        self.found = emit::forget(u64::from(self.found)) as u32;
        self.models = emit::forget(u64::from(self.models)) as u32;
    }
}

/// One word, or one descriptor.
unsafe extern "C" fn step(_: u32, walk: *mut c_void) -> c_long {
    // SAFETY: `repeat` hands over what `inherits` gave it, on the stack of the caller.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    if config!(has_loop) == 0 {
        walk.forget();
    }
    let fd = match walk.open.step() {
        Step::Word => return repeat::GO_ON,
        Step::Descriptor(fd) => fd,
        Step::End => return repeat::STOP,
    };
    let Some(file) = walk.open.file(fd) else { return repeat::GO_ON };
    if file as u64 == walk.last {
        return repeat::GO_ON;
    }
    walk.last = file as u64;
    if is_model(file).is_some() {
        walk.models += 1;
        if walk.models > 1 {
            return repeat::STOP;
        }
        walk.found = fd;
    }
    repeat::GO_ON
}

#[inline(always)]
fn is_model(file: Address) -> Option<()> {
    if file.is_null() {
        return None;
    }
    let inode: Address = field!(file, file_inode, Address)?;
    if !file::is_regular::<Checked>(inode) {
        return None;
    }
    let mode: u32 = field!(file, file_mode, u32)?;
    if mode & file::FMODE_READ == 0 || mode & file::FMODE_PATH != 0 {
        return None;
    }
    let dentry: Address = field!(file, file_path_dentry, Address)?;
    judge::why::<Checked>(dentry, inode, task::current_tgid(), mode & file::FMODE_WRITE == 0).map(drop)
}

/// The current process was started with a model as its descriptor `fd`.
#[inline(always)]
fn inherited(fd: u32) -> Option<()> {
    got(file::of_descriptor(task::current(), fd)?, fd, reason::INHERITED)
}
