//! Child processes of the daemon: everything that reads what an attacker wrote, or can block for ever, happens in one.
//!
//! Three kinds, all this same binary (`sensor worker open|scan|process`), each with sockets as its only way out:
//!
//! - **open** finds the very file that a process opened and opens it without being fooled or held up. It never reads
//!   the content. It runs without Landlock, on purpose: Landlock forbids a process to look into others that don't share
//!   its domain (security/landlock/task.c, `hook_ptrace_access_check`), and `/proc/PID/fd/N` is such a look.
//! - **scan** is handed that one descriptor by the opener and parses it. It can open nothing, write nothing, connect
//!   nowhere, start nothing: no capability, Landlock without a single rule, a seccomp list that kills.
//! - **process** reads `/proc/PID/{cmdline,exe,…}`, which the process concerned can make block for ever.
//!
//! The descriptor goes from opener to scanner directly and never through the daemon: closing the last descriptor of a
//! file on FUSE waits for its server, so whoever holds one has to be killable.
//!
//! Daemon side: [`pool`] (scans), [`process`] (reading processes). Child side: [`child`]. Between them: [`wire`], whose
//! frames are bounded; what a child says is checked, and a child that says anything else is killed.

pub mod cache;
pub mod child;
pub mod confine;
pub mod frame;
pub mod lane;
pub mod pool;
pub mod process;
pub mod queue;
pub mod spawn;
pub mod syscalls;
pub mod wire;

pub use child::locate::is_local;
