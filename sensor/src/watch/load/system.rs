//! The hooks of acts on the system itself, each with its ladder: LSM, and below it the system calls' own tracepoints.
//!
//! A tracepoint of one system call makes every call of the machine a little slower, so none is attached where the open
//! hook does without: what LSM has no hook for is seen there by `fentry`, or not at all.

use std::os::fd::AsFd;

use aya::maps::HashMap as BpfHashMap;
use aya::programs::{FEntry, ProgramError, TracePoint};
use sensor_abi::act::{Shape, call};
use zerocopy::IntoBytes;

use super::attach::{Attacher, not_found};
use super::plan::{Hook, Rung};
use super::say;
use super::tracepoint::{self, Tracefs};

/// One system call: its name, its number, and what its arguments say.
struct Call {
    name: &'static str,
    number: libc::c_long,
    shape: Shape,
}

impl Call {
    const fn new(name: &'static str, number: libc::c_long, call: u16) -> Self {
        let shape = Shape { call, number: 0, path: 0, folder: 0, file: 0, process: 0, user: 0 };
        Self { name, number, shape }
    }

    /// Argument `which`, counted from 1, is the record's number.
    const fn number(mut self, which: u8) -> Self {
        self.shape.number = which;
        self
    }

    /// … is a path.
    const fn path(mut self, which: u8) -> Self {
        self.shape.path = which;
        self
    }

    /// … is the folder that the path is taken from.
    const fn folder(mut self, which: u8) -> Self {
        self.shape.folder = which;
        self
    }

    /// … is the descriptor of a file.
    const fn file(mut self, which: u8) -> Self {
        self.shape.file = which;
        self
    }

    /// … is a process.
    const fn process(mut self, which: u8) -> Self {
        self.shape.process = which;
        self
    }

    /// … is the effective user that is wanted.
    const fn user(mut self, which: u8) -> Self {
        self.shape.user = which;
        self
    }
}

/// What is seen, and by what.
struct Group {
    event: &'static str,
    /// All of them, or the rung is none.
    lsm: &'static [&'static str],
    /// Programs, and the kernel functions that they are for, in order of preference.
    fentry: &'static [(&'static str, &'static [&'static str])],
    calls: &'static [Call],
    lost: &'static str,
    lost_by_calls: &'static str,
}

const GROUPS: [Group; 6] = [
    Group {
        event: "names",
        lsm: &["path_rename", "path_link", "path_symlink"],
        fentry: &[],
        calls: &[
            Call::new("renameat2", libc::SYS_renameat2, call::RENAME).folder(3).path(4),
            Call::new("renameat", libc::SYS_renameat, call::RENAME).folder(3).path(4),
            Call::new("linkat", libc::SYS_linkat, call::LINK).folder(3).path(4),
            Call::new("symlinkat", libc::SYS_symlinkat, call::SYMLINK).folder(2).path(3),
            #[cfg(target_arch = "x86_64")]
            Call::new("rename", libc::SYS_rename, call::RENAME).path(2),
            #[cfg(target_arch = "x86_64")]
            Call::new("link", libc::SYS_link, call::LINK).path(2),
            #[cfg(target_arch = "x86_64")]
            Call::new("symlink", libc::SYS_symlink, call::SYMLINK).path(2),
        ],
        lost: "a file that is put in place by rename or link, so that it runs again without the loader, is not seen",
        lost_by_calls: "of renames and links, the names are those that the caller wrote: links on the way aren't followed; those \
                        by io_uring and by 32-bit calls are not seen",
    },
    Group {
        event: "ptrace",
        lsm: &["ptrace_access_check"],
        fentry: &[],
        calls: &[
            Call::new("ptrace", libc::SYS_ptrace, call::PTRACE).number(1).process(2),
            Call::new("process_vm_readv", libc::SYS_process_vm_readv, call::VM_READ).process(1),
            Call::new("process_vm_writev", libc::SYS_process_vm_writev, call::VM_WRITE).process(1),
            Call::new("pidfd_getfd", libc::SYS_pidfd_getfd, call::PIDFD_GETFD),
        ],
        lost: "a loader that reaches into other processes is seen only if it opens their /proc/PID/mem",
        lost_by_calls: "of reaching into other processes, tries that are refused count too; a container's process ids are not \
                        translated, and 32-bit calls are not seen",
    },
    Group {
        event: "kmod",
        lsm: &["kernel_read_file", "kernel_load_data"],
        fentry: &[],
        calls: &[
            Call::new("finit_module", libc::SYS_finit_module, call::MODULE).file(1),
            Call::new("init_module", libc::SYS_init_module, call::MODULE),
            Call::new("kexec_load", libc::SYS_kexec_load, call::KEXEC),
            Call::new("kexec_file_load", libc::SYS_kexec_file_load, call::KEXEC).file(1),
        ],
        lost: "kernel modules that a loader loads are not seen",
        lost_by_calls: "of kernel modules, tries that are refused count too, and 32-bit calls are not seen",
    },
    Group {
        event: "mount",
        lsm: &["sb_mount", "move_mount", "sb_pivotroot"],
        fentry: &[],
        calls: &[
            Call::new("mount", libc::SYS_mount, call::MOUNT).path(2),
            Call::new("move_mount", libc::SYS_move_mount, call::MOUNT).folder(3).path(4),
            Call::new("pivot_root", libc::SYS_pivot_root, call::PIVOT_ROOT).path(1),
        ],
        lost: "what a loader mounts is not seen",
        lost_by_calls: "of mounts, tries that are refused count too, and 32-bit calls are not seen",
    },
    Group {
        event: "privilege",
        lsm: &["task_fix_setuid"],
        fentry: &[],
        calls: &[
            Call::new("setuid", libc::SYS_setuid, call::SETUID).user(1),
            Call::new("setreuid", libc::SYS_setreuid, call::SETUID).user(2),
            Call::new("setresuid", libc::SYS_setresuid, call::SETUID).user(2),
        ],
        lost: "a loader that becomes root by setuid(2) is not seen; by a program that it executes, it is",
        lost_by_calls: "a 32-bit loader that becomes root by setuid(2) is not seen; by a program that it executes, it is",
    },
    Group {
        event: "namespace",
        lsm: &[],
        fentry: &[("ksys_unshare", &["ksys_unshare"]), ("sys_setns", &["__x64_sys_setns", "__arm64_sys_setns"])],
        calls: &[
            Call::new("unshare", libc::SYS_unshare, call::UNSHARE).number(1),
            Call::new("setns", libc::SYS_setns, call::SETNS).number(2),
        ],
        lost: "namespaces that a loader makes or enters are seen only if it makes them for a child",
        lost_by_calls: "of namespaces, tries that are refused count too, and 32-bit calls are not seen",
    },
];

/// The program on all these system calls.
const PROGRAM: &str = "sys_enter_call";

impl Attacher<'_> {
    /// After the open hook, whose rung says which one is open to these.
    pub fn system(&mut self, open: Option<Rung>) -> Vec<Hook> {
        GROUPS.iter().map(|group| self.group(group, open)).collect()
    }

    fn group(&mut self, group: &Group, open: Option<Rung>) -> Hook {
        let mut hook = Hook::new(group.event, false, group.lost);
        if open == Some(Rung::Tracepoint) {
            hook.why_not_better.push("lsm: not tried, since it doesn't run for the open hook either".to_owned());
            let attached = self.calls(group.calls, &mut hook);
            hook.settle(Rung::Tracepoint, attached, group.lost_by_calls);
        } else if group.lsm.is_empty() {
            let attached = group.fentry.iter().try_for_each(|(name, functions)| self.fentry(name, functions));
            hook.settle(Rung::Fentry, attached, "");
        } else {
            let attached = group.lsm.iter().try_for_each(|name| self.lsm(name));
            hook.settle(Rung::Lsm, attached, "");
        }
        hook
    }

    fn fentry(&mut self, name: &'static str, functions: &[&str]) -> Result<(), String> {
        let mut last = not_found(name);
        for function in functions {
            let attached = (|| -> Result<(), ProgramError> {
                let program: &mut FEntry = self.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
                program.load(function, self.btf)?;
                program.attach()?;
                Ok(())
            })();
            match attached {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(say(&last))
    }

    /// Puts the one program on each of `calls`; those that the kernel hasn't are said in `hook`.
    fn calls(&mut self, calls: &[Call], hook: &mut Hook) -> Result<(), String> {
        let tracefs = self.tracefs.get_or_insert_with(|| Tracefs::open().map_err(|e| format!("tracefs: {e}")));
        let tracefs = tracefs.as_ref().map_err(Clone::clone)?;
        let map = self.ebpf.map_mut("CALLS").ok_or("no map CALLS in the object")?;
        let mut shapes: BpfHashMap<_, u32, [u8; 8]> = BpfHashMap::try_from(map).map_err(|e| e.to_string())?;
        for call in calls {
            let mut shape = [0; size_of::<Shape>()];
            shape.copy_from_slice(call.shape.as_bytes());
            shapes.insert(call.number as u32, shape, 0).map_err(|e| e.to_string())?;
        }
        let program: &mut TracePoint = self
            .ebpf
            .program_mut(PROGRAM)
            .ok_or_else(|| format!("no program {PROGRAM} in the object"))?
            .try_into()
            .map_err(|e: ProgramError| say(&e))?;
        if program.fd().is_err() {
            program.load().map_err(|e| say(&e))?;
        }
        let fd = program.fd().map_err(|e| say(&e))?;
        let mut missing = Vec::new();
        for call in calls {
            let event = format!("sys_enter_{}", call.name);
            match tracefs.id("syscalls", &event).and_then(|id| tracepoint::attach(fd.as_fd(), id)) {
                Ok(link) => self.tracepoints.push(link),
                Err(error) => missing.push(format!("syscalls/{event}: {error}")),
            }
        }
        if missing.len() == calls.len() {
            return Err(missing.join("; "));
        }
        hook.why_not_better.extend(missing);
        Ok(())
    }
}
