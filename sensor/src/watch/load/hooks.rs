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
    pub below: Option<Tracepoints>,
}

/// What stands in for a hook at the edge of system calls.
#[derive(Debug, Clone, Copy)]
pub struct Tracepoints {
    pub program: &'static str,
    /// Of category `syscalls`. Some kernels lack some: that is said, and the others do.
    pub names: &'static [&'static str],
    /// What is lost even so.
    pub lost: &'static str,
}

impl SecurityHook {
    const fn new(name: &'static str, lost: &'static str) -> Self {
        Self { name, event: name, required: false, lost, below: None }
    }

    const fn called(self, event: &'static str) -> Self {
        Self { event, ..self }
    }

    const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    const fn or(self, below: Tracepoints) -> Self {
        Self { below: Some(below), ..self }
    }
}

/// In the order of attaching: what begins a load comes last, so that nothing that the load does is missed.
pub const SECURITY_HOOKS: &[SecurityHook] = &[
    SecurityHook::new("socket_connect", "connections of vsock and SCTP sockets are not seen"),
    SecurityHook::new(
        "socket_sendmsg",
        "what raw, packet, ping and SCTP sockets send is not seen, and of connected UDP sockets only the connect is",
    ),
    SecurityHook::new(
        "bprm_creds_for_exec",
        "a program that a loader runs in its own place counts as started shortly after the load, not in it",
    )
    .called("exec_window")
    .or(Tracepoints {
        program: "sys_enter_execve",
        names: &["sys_enter_execve", "sys_enter_execveat"],
        lost: "a program that a loader runs in its own place by a 32-bit call counts as started shortly after the load",
    }),
    SecurityHook::new("file_receive", "a model's descriptor that another process passes on is not seen")
        .called("receive")
        .or(Tracepoints {
            program: "sys_exit_open",
            names: &["sys_exit_pidfd_getfd"],
            lost: "a model's descriptor that another process passes over a socket is not seen",
        }),
    SecurityHook::new("file_open", "loads are not seen at all").called("open").required().or(Tracepoints {
        program: "sys_exit_open",
        names: &["sys_exit_openat", "sys_exit_open", "sys_exit_openat2", "sys_exit_open_by_handle_at"],
        lost: "opens by io_uring and by 32-bit calls are not seen",
    }),
];
