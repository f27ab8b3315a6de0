//! The child side: what runs behind `sensor worker …`. One thread, blocking calls: whoever waits too long for it kills it.

pub mod check;
pub mod locate;
pub mod mountinfo;
pub mod open;
pub mod read;
pub mod scan;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use super::confine::{self, Layers};
use super::frame::FrameError;
use super::spawn::Role;

/// The socket to the daemon: this process's standard input.
#[derive(Debug)]
pub struct Channel;

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(rustix::stdio::stdin(), buffer)?)
    }
}

impl Write for Channel {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdin(), buffer)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Locks this process in and serves `role` until the daemon closes the channel.
pub fn run(role: Role) -> ExitCode {
    // Standard error is null; the default hook would only ask for a backtrace, which the scanner may not read.
    std::panic::set_hook(Box::new(|_| {}));
    // A peer that is gone is an error where it is written to. The runtime ignores SIGPIPE already.
    let confinement = match confine::confine(role, Layers::ALL) {
        Ok(confinement) => confinement,
        Err(_) => return ExitCode::FAILURE,
    };
    let served = match role {
        Role::Open => open::serve(&mut Channel, confinement),
        Role::Scan => scan::serve(&mut Channel, confinement),
        Role::Process => read::serve(&mut Channel, confinement),
    };
    match served {
        Ok(()) | Err(FrameError::Closed) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
