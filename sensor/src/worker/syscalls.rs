//! The seccomp lists: what each kind of child may ask of the kernel.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::spawn::Role;

/// The allowed calls; an empty list of rules allows a call whatever its arguments.
type List = BTreeMap<i64, Vec<SeccompRule>>;

/// Puts the list of `role` on this process, for ever. `false`: the kernel has no seccomp filters.
pub fn apply(role: Role) -> io::Result<bool> {
    let program = compile(role).map_err(io::Error::other)?;
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(true),
        Err(seccompiler::Error::Prctl(error)) | Err(seccompiler::Error::Seccomp(error))
            if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) =>
        {
            Ok(false)
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

fn compile(role: Role) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut list = List::new();
    everyone(&mut list)?;
    let otherwise = match role {
        Role::Scan => {
            allow(&mut list, &[libc::SYS_pread64, libc::SYS_recvmsg, libc::SYS_fstat, libc::SYS_statx]);
            // Its CPU time, anew for every file; of itself only.
            list.insert(libc::SYS_prlimit64, vec![rule(&[(0, SeccompCmpOp::Eq, 0)])?]);
            SeccompAction::KillProcess
        }
        Role::Open | Role::Process => {
            reader(&mut list)?;
            if role == Role::Open {
                allow(&mut list, &[libc::SYS_openat2, libc::SYS_sendmsg]);
            }
            SeccompAction::Errno(libc::EPERM as u32)
        }
    };
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(list, otherwise, SeccompAction::Allow, arch)?.try_into()
}

fn allow(list: &mut List, calls: &[i64]) {
    list.extend(calls.iter().map(|call| (*call, Vec::new())));
}

/// One way in which a call is allowed: all of these arguments are so (compared as 32 bits).
fn rule(arguments: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = arguments
        .iter()
        .map(|(index, op, value)| SeccompCondition::new(*index, SeccompCmpArgLen::Dword, op.clone(), *value));
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// Memory, time, its own end, and talking on the sockets that it was given.
fn everyone(list: &mut List) -> Result<(), seccompiler::BackendError> {
    allow(
        list,
        &[
            libc::SYS_read,
            libc::SYS_readv,
            libc::SYS_close,
            libc::SYS_brk,
            libc::SYS_mremap,
            libc::SYS_munmap,
            libc::SYS_madvise,
            libc::SYS_sigaltstack,
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigreturn,
            libc::SYS_restart_syscall,
            libc::SYS_futex,
            libc::SYS_sched_yield,
            libc::SYS_clock_gettime,
            libc::SYS_gettimeofday,
            libc::SYS_getrandom,
            libc::SYS_getpid,
            libc::SYS_gettid,
            libc::SYS_exit,
            libc::SYS_exit_group,
        ],
    );
    // The channel, and a panic's last words (standard error is null).
    list.insert(libc::SYS_write, vec![rule(&[(0, SeccompCmpOp::Eq, 0)])?, rule(&[(0, SeccompCmpOp::Eq, 2)])?]);
    // No memory that can be executed.
    let no_exec = || rule(&[(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)]);
    list.insert(libc::SYS_mmap, vec![no_exec()?]);
    list.insert(libc::SYS_mprotect, vec![no_exec()?]);
    // abort(3), which an allocation that failed ends in.
    list.insert(libc::SYS_tgkill, vec![rule(&[(2, SeccompCmpOp::Eq, libc::SIGABRT as u64)])?]);
    list.insert(libc::SYS_fcntl, vec![rule(&[(1, SeccompCmpOp::Eq, libc::F_GETFD as u64)])?]);
    Ok(())
}

/// Looking at files and folders: opens that can neither write, make nor cut one.
fn reader(list: &mut List) -> Result<(), seccompiler::BackendError> {
    allow(
        list,
        &[
            libc::SYS_fstat,
            libc::SYS_statx,
            libc::SYS_newfstatat,
            libc::SYS_fstatfs,
            libc::SYS_readlinkat,
            libc::SYS_getdents64,
            libc::SYS_lseek,
        ],
    );
    // O_TMPFILE without the O_DIRECTORY that it includes.
    let tmpfile = libc::O_TMPFILE & !libc::O_DIRECTORY;
    let writing = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | tmpfile) as u64;
    list.insert(libc::SYS_openat, vec![rule(&[(2, SeccompCmpOp::MaskedEq(writing), 0)])?]);
    #[cfg(target_arch = "x86_64")]
    {
        // musl still uses the old names.
        list.insert(libc::SYS_open, vec![rule(&[(1, SeccompCmpOp::MaskedEq(writing), 0)])?]);
        allow(list, &[libc::SYS_stat, libc::SYS_lstat, libc::SYS_readlink]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_compiles_within_the_kernels_limit() {
        for role in [Role::Open, Role::Scan, Role::Process] {
            let program = compile(role).unwrap();
            // BPF_MAXINSNS
            assert!(program.len() <= 4096, "{role:?}: {}", program.len());
        }
    }
}
