//! Starting and ending one child.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Pid;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::frame::{self, FrameError};
use super::wire::{Confinement, FromOpener, FromReader, FromScanner};

/// From exec to the first frame; a debug build on a loaded machine needs a fraction of it.
const START_MAX: Duration = Duration::from_secs(10);

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    Open,
    Scan,
    Process,
}

impl Role {
    /// The word behind `sensor worker`.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Scan => "scan",
            Self::Process => "process",
        }
    }

    /// The name that `ps` and the kernel show (15 bytes at most).
    pub fn comm(self) -> &'static CStr {
        match self {
            Self::Open => c"sensor-open",
            Self::Scan => c"sensor-scan",
            Self::Process => c"sensor-process",
        }
    }
}

/// The lowest priority of CPU (nice(2)), and so of the disk (ioprio_set(2)).
const NICE_MAX: i32 = 19;

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    pub pid: u32,
    pub channel: UnixStream,
}

impl Worker {
    /// Starts `program worker ROLE` with a socket as its standard input and `peer` as its standard output.
    ///
    /// The thread that calls this has to outlive the child: the kernel kills a child when the thread that made it ends
    /// (prctl(2), PR_SET_PDEATHSIG).
    pub fn spawn(program: &Path, role: Role, peer: Option<OwnedFd>) -> std::io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let channel = UnixStream::from_std(ours)?;
        let child = Command::new(program)
            .arg("worker")
            .arg(role.verb())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(peer.map_or_else(Stdio::null, Stdio::from))
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().unwrap_or_default();
        Ok(Self { child, pid, channel })
    }

    /// From now on it takes what others leave of the machine.
    pub fn make_way(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        // One that is gone is noticed when it doesn't answer; one that isn't is heard all the same.
        let _ = pid.map(|pid| rustix::process::setpriority_process(Some(pid), NICE_MAX));
    }

    /// Waits for the child's first frame, which says how far it could lock itself in.
    pub async fn hello(&mut self, role: Role) -> Result<Confinement, FrameError> {
        let hello = async {
            let confinement = match role {
                Role::Open => match frame::receive(&mut self.channel).await? {
                    FromOpener::Hello(confinement) => Some(confinement),
                    _ => None,
                },
                Role::Scan => match frame::receive(&mut self.channel).await? {
                    FromScanner::Hello(confinement) => Some(confinement),
                    FromScanner::Done { .. } => None,
                },
                Role::Process => match frame::receive(&mut self.channel).await? {
                    FromReader::Hello(confinement) => Some(confinement),
                    _ => None,
                },
            };
            confinement.ok_or(FrameError::Invalid("no greeting"))
        };
        timeout(START_MAX, hello).await.unwrap_or(Err(FrameError::Invalid("no greeting in time")))
    }

    /// Has it ended by itself?
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills and reaps it, and tells how it ended. SIGKILL ends also what waits for a network file system or FUSE.
    pub async fn stop(mut self) -> Option<ExitStatus> {
        let _ = self.child.start_kill();
        self.child.wait().await.ok()
    }

    /// Waits a moment for a child whose channel has closed to end by itself, so that its own status is seen; then as
    /// [`Self::stop`].
    pub async fn reap(mut self) -> Option<ExitStatus> {
        const DYING_MAX: Duration = Duration::from_millis(500);
        match timeout(DYING_MAX, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => self.stop().await,
        }
    }
}
