//! The sensor against the real kernel: real programs load real files, connect out and start shells, and one daemon says
//! what it saw.
//!
//! Every case acts first and is judged later: all act side by side under one daemon, then the daemon is stopped, and
//! since it prints everything that is queued before it exits, what it did not say by then it will never say. So nothing
//! here sleeps to see whether an alert comes, and "no alert" is exact. Cases that need a daemon of their own (another
//! configuration, signals, refusals) run one by one afterwards.
//!
//! All of it lives in a mount and a network namespace of its own: documentation addresses are local there, and the
//! instance lock is not the host's. Needs root, kernel BTF, Python 3, `ip`, and the ordinary tools of a Debian.
//!
//! `runtime [--list] [--exact] [--keep] [--skip=NAME…] [--shard=NUMBER/COUNT] [FILTER…]`; without root or BTF it is
//! skipped, which is a failure where the variable `CI` is set.

mod actor;
mod alert;
mod bpf;
mod cases;
mod cgroup;
mod daemon;
mod harness;
mod helper;
mod lab;
mod model;
mod namespace;
mod schema;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(status) = helper::run(&arguments) {
        return status;
    }
    harness::main(&arguments)
}
