//! Opening what a person named, without being made to wait, to act, or to read something else.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

/// Why a file was not opened.
#[derive(Debug)]
pub enum Refused {
    /// Not a regular file, and what it is instead.
    Special(&'static str),
    Io(io::Error),
}

impl From<rustix::io::Errno> for Refused {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Opens a regular file for reading; a last component that is a link is followed.
///
/// The file is held by `O_PATH` first, which neither waits for a FIFO's writer nor wakes a device, and the very inode
/// that was found regular is then opened through `/proc/self/fd`.
pub fn regular(path: &Path) -> Result<File, Refused> {
    let held = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let found = rustix::fs::fstat(&held)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Refused::Special("a directory")),
        FileType::Fifo => return Err(Refused::Special("a FIFO")),
        FileType::Socket => return Err(Refused::Special("a socket")),
        FileType::CharacterDevice | FileType::BlockDevice => return Err(Refused::Special("a device")),
        _ => return Err(Refused::Special("no regular file")),
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let by_descriptor = format!("/proc/self/fd/{}", held.as_raw_fd());
    let opened = match rustix::fs::open(by_descriptor, flags, Mode::empty()) {
        // No /proc: by name again, and then it has to be the same file.
        Err(rustix::io::Errno::NOENT) => rustix::fs::open(path, flags, Mode::empty())?,
        other => other?,
    };
    let now = rustix::fs::fstat(&opened)?;
    if (now.st_dev, now.st_ino) != (found.st_dev, found.st_ino) {
        return Err(Refused::Io(io::Error::other("it was replaced while it was opened: scan again")));
    }
    Ok(File::from(opened))
}
