//! The ladder of each hook, from the best rung down: tried, proven where a try proves nothing, and said in words.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use aya::programs::{BtfTracePoint, CgroupAttachMode, CgroupSockAddr, Iter, Program, ProgramError, TracePoint};
use aya::{Btf, Ebpf};
use sensor_abi::counter::Counter;

use super::held::Attachment;
use super::hooks::{Below, SecurityHook};
use super::plan::{BestRung, Hook, Rung, RungState, SECURITY_RUNGS};
use super::tracepoint::{self, Tracefs};
use super::verify::{self, once};
use super::{counter, say, system};

/// Tries rungs from the best down.
pub struct Attacher<'a> {
    pub ebpf: &'a mut Ebpf,
    pub btf: &'a Btf,
    pub tracefs: Option<Result<Tracefs, String>>,
    /// Everything that was attached.
    pub attachments: Vec<Attachment>,
    /// Programs, each with a tracepoint that it is on.
    pub attached: Vec<(String, String)>,
    /// Rungs above it are left out.
    pub best_rung: BestRung,
    /// This kernel takes the CPU away from programs.
    pub preempts: bool,
    /// Rungs that were asked whether they run here.
    pub ladder: Vec<RungState>,
}

/// Where exec is seen, and the programs that are on it beside the one that reports it.
pub const EXEC: &str = "sched_process_exec";
pub const INHERITING: [&str; 2] = ["exec_inherits", "exec_inherited"];

/// Programs that look once more where the kernel preempts its own code: at an exec, and where a child first runs.
pub const EXEC_AGAIN: &str = "sched_process_exec_again";
const WAKE_UP: &str = "wake_up_new_task";

const PREEMPTED: &str = "this kernel preempts its own code, and leaves a program that was preempted out of everything else \
    on that CPU meanwhile: many opens were not seen; kprobes are not preempted";

const LSM_NEVER_RAN: &str = "it attached but never ran; put `bpf` into the kernel's `lsm=` parameter";

impl Attacher<'_> {
    /// Loads what is going to be attached.
    pub fn load(&mut self) {
        let rung = SECURITY_RUNGS.into_iter().find(|rung| self.runs(*rung));
        verify::side_by_side(self.ebpf, self.btf, rung);
    }

    /// A typed tracepoint: the only rung that process events need.
    pub fn process(&mut self, event: &'static str, name: &'static str, lost: &str) -> Hook {
        let mut hook = Hook::new(event, true, lost);
        let attached = self.typed(name, name);
        hook.settle(Rung::TpBtf, attached, "");
        if self.preempts
            && hook.rung.is_some()
            && let Err(why) = self.once_more(name)
        {
            hook.why_not_better.push(format!("once more: {why}"));
            hook.lost = format!("while another is told of that was preempted in the middle, {lost}");
        }
        hook
    }

    /// What looks again where a program can be preempted, and is left out of other runs meanwhile.
    fn once_more(&mut self, name: &str) -> Result<(), String> {
        match name {
            "sched_process_fork" if !self.best_rung.allows(Rung::Kprobe) => Err("switched off".to_owned()),
            "sched_process_fork" => {
                let link = self.attach_to(WAKE_UP, WAKE_UP)?;
                self.attachments.push(link);
                Ok(())
            }
            EXEC => self.typed(EXEC_AGAIN, EXEC),
            _ => Ok(()),
        }
    }

    /// The descriptors that a program is started with: two programs, behind the one that reports execs.
    pub fn inherit(&mut self) -> Hook {
        let lost = "a model that a program was started with (a shell's redirection) is not seen";
        let mut hook = Hook::new("inherit", true, lost);
        let attached = INHERITING.iter().try_for_each(|name| self.typed(name, EXEC));
        hook.settle(Rung::TpBtf, attached, "");
        hook
    }

    fn typed(&mut self, name: &str, tracepoint: &str) -> Result<(), String> {
        let attached = (|| -> Result<(), ProgramError> {
            let program: &mut BtfTracePoint = self.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
            once(program.load(tracepoint, self.btf))?;
            let link = program.attach()?;
            self.attachments.push(Box::new(program.take_link(link)?));
            Ok(())
        })();
        attached.map_err(|error| say(&error))
    }

    /// A socket-address program on the cgroup root.
    pub fn cgroup(&mut self, name: &'static str, root: &Path, lost: &str) -> Hook {
        let mut hook = Hook::new(name, true, lost);
        let attached = (|| -> Result<(), ProgramError> {
            let root = std::fs::File::open(root).map_err(ProgramError::IOError)?;
            let program: &mut CgroupSockAddr = self.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
            once(program.load())?;
            // A link is always one of many, whatever this mode says; the old attach call would push others out.
            let link = program.attach(root, CgroupAttachMode::Single)?;
            self.attachments.push(Box::new(program.take_link(link)?));
            Ok(())
        })();
        hook.settle(Rung::Cgroup, attached.map_err(|e| say(&e)), "");
        hook
    }

    /// A hook on a `security_` function: the best rung that runs here and takes it, else its tracepoints.
    pub fn security(&mut self, wanted: &SecurityHook) -> Hook {
        let mut hook = Hook::new(wanted.event, wanted.required, wanted.lost);
        for rung in SECURITY_RUNGS {
            if self.runs(rung) {
                let attached = self.attach(rung, wanted.name).map(|link| self.attachments.push(link));
                hook.settle(rung, attached, "");
                if hook.rung.is_some() {
                    return hook;
                }
            }
        }
        self.below(wanted, &mut hook);
        hook
    }

    /// What stands in for a hook on a `security_` function.
    fn below(&mut self, wanted: &SecurityHook, hook: &mut Hook) {
        match wanted.below.filter(|_| !wanted.below_is_last || self.runs_at_calls_only()) {
            Some(Below::Tracepoints(below)) => {
                let attached = below
                    .programs
                    .iter()
                    .try_for_each(|(program, names)| self.tracepoint(program, "syscalls", names, hook));
                hook.settle(Rung::Tracepoint, attached, below.lost);
            }
            Some(Below::Calls(names, lost)) => {
                let attached = self.tracepoint(system::PROGRAM, "syscalls", names, hook);
                hook.settle(Rung::Tracepoint, attached, lost);
            }
            Some(Below::Typed(name, lost)) => {
                let attached = self.typed(name, name);
                hook.settle(Rung::TpBtf, attached, lost);
            }
            None => {}
        }
    }

    /// Takes a hook off its security function, if it is on one; `at` is its place among the attachments.
    pub fn step_down(&mut self, wanted: &SecurityHook, hook: &mut Hook, at: usize, why: &str) {
        let Some(rung) = hook.rung.filter(|rung| SECURITY_RUNGS.contains(rung)) else { return };
        drop(self.attachments.remove(at));
        self.unload(rung, wanted.name);
        hook.lose(why.to_owned());
        self.below(wanted, hook);
    }

    /// Walks what was open and mapped before the hooks were in place. `meanwhile` is called all the time: it takes what
    /// the walk sends, which can be more than a ring holds.
    pub fn found(&mut self, mut meanwhile: impl FnMut()) -> Hook {
        let mut hook =
            Hook::new("found", false, "a model that was open or mapped before the sensor started is not known");
        let mut lost = Vec::new();
        for (name, what) in [("task_file", "open"), ("task_vma", "mapped")] {
            let walked = (|| -> Result<(), ProgramError> {
                let program: &mut Iter = self.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
                once(program.load(name, self.btf))?;
                let id = program.attach()?;
                let file = program.take_link(id)?.into_file();
                let file = file.map_err(|e| ProgramError::IOError(std::io::Error::other(e)))?;
                read_within(file, WALK_MAX, &mut meanwhile).map_err(ProgramError::IOError)
            })();
            match walked {
                Ok(()) => hook.rung = Some(Rung::Iterator),
                Err(error) => {
                    hook.why_not_better.push(format!("iter/{name}: {}", say(&error)));
                    lost.push(format!("a model that was {what} before the sensor started is not known"));
                }
            }
        }
        hook.proven = hook.rung.is_some();
        hook.lost = lost.join("; ");
        hook
    }

    /// Does this rung run here, and is no lower one better? Asked once, by an act of our own that it has to count: an LSM
    /// program loads and attaches without an error where `bpf` isn't in `lsm=`, and never runs.
    pub fn runs(&mut self, rung: Rung) -> bool {
        let known = self.ladder.iter().find(|state| state.rung == rung).map(|state| state.why_not.is_none());
        known.unwrap_or_else(|| {
            let why_not = self.canary(rung).err();
            let runs = why_not.is_none();
            self.ladder.push(RungState { rung, why_not });
            runs
        })
    }

    /// No better rung runs: then the open hook is at the edge of system calls, and they are slow already.
    pub fn runs_at_calls_only(&mut self) -> bool {
        !SECURITY_RUNGS.into_iter().any(|rung| self.runs(rung))
    }

    fn canary(&mut self, rung: Rung) -> Result<(), String> {
        const CANARY: &str = "task_getscheduler";
        if !self.best_rung.allows(rung) {
            return Err("switched off".to_owned());
        }
        if rung == Rung::Fentry && self.preempts && self.runs(Rung::Kprobe) {
            return Err(PREEMPTED.to_owned());
        }
        let link = self.attach(rung, CANARY)?;
        let before = counter(self.ebpf, Counter::CanaryRung);
        // kernel/sched/syscalls.c: sched_getaffinity asks the security modules.
        let _ = rustix::thread::sched_getaffinity(None);
        let ran = counter(self.ebpf, Counter::CanaryRung) > before;
        drop(link);
        self.unload(rung, CANARY);
        match rung {
            _ if ran => Ok(()),
            Rung::Lsm => Err(LSM_NEVER_RAN.to_owned()),
            _ => Err("it attached but never ran".to_owned()),
        }
    }

    /// Attaches the program that `rung` has for `security_NAME`.
    fn attach(&mut self, rung: Rung, name: &str) -> Result<Attachment, String> {
        self.attach_to(&format!("{}_{name}", rung.name()), &format!("security_{name}"))
    }

    /// Attaches the program of this name to this function of the kernel.
    pub fn attach_to(&mut self, program_name: &str, function: &str) -> Result<Attachment, String> {
        let program = self.ebpf.program_mut(program_name).ok_or_else(|| format!("no program {program_name}"))?;
        let attached = (|| -> Result<Option<Attachment>, ProgramError> {
            Ok(Some(match program {
                Program::Lsm(program) => {
                    once(program.load(function.trim_start_matches("security_"), self.btf))?;
                    let link = program.attach()?;
                    Box::new(program.take_link(link)?)
                }
                Program::FEntry(program) => {
                    once(program.load(function, self.btf))?;
                    let link = program.attach()?;
                    Box::new(program.take_link(link)?)
                }
                Program::KProbe(program) => {
                    once(program.load())?;
                    let link = program.attach(function, 0)?;
                    Box::new(program.take_link(link)?)
                }
                _ => return Ok(None),
            }))
        })();
        attached.map_err(|error| say(&error))?.ok_or_else(|| format!("program {program_name} is of another kind"))
    }

    fn unload(&mut self, rung: Rung, name: &str) {
        let unloaded = match self.ebpf.program_mut(&format!("{}_{name}", rung.name())) {
            Some(Program::Lsm(program)) => program.unload(),
            Some(Program::FEntry(program)) => program.unload(),
            Some(Program::KProbe(program)) => program.unload(),
            _ => Ok(()),
        };
        if let Err(error) = unloaded {
            tracing::warn!("{} stays loaded: {}", name, say(&error));
        }
    }

    /// One program on several tracepoints; those that are missing are said in `hook`, all missing is an error. Once, for
    /// whichever hooks need it.
    pub fn tracepoint(&mut self, program: &str, category: &str, names: &[&str], hook: &mut Hook) -> Result<(), String> {
        let tracefs = self.tracefs.get_or_insert_with(|| Tracefs::open().map_err(|e| format!("tracefs: {e}")));
        let tracefs = tracefs.as_ref().map_err(Clone::clone)?;
        let loaded: &mut TracePoint = self
            .ebpf
            .program_mut(program)
            .ok_or_else(|| format!("no program {program} in the object"))?
            .try_into()
            .map_err(|e: ProgramError| say(&e))?;
        if loaded.fd().is_err() {
            loaded.load().map_err(|e| say(&e))?;
        }
        let fd = loaded.fd().map_err(|e| say(&e))?;
        let mut missing = Vec::new();
        for name in names {
            let on = (program.to_owned(), (*name).to_owned());
            if self.attached.contains(&on) {
                continue;
            }
            match tracefs.id(category, name).and_then(|id| tracepoint::attach(fd.as_fd(), id)) {
                Ok(link) => {
                    self.attachments.push(Box::new(link));
                    self.attached.push(on);
                }
                Err(error) => missing.push(format!("{category}/{name}: {error}")),
            }
        }
        if missing.len() == names.len() {
            return Err(missing.join("; "));
        }
        hook.why_not_better.extend(missing);
        Ok(())
    }
}

/// How long a walk may take: it takes each process's `mmap_lock`, which a process can keep for as long as it likes.
const WALK_MAX: Duration = Duration::from_secs(2);
/// How long a walk goes on by itself: it sends a record in a few microseconds, and half a ring holds some six hundred.
const MEANWHILE: Duration = Duration::from_micros(200);

/// Reads to the end, in a thread that is left behind if it doesn't come back.
fn read_within(mut file: std::fs::File, limit: Duration, mut meanwhile: impl FnMut()) -> std::io::Result<()> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("walk".to_owned()).spawn(move || {
        let _ = tell.send(std::io::copy(&mut file, &mut std::io::sink()).map(drop));
    })?;
    let begun = Instant::now();
    loop {
        let ended = told.recv_timeout(MEANWHILE);
        meanwhile();
        match ended {
            Ok(ended) => return ended,
            Err(RecvTimeoutError::Timeout) if begun.elapsed() < limit => {}
            Err(_) => {
                let why = format!("a process kept the walk waiting for more than {} s", limit.as_secs());
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, why));
            }
        }
    }
}

/// A descriptor that goes through a socket and comes back.
pub fn pass_to_ourselves() {
    use rustix::net::{
        AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    };
    let Ok((here, there)) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None) else {
        return;
    };
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let passed = [here.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&passed));
    let _ = sendmsg(&here, &[std::io::IoSlice::new(b"x")], &mut control, SendFlags::DONTWAIT);
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let _ = recvmsg(&there, &mut [std::io::IoSliceMut::new(&mut byte)], &mut control, RecvFlags::DONTWAIT);
}

/// A fork, an exec and an exit of our own. Could they be done?
pub fn run_ourselves() -> bool {
    let ended = std::process::Command::new("/proc/self/exe")
        .arg("--version")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    ended.is_ok()
}

pub fn not_found(name: &str) -> ProgramError {
    ProgramError::IOError(std::io::Error::new(std::io::ErrorKind::NotFound, format!("no program {name} in the object")))
}
