//! Loading is most of the start: the kernel follows every path through every program. It does so for each program by
//! itself, so they are handed over side by side.

use std::cmp::Reverse;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, available_parallelism};
use std::time::Instant;

use aya::programs::{Program, ProgramError};
use aya::{Btf, Ebpf};

use super::attach::{EXEC, EXEC_AGAIN, INHERITING};
use super::hooks::{SECURITY_HOOKS, SOCKET_HOOKS};
use super::network::CONNECTS;
use super::plan::Rung;

/// Ends of the names of programs that the kernel follows for longest (`RUST_LOG=debug` says how far). They are begun first,
/// so that none of them is alone in the end.
const LONG: [&str; 8] =
    ["exit_open", "file_open", "process_fork", "task_vma", "task_file", "inherited", "process_exec", "packet_out"];

/// Loads what will be attached for sure: the hooks on processes and networks, the walks, and what `rung` (none: the
/// restricted one) has for the security functions.
///
/// What can't be loaded is left to whoever attaches it, who tries again and says why.
pub fn side_by_side(ebpf: &mut Ebpf, btf: &Btf, rung: Option<Rung>) {
    let mut programs: Vec<_> = ebpf
        .programs_mut()
        .filter_map(|(name, program)| Some((name, function_of(name, program, rung)?, program)))
        .collect();
    programs.sort_by_key(|(name, ..)| LONG.iter().position(|end| name.ends_with(end)).map(Reverse));
    // As many as there are CPUs, this one among them: more would only take the caches from each other.
    let helpers = available_parallelism().map_or(1, usize::from).min(programs.len()).saturating_sub(1);
    let left = Mutex::new(programs);
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || {
        while let Some((name, function, program)) = next() {
            let started = Instant::now();
            let loaded = load(program, &function, btf);
            let took_ms = started.elapsed().as_millis();
            match loaded {
                Ok(()) => tracing::debug!(name, function, took_ms, "verified"),
                Err(error) => tracing::debug!(name, function, took_ms, %error, "not loaded yet"),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            // Where no thread can be made, the others do its part.
            let _ = Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
}

/// The function, hook or tracepoint that a program is for; `None` where it may not be needed.
fn function_of(name: &str, program: &Program, rung: Option<Rung>) -> Option<String> {
    match program {
        Program::Lsm(_) | Program::FEntry(_) | Program::KProbe(_) => {
            let hook = name.strip_prefix(rung?.name())?.strip_prefix('_')?;
            SOCKET_HOOKS.iter().chain(SECURITY_HOOKS).find(|known| known.name == hook)?;
            Some(if matches!(program, Program::Lsm(_)) { hook.to_owned() } else { format!("security_{hook}") })
        }
        Program::TracePoint(_) => rung.is_none().then(|| name.to_owned()),
        Program::BtfTracePoint(_) if INHERITING.contains(&name) => Some(EXEC.to_owned()),
        // Few kernels need it.
        Program::BtfTracePoint(_) if name == EXEC_AGAIN => None,
        // What else is on a typed tracepoint stands in for a security function.
        Program::BtfTracePoint(_) => (rung.is_none() || name.starts_with("sched_process_")).then(|| name.to_owned()),
        // Where security functions can be entered, their hooks tell of connects.
        Program::CgroupSockAddr(_) if rung.is_some() && CONNECTS.iter().any(|(event, _)| *event == name) => None,
        Program::CgroupSockAddr(_)
        | Program::CgroupSock(_)
        | Program::CgroupSkb(_)
        | Program::SockOps(_)
        | Program::Iter(_) => Some(name.to_owned()),
        _ => None,
    }
}

fn load(program: &mut Program, function: &str, btf: &Btf) -> Result<(), ProgramError> {
    match program {
        Program::Lsm(program) => program.load(function, btf),
        Program::FEntry(program) => program.load(function, btf),
        Program::KProbe(program) => program.load(),
        Program::TracePoint(program) => program.load(),
        Program::BtfTracePoint(program) => program.load(function, btf),
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::Iter(program) => program.load(function, btf),
        _ => Ok(()),
    }
}

/// Loaded now, or before.
pub fn once(loaded: Result<(), ProgramError>) -> Result<(), ProgramError> {
    match loaded {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        loaded => loaded,
    }
}
