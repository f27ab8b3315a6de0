//! The hooks on the kernel's security functions, as data: a line here, a `security_hook!` in the kernel half.

/// A hook on kernel function `security_NAME`.
#[derive(Debug, Clone, Copy)]
pub struct SecurityHook {
    pub name: &'static str,
    /// Its word in the plan.
    pub event: &'static str,
    /// Without it the sensor is degraded.
    pub required: bool,
    /// What this host does not see where no rung takes it.
    pub lost: &'static str,
    pub below: Option<Below>,
    /// Only where no better rung runs at all: a tracepoint of one system call slows all of them down.
    pub below_is_last: bool,
}

/// What stands in for a hook where no security function can be entered.
#[derive(Debug, Clone, Copy)]
pub enum Below {
    Tracepoints(Tracepoints),
    /// Of calls, by the program that reads their arguments, and what is lost even so.
    Calls(&'static [&'static str], &'static str),
    /// A typed tracepoint, by the name of its program, and what is lost even so.
    Typed(&'static str, &'static str),
}

/// What stands in for a hook at the edge of system calls.
#[derive(Debug, Clone, Copy)]
pub struct Tracepoints {
    /// Each with what it is attached to, of category `syscalls`. Some kernels lack some: that is said, and the others do.
    pub programs: &'static [(&'static str, &'static [&'static str])],
    /// What is lost even so.
    pub lost: &'static str,
}

impl SecurityHook {
    const fn new(name: &'static str, lost: &'static str) -> Self {
        Self { name, event: name, required: false, lost, below: None, below_is_last: false }
    }

    const fn called(self, event: &'static str) -> Self {
        Self { event, ..self }
    }

    const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    const fn or(self, below: Tracepoints) -> Self {
        Self { below: Some(Below::Tracepoints(below)), ..self }
    }

    const fn or_typed(self, program: &'static str, lost: &'static str) -> Self {
        Self { below: Some(Below::Typed(program, lost)), ..self }
    }

    /// The same calls by the program that reads their arguments.
    const fn or_calls(self, names: &'static [&'static str], lost: &'static str) -> Self {
        Self { below_is_last: true, below: Some(Below::Calls(names, lost)), ..self }
    }
}

/// Both ends of connect(2).
const CONNECT_CALLS: &[(&str, &[&str])] =
    &[("sys_enter_connect", &["sys_enter_connect"]), ("sys_exit_connect", &["sys_exit_connect"])];
const NAMES_AS_WRITTEN: &str =
    "names are those that the caller wrote: links on the way aren't followed; 32-bit calls are not seen";

/// Together they tell of connects by IPv4 and IPv6 too ([`super::network`]).
pub const SOCKET_HOOKS: [SecurityHook; 2] = [
    SecurityHook::new("socket_connect", "connections of vsock and SCTP sockets are not seen").or(Tracepoints {
        programs: CONNECT_CALLS,
        lost: "connections of SCTP sockets, and of vsock sockets by io_uring, are not seen",
    }),
    SecurityHook::new(
        "socket_sendmsg",
        "what packet and SCTP sockets send is not seen, and of connected UDP sockets only the connect and DNS are",
    )
    .or_typed("sock_send_length", "what SCTP sockets send is not seen"),
];

/// The others, in the order of attaching: what begins a load comes last, so that nothing that the load does is missed.
pub const SECURITY_HOOKS: &[SecurityHook] = &[
    SecurityHook::new("unix_stream_connect", "what a loader asks of docker, D-Bus or a proxy is not seen")
        .called("unix")
        .or(Tracepoints {
            programs: CONNECT_CALLS,
            lost: "connections to unix sockets that are refused, or made by io_uring, are not seen",
        }),
    SecurityHook::new("unix_may_send", "datagrams to unix sockets that were not connected are not seen")
        .called("unix_datagram"),
    SecurityHook::new("sock_graft", "accepted connections are not seen; that a loader listens is").called("accept").or(
        Tracepoints {
            programs: &[("sys_exit_accept", &["sys_exit_accept4", "sys_exit_accept"])],
            lost: "connections that are accepted by io_uring are not seen",
        },
    ),
    SecurityHook::new(
        "bprm_creds_for_exec",
        "a program that a loader runs in its own place counts as started shortly after the load, not in it",
    )
    .called("exec_window")
    .or(Tracepoints {
        programs: &[("sys_enter_execve", &["sys_enter_execve", "sys_enter_execveat"])],
        lost: "a program that a loader runs in its own place by a 32-bit call counts as started shortly after the load",
    }),
    SecurityHook::new(
        "path_rename",
        "a file that is put in place by rename, so that it runs without the loader, is not seen, nor a secret that gets \
         another name",
    )
    .called("rename")
    .or_calls(&["sys_enter_rename", "sys_enter_renameat", "sys_enter_renameat2"], NAMES_AS_WRITTEN),
    SecurityHook::new(
        "path_link",
        "a file that is put in place by link, so that it runs without the loader, is not seen, nor a secret or such a file \
         that gets another name",
    )
    .called("link")
    .or_calls(&["sys_enter_link", "sys_enter_linkat"], NAMES_AS_WRITTEN),
    SecurityHook::new(
        "path_symlink",
        "a link that is put in place, so that its file runs without the loader, is not seen",
    )
    .called("symlink")
    .or_calls(&["sys_enter_symlink", "sys_enter_symlinkat"], NAMES_AS_WRITTEN),
    SecurityHook::new("path_unlink", "a loader that removes its model before that was read is not seen")
        .called("unlink")
        .or_calls(&["sys_enter_unlink", "sys_enter_unlinkat"], NAMES_AS_WRITTEN),
    SecurityHook::new("path_truncate", "a loader that cuts its model short before that was read is not seen")
        .called("truncate")
        .or_calls(&["sys_enter_truncate"], NAMES_AS_WRITTEN),
    SecurityHook::new("path_chmod", "a loader that lets a program run as its owner (setuid) is not seen")
        .called("chmod")
        .or_calls(
            &["sys_enter_chmod", "sys_enter_fchmod", "sys_enter_fchmodat", "sys_enter_fchmodat2"],
            "of programs that are to run as their owners, tries that are refused count too, and 32-bit calls are not seen",
        ),
    SecurityHook::new("inode_setxattr", "a loader that gives a program capabilities is not seen")
        .called("file_capabilities")
        .or_calls(
            &["sys_enter_setxattr", "sys_enter_lsetxattr", "sys_enter_fsetxattr"],
            "of programs that are given capabilities, tries that are refused count too, and 32-bit calls are not seen",
        ),
    SecurityHook::new("bpf", "programs that a loader loads into the kernel by bpf(2) are not seen")
        .or_calls(&["sys_enter_bpf"], "of bpf(2), tries that are refused count too, and 32-bit calls are not seen"),
    SecurityHook::new("socket_bind", "AF_XDP sockets, which pass by the kernel's network, are not seen")
        .called("xdp")
        .or_calls(&["sys_enter_bind"], "AF_XDP sockets of 32-bit programs are not seen"),
    SecurityHook::new(
        "ptrace_access_check",
        "a loader that reaches into other processes is seen only if it opens their memory",
    )
    .called("ptrace")
    .or_calls(
        &["sys_enter_ptrace", "sys_enter_process_vm_readv", "sys_enter_process_vm_writev", "sys_enter_pidfd_getfd"],
        "of reaching into other processes, tries that are refused count too; a container's process ids are not \
             translated, and 32-bit calls are not seen",
    ),
    SecurityHook::new("kernel_read_file", "kernel modules that a loader loads from files are not seen")
        .called("module_file")
        .or_calls(
            &["sys_enter_finit_module", "sys_enter_kexec_file_load"],
            "of kernel modules, tries that are refused count too, and 32-bit calls are not seen",
        ),
    SecurityHook::new("kernel_load_data", "kernel modules that a loader loads from its memory are not seen")
        .called("module_data")
        .or_calls(
            &["sys_enter_init_module", "sys_enter_kexec_load"],
            "of kernel modules, tries that are refused count too, and 32-bit calls are not seen",
        ),
    SecurityHook::new("sb_mount", "what a loader mounts is not seen")
        .called("mount")
        .or_calls(&["sys_enter_mount"], "of mounts, tries that are refused count too, and 32-bit calls are not seen"),
    SecurityHook::new("move_mount", "mounts that a loader moves into place are not seen").or_calls(
        &["sys_enter_move_mount"],
        "of moved mounts, tries that are refused count too, and 32-bit calls are not seen",
    ),
    SecurityHook::new("sb_pivotroot", "a loader that takes another root is not seen").called("pivot_root").or_calls(
        &["sys_enter_pivot_root"],
        "of changed roots, tries that are refused count too, and 32-bit calls are not seen",
    ),
    SecurityHook::new("task_fix_setuid", "a loader that becomes root by setuid(2) is not seen; by a program, it is")
        .called("privilege")
        .or_calls(
            &["sys_enter_setuid", "sys_enter_setreuid", "sys_enter_setresuid"],
            "a 32-bit loader that becomes root by setuid(2) is not seen; by a program, it is",
        ),
    SecurityHook::new("file_receive", "a model's descriptor that another process passes on is not seen")
        .called("receive")
        .or(Tracepoints {
            programs: &[("sys_exit_open", &["sys_exit_pidfd_getfd"])],
            lost: "a model's descriptor that another process passes over a socket is not seen",
        }),
    SecurityHook::new("file_open", "loads are not seen at all").called("open").required().or(Tracepoints {
        programs: &[(
            "sys_exit_open",
            &["sys_exit_openat", "sys_exit_open", "sys_exit_openat2", "sys_exit_open_by_handle_at", "sys_exit_creat"],
        )],
        lost: "opens by io_uring and by 32-bit calls are not seen",
    }),
];
