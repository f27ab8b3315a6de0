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
}

/// What stands in for a hook where no security function can be entered.
#[derive(Debug, Clone, Copy)]
pub enum Below {
    Tracepoints(Tracepoints),
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
        Self { name, event: name, required: false, lost, below: None }
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
}

/// Both ends of connect(2).
const CONNECT_CALLS: &[(&str, &[&str])] =
    &[("sys_enter_connect", &["sys_enter_connect"]), ("sys_exit_connect", &["sys_exit_connect"])];

/// In the order of attaching: what begins a load comes last, so that nothing that the load does is missed.
pub const SECURITY_HOOKS: &[SecurityHook] = &[
    SecurityHook::new("socket_connect", "connections of vsock and SCTP sockets are not seen").or(Tracepoints {
        programs: CONNECT_CALLS,
        lost: "connections of SCTP sockets, and of vsock sockets by io_uring, are not seen",
    }),
    SecurityHook::new(
        "socket_sendmsg",
        "what packet and SCTP sockets send is not seen, and of connected UDP sockets only the connect and DNS are",
    )
    .or_typed("sock_send_length", "what SCTP sockets send is not seen"),
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
    SecurityHook::new("file_open", "loads are not seen at all").called("open").required().or(Tracepoints {
        programs: &[("sys_exit_open", &["sys_exit_openat", "sys_exit_open", "sys_exit_openat2"])],
        lost: "opens by io_uring, by open_by_handle_at and by 32-bit calls are not seen",
    }),
];
