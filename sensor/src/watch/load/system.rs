//! Acts on the system at the edge of system calls: what the arguments of each call say; and namespaces, which have no
//! security function.

use aya::maps::HashMap as BpfHashMap;
use sensor_abi::act::{Shape, call};
use zerocopy::IntoBytes;

use super::attach::Attacher;
use super::held::Attachment;
use super::plan::{Hook, Rung};

/// One system call: its number, and what its arguments say.
struct Call {
    number: libc::c_long,
    shape: Shape,
}

impl Call {
    const fn new(number: libc::c_long, call: u16) -> Self {
        let shape = Shape {
            call,
            number: 0,
            path: 0,
            folder: 0,
            file: 0,
            process: 0,
            user: 0,
            old: 0,
            old_folder: 0,
            flags: 0,
            reserved: 0,
        };
        Self { number, shape }
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

    /// … is the old name.
    const fn old(mut self, which: u8) -> Self {
        self.shape.old = which;
        self
    }

    /// … is the folder that the old name is taken from.
    const fn old_folder(mut self, which: u8) -> Self {
        self.shape.old_folder = which;
        self
    }

    /// … has the flags of a rename.
    const fn flags(mut self, which: u8) -> Self {
        self.shape.flags = which;
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

/// `include/uapi/asm-generic/unistd.h`, 6.6.
const SYS_FCHMODAT2: libc::c_long = 452;

const CALLS: &[Call] = &[
    Call::new(libc::SYS_renameat2, call::RENAME).old_folder(1).old(2).folder(3).path(4).flags(5),
    Call::new(libc::SYS_renameat, call::RENAME).old_folder(1).old(2).folder(3).path(4),
    Call::new(libc::SYS_linkat, call::LINK).old_folder(1).old(2).folder(3).path(4),
    Call::new(libc::SYS_symlinkat, call::SYMLINK).folder(2).path(3),
    #[cfg(target_arch = "x86_64")]
    Call::new(libc::SYS_rename, call::RENAME).old(1).path(2),
    #[cfg(target_arch = "x86_64")]
    Call::new(libc::SYS_link, call::LINK).old(1).path(2),
    #[cfg(target_arch = "x86_64")]
    Call::new(libc::SYS_symlink, call::SYMLINK).path(2),
    Call::new(libc::SYS_unlinkat, call::DESTROY).folder(1).path(2),
    #[cfg(target_arch = "x86_64")]
    Call::new(libc::SYS_unlink, call::DESTROY).path(1),
    Call::new(libc::SYS_truncate, call::DESTROY).path(1),
    #[cfg(target_arch = "x86_64")]
    Call::new(libc::SYS_chmod, call::SET_USER_ID).path(1).number(2),
    Call::new(libc::SYS_fchmod, call::SET_USER_ID).file(1).number(2),
    Call::new(libc::SYS_fchmodat, call::SET_USER_ID).folder(1).path(2).number(3),
    Call::new(SYS_FCHMODAT2, call::SET_USER_ID).folder(1).path(2).number(3),
    Call::new(libc::SYS_setxattr, call::SET_CAPABILITIES).path(1).number(2),
    Call::new(libc::SYS_lsetxattr, call::SET_CAPABILITIES).path(1).number(2),
    Call::new(libc::SYS_fsetxattr, call::SET_CAPABILITIES).file(1).number(2),
    Call::new(libc::SYS_bpf, call::BPF).number(1),
    Call::new(libc::SYS_bind, call::XDP).number(1),
    Call::new(libc::SYS_ptrace, call::PTRACE).number(1).process(2),
    Call::new(libc::SYS_process_vm_readv, call::VM_READ).process(1),
    Call::new(libc::SYS_process_vm_writev, call::VM_WRITE).process(1),
    Call::new(libc::SYS_pidfd_getfd, call::PIDFD_GETFD),
    Call::new(libc::SYS_finit_module, call::MODULE).file(1),
    Call::new(libc::SYS_init_module, call::MODULE),
    Call::new(libc::SYS_kexec_load, call::KEXEC),
    Call::new(libc::SYS_kexec_file_load, call::KEXEC).file(1),
    Call::new(libc::SYS_mount, call::MOUNT).path(2),
    Call::new(libc::SYS_move_mount, call::MOUNT).folder(3).path(4),
    Call::new(libc::SYS_pivot_root, call::PIVOT_ROOT).path(1),
    Call::new(libc::SYS_setuid, call::SETUID).user(1),
    Call::new(libc::SYS_setreuid, call::SETUID).user(2),
    Call::new(libc::SYS_setresuid, call::SETUID).user(2),
    Call::new(libc::SYS_unshare, call::UNSHARE).number(1),
    Call::new(libc::SYS_setns, call::SETNS).number(2),
];

/// The program on all these calls.
pub const PROGRAM: &str = "sys_enter_call";

impl Attacher<'_> {
    /// Tells the kernel half what the arguments of each call say. To be done before anything is attached.
    pub fn describe_calls(&mut self) -> Result<(), aya::maps::MapError> {
        let Some(map) = self.ebpf.map_mut("CALLS") else { return Ok(()) };
        let mut shapes: BpfHashMap<_, u32, [u8; size_of::<Shape>()]> = BpfHashMap::try_from(map)?;
        for call in CALLS {
            let mut shape = [0; size_of::<Shape>()];
            shape.copy_from_slice(call.shape.as_bytes());
            shapes.insert(call.number as u32, shape, 0)?;
        }
        Ok(())
    }

    /// unshare(2) and setns(2).
    pub fn namespace(&mut self) -> Hook {
        let lost = "namespaces that a loader makes or enters are seen only if it makes them for a child";
        let mut hook = Hook::new("namespace", false, lost);
        for rung in [Rung::Fentry, Rung::Kprobe] {
            if self.runs(rung) {
                // Both or none: one of them would tell of it twice, beside what the next rung has.
                let unshare = self.enter(rung, "unshare", &["ksys_unshare"]);
                let both = unshare.and_then(|unshare| {
                    Ok([unshare, self.enter(rung, "setns", &["__x64_sys_setns", "__arm64_sys_setns"])?])
                });
                let attached = both.map(|both| self.attachments.extend(both));
                hook.settle(rung, attached, "");
                if hook.rung.is_some() {
                    return hook;
                }
            }
        }
        if self.runs_at_calls_only() {
            let names = ["sys_enter_unshare", "sys_enter_setns"];
            let attached = self.tracepoint(PROGRAM, "syscalls", &names, &mut hook);
            hook.settle(
                Rung::Tracepoint,
                attached,
                "of namespaces, tries that are refused count too, and 32-bit calls are not seen",
            );
        }
        hook
    }

    /// Attaches `RUNG_NAME` to the first of `functions` that the kernel has.
    fn enter(&mut self, rung: Rung, name: &str, functions: &[&str]) -> Result<Attachment, String> {
        let name = format!("{}_{name}", rung.name());
        let mut why = Vec::new();
        for function in functions {
            match self.attach_to(&name, function) {
                Ok(attachment) => return Ok(attachment),
                Err(error) => why.push(format!("{function}: {error}")),
            }
        }
        Err(why.join("; "))
    }
}
