//! Something done in a process of its own, and its answer.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};
use serde_json::Value;

use crate::kernel::{exit_now, fork};

/// Does `act` in a child, and gives back what it said.
pub fn ask(act: impl FnOnce() -> io::Result<Value>) -> io::Result<Value> {
    let (read, write): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::CLOEXEC)?;
    let Some(child) = fork()? else {
        let answer = act().map_err(|error| eprintln!("overhead: in a child: {error}"));
        let said = answer.is_ok_and(|value| std::fs::File::from(write).write_all(value.to_string().as_bytes()).is_ok());
        exit_now(i32::from(!said))
    };
    drop(write);
    let mut text = String::new();
    std::fs::File::from(read).read_to_string(&mut text)?;
    waitpid(Some(child), WaitOptions::empty())?;
    serde_json::from_str(&text).map_err(|_| io::Error::other("a child did not answer"))
}

/// The same for a number.
pub fn count(act: impl FnOnce() -> io::Result<u64>) -> io::Result<u64> {
    ask(|| act().map(Value::from))?.as_u64().ok_or_else(|| io::Error::other("a child answered no number"))
}
