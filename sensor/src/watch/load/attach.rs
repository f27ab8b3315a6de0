//! The ladder of each hook, from the best rung down: tried, proven where a try proves nothing, and said in words.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use aya::programs::{BtfTracePoint, CgroupAttachMode, CgroupSockAddr, Iter, Lsm, ProgramError, TracePoint};
use aya::{Btf, Ebpf};
use sensor_abi::counter::Counter;

use super::plan::{Hook, Rung};
use super::tracepoint::{self, Tracefs, TracepointLink};
use super::{counter, say};

/// Tries rungs from the best down.
pub struct Attacher<'a> {
    pub ebpf: &'a mut Ebpf,
    pub btf: &'a Btf,
    pub tracefs: Option<Result<Tracefs, String>>,
    pub tracepoints: Vec<TracepointLink>,
    /// Leave LSM programs out.
    pub without_lsm: bool,
}

const LSM_NEVER_RAN: &str = "it attached but never ran; put `bpf` into the kernel's `lsm=` parameter";

impl Attacher<'_> {
    /// A typed tracepoint: the only rung that process events need.
    pub fn process(&mut self, event: &'static str, name: &'static str, lost: &str) -> Hook {
        self.process_by(event, name, name, lost)
    }

    /// The same for a program that is named otherwise than its tracepoint.
    pub fn process_by(
        &mut self,
        event: &'static str,
        name: &'static str,
        tracepoint: &'static str,
        lost: &str,
    ) -> Hook {
        let mut hook = Hook::new(event, true, lost);
        let attached = (|| -> Result<(), ProgramError> {
            let program: &mut BtfTracePoint = self.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
            program.load(tracepoint, self.btf)?;
            program.attach()?;
            Ok(())
        })();
        hook.settle(Rung::TpBtf, attached.map_err(|e| say(&e)), "");
        hook
    }

    /// A socket-address program on the cgroup root.
    pub fn cgroup(&mut self, name: &'static str, root: &Path, lost: &str) -> Hook {
        let mut hook = Hook::new(name, true, lost);
        let attached = (|| -> Result<(), ProgramError> {
            let root = std::fs::File::open(root).map_err(ProgramError::IOError)?;
            let program: &mut CgroupSockAddr = self.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
            program.load()?;
            // A link is always one of many, whatever this mode says; the old attach call would push others out.
            program.attach(root, CgroupAttachMode::Single)?;
            Ok(())
        })();
        hook.settle(Rung::Cgroup, attached.map_err(|e| say(&e)), "");
        hook
    }

    /// `file_open`, proven by an open of our own; else the exits of the open calls.
    pub fn open(&mut self) -> Hook {
        let mut hook = Hook::new("open", true, "loads are not seen at all");
        let lsm = self.proven_lsm("file_open", Counter::CanaryOpen, || {
            let _ = std::fs::File::open("/proc/self/status");
        });
        hook.settle(Rung::Lsm, lsm, "");
        if hook.rung.is_none() {
            let calls = ["sys_exit_openat", "sys_exit_open", "sys_exit_openat2", "sys_exit_open_by_handle_at"];
            let attached = self.tracepoint("sys_exit_open", "syscalls", &calls, &mut hook);
            hook.settle(
                Rung::Tracepoint,
                attached,
                "opens by io_uring and by 32-bit calls are not seen",
            );
        }
        hook
    }

    /// `file_receive`, proven by a descriptor that is passed to ourselves; else what can be had at a call's exit.
    pub fn receive(&mut self) -> Hook {
        let lost = "a model's descriptor that another process passes on is not seen";
        let mut hook = Hook::new("receive", false, lost);
        let lsm = self.proven_lsm("file_receive", Counter::CanaryReceive, pass_to_ourselves);
        hook.settle(Rung::Lsm, lsm, "");
        if hook.rung.is_none() {
            let attached = self.tracepoint("sys_exit_open", "syscalls", &["sys_exit_pidfd_getfd"], &mut hook);
            let lost = "a model's descriptor that another process passes over a socket is not seen";
            hook.settle(Rung::Tracepoint, attached, lost);
        }
        hook
    }

    /// `bprm_check_security`, proven by an exec of our own; else the entries of the exec calls.
    pub fn exec_window(&mut self) -> Hook {
        let mut hook = Hook::new(
            "exec_window",
            false,
            "a program that a loader runs in its own place counts as started shortly after the load, not in it",
        );
        let lsm = self.proven_lsm("bprm_check_security", Counter::CanaryExecLsm, run_ourselves);
        hook.settle(Rung::Lsm, lsm, "");
        if hook.rung.is_none() {
            let calls = ["sys_enter_execve", "sys_enter_execveat"];
            let attached = self.tracepoint("sys_enter_execve", "syscalls", &calls, &mut hook);
            hook.settle(Rung::Tracepoint, attached, "");
        }
        hook
    }

    /// Sockets that the cgroup pair can't see: LSM or nothing.
    pub fn other_sockets(&mut self, name: &'static str, lost: &str) -> Hook {
        let mut hook = Hook::new(name, false, lost);
        let attached = self.lsm(name);
        hook.settle(Rung::Lsm, attached, "");
        hook
    }

    /// Walks what was open and mapped before the hooks were in place.
    pub fn found(&mut self) -> Hook {
        let mut hook =
            Hook::new("found", false, "a model that was open or mapped before the sensor started is not known");
        let mut lost = Vec::new();
        for (name, what) in [("task_file", "open"), ("task_vma", "mapped")] {
            let walked = (|| -> Result<(), ProgramError> {
                let program: &mut Iter = self.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
                program.load(name, self.btf)?;
                let id = program.attach()?;
                let file = program.take_link(id)?.into_file();
                let file = file.map_err(|e| ProgramError::IOError(std::io::Error::other(e)))?;
                read_within(file, WALK_MAX).map_err(ProgramError::IOError)
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

    fn lsm(&mut self, name: &'static str) -> Result<(), String> {
        if self.without_lsm {
            return Err("switched off".to_owned());
        }
        let attached = (|| -> Result<(), ProgramError> {
            let program: &mut Lsm = self.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
            program.load(name, self.btf)?;
            program.attach()?;
            Ok(())
        })();
        attached.map_err(|e| format!("{} (a locked-down kernel, or one without BPF LSM)", say(&e)))
    }

    /// An LSM program loads and attaches without an error where `bpf` isn't in `lsm=`, and never runs: only an act of
    /// our own that it counts shows that it is there.
    fn proven_lsm(&mut self, name: &'static str, canary: Counter, act: fn()) -> Result<(), String> {
        self.lsm(name)?;
        let before = counter(self.ebpf, canary);
        act();
        if counter(self.ebpf, canary) > before {
            return Ok(());
        }
        if let Some(program) = self.ebpf.program_mut(name)
            && let Ok(program) = <&mut Lsm>::try_from(program)
        {
            let _ = program.unload();
        }
        Err(LSM_NEVER_RAN.to_owned())
    }

    /// One program on several tracepoints; those that are missing are said in `hook`, all missing is an error.
    fn tracepoint(&mut self, program: &str, category: &str, names: &[&str], hook: &mut Hook) -> Result<(), String> {
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
            match tracefs.id(category, name).and_then(|id| tracepoint::attach(fd.as_fd(), id)) {
                Ok(link) => self.tracepoints.push(link),
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

/// Reads to the end, in a thread that is left behind if it doesn't come back.
fn read_within(mut file: std::fs::File, limit: Duration) -> std::io::Result<()> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("walk".to_owned()).spawn(move || {
        let _ = tell.send(std::io::copy(&mut file, &mut std::io::sink()).map(drop));
    })?;
    told.recv_timeout(limit).unwrap_or_else(|_| {
        let why = format!("a process kept the walk waiting for more than {} s", limit.as_secs());
        Err(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
    })
}

/// A descriptor that goes through a socket and comes back.
fn pass_to_ourselves() {
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

/// A fork, an exec and an exit of our own.
pub fn run_ourselves() {
    let _ = std::process::Command::new("/proc/self/exe")
        .arg("--version")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
}

fn not_found(name: &str) -> ProgramError {
    ProgramError::IOError(std::io::Error::new(std::io::ErrorKind::NotFound, format!("no program {name} in the object")))
}
