//! `sensor worker check`: does the confinement hold on this host? Locks itself in as a child does, then tries one thing
//! that must not work.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::worker::confine::{self, Layers};
use crate::worker::spawn::Role;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Act {
    /// Open a file for reading.
    Read,
    /// Make a file.
    Write,
    /// TCP to a port of this host.
    Connect,
    /// Run a program.
    Exec,
    /// Signal the process that started this one.
    Signal,
}

/// The status when the kernel refused the act. A process that its seccomp list killed was refused, too.
pub const REFUSED: u8 = 10;
/// The status when the act was possible (0 where it was running a program: that program's own).
pub const POSSIBLE: u8 = 11;

/// Tries `act` as `role`.
pub fn run(role: Role, act: Act, layers: Layers) -> ExitCode {
    let parent = rustix::process::getppid();
    if let Err(error) = confine::confine(role, layers) {
        eprintln!("sensor: cannot lock itself in: {error}. Linux 5.10 or newer is needed");
        return ExitCode::from(2);
    }
    let tried = match act {
        Act::Read => std::fs::File::open("/proc/version").map(drop),
        Act::Write => write(),
        Act::Connect => std::net::TcpStream::connect(("127.0.0.1", 9)).map(drop),
        Act::Exec => Err(Command::new("/proc/self/exe").arg("--version").exec()),
        Act::Signal => signal(parent),
    };
    ExitCode::from(match tried {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => REFUSED,
        // Also an error of another kind: a connection that its peer refused had left this process.
        _ => POSSIBLE,
    })
}

fn write() -> io::Result<()> {
    let path = std::env::temp_dir().join(format!("sensor-worker-check-{}", std::process::id()));
    std::fs::File::create_new(&path)?;
    std::fs::remove_file(path)
}

fn signal(parent: Option<rustix::process::Pid>) -> io::Result<()> {
    let parent = parent.ok_or_else(|| io::Error::other("no process started this one"))?;
    Ok(rustix::process::test_kill_process(parent)?)
}
