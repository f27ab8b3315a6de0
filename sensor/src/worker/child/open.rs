//! `sensor worker open`: finds the file, lets the daemon confirm it, hands it to the scanner.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::locate::{self, Candidate, Visit};
use crate::worker::frame::{self, FrameError};
use crate::worker::wire::{Confinement, FromOpener, NotRead, OpenRequest, Opened, Raw, ToOpener};

/// Serves until the daemon closes `channel`.
pub fn serve(channel: &mut (impl Read + Write), confinement: Confinement) -> Result<(), FrameError> {
    frame::write(channel, &FromOpener::Hello(confinement))?;
    loop {
        let ToOpener::Open(request) = frame::read(channel)? else {
            return Err(FrameError::Invalid("a word on a file that isn't open"));
        };
        let answer = match one(channel, &request)? {
            Some(reason) => FromOpener::NotOpened { id: request.id, reason },
            None => FromOpener::Passed { id: request.id },
        };
        frame::write(channel, &answer)?;
    }
}

/// Looks for one file; `None` when the scanner has it.
fn one(channel: &mut (impl Read + Write), request: &OpenRequest) -> Result<Option<NotRead>, FrameError> {
    let mut ended = None;
    let nowhere = locate::search(request, |candidate| {
        let visited = visit(channel, request, candidate)?;
        Ok::<_, FrameError>(match visited {
            Visited::Passed => Visit::Done,
            Visited::Refused => Visit::Next,
            Visited::NotRead(reason) => {
                ended = Some(reason);
                Visit::Done
            }
        })
    })?;
    Ok(nowhere.or(ended))
}

enum Visited {
    Passed,
    Refused,
    NotRead(NotRead),
}

fn visit(
    channel: &mut (impl Read + Write),
    request: &OpenRequest,
    candidate: Candidate,
) -> Result<Visited, FrameError> {
    let local = rustix::fs::fstatfs(&candidate.place).is_ok_and(|fs| locate::is_local(fs.f_type as u64));
    if !local && !request.read_remote {
        return Ok(Visited::NotRead(NotRead::Remote));
    }
    let file = match locate::reopen(&candidate.place) {
        Ok(file) => file,
        Err(_) => return Ok(Visited::NotRead(NotRead::Denied)),
    };
    let device = super::mountinfo::device_of(candidate.place.as_fd(), request.pid);
    let opened = Opened {
        id: request.id,
        stamp: candidate.stamp,
        device_agrees: device == Some(request.identity.dev),
        remote: !local,
        path: if request.path.0.is_empty() { Raw(locate::path_of(&candidate.place)) } else { Raw::default() },
    };
    frame::write(channel, &FromOpener::Opened(opened))?;
    match frame::read(channel)? {
        ToOpener::Proceed { id } if id == request.id => {
            pass(request.id, file)?;
            Ok(Visited::Passed)
        }
        ToOpener::Refuse { id } if id == request.id => Ok(Visited::Refused),
        _ => Err(FrameError::Invalid("a word on another file")),
    }
}

/// Sends the descriptor to the scanner, on standard output, with the request's number.
fn pass(id: u64, file: OwnedFd) -> Result<(), FrameError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [file.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(FrameError::Invalid("no room for a descriptor"));
    }
    let id = id.to_le_bytes();
    let sent = rustix::net::sendmsg(rustix::stdio::stdout(), &[IoSlice::new(&id)], &mut control, SendFlags::NOSIGNAL)
        .map_err(std::io::Error::from)?;
    if sent == id.len() { Ok(()) } else { Err(FrameError::Invalid("half a message")) }
}
