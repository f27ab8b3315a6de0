//! Frames of the worker sockets: a little-endian `u32` length, then that many bytes of JSON.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Longest frame either way, bytes: 50 findings with every title byte escaped fit, nothing much larger does.
pub const FRAME_BYTES_MAX: usize = 128 << 10;

#[derive(Debug, Error)]
pub enum FrameError {
    #[error("the other end is gone")]
    Closed,
    #[error("a frame of {0} bytes, more than {FRAME_BYTES_MAX}")]
    TooLong(usize),
    #[error("a frame that says nothing known: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("a frame that breaks the protocol: {0}")]
    Invalid(&'static str),
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

fn length(prefix: [u8; 4]) -> Result<usize, FrameError> {
    let len = u32::from_le_bytes(prefix) as usize;
    if len > FRAME_BYTES_MAX { Err(FrameError::TooLong(len)) } else { Ok(len) }
}

fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let len = bytes.len() - 4;
    if len > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(len));
    }
    bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(bytes)
}

/// Reads one frame; for the child side, which may block.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> Result<T, FrameError> {
    let mut prefix = [0; 4];
    from.read_exact(&mut prefix)?;
    let mut bytes = vec![0; length(prefix)?];
    from.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Writes one frame; for the child side.
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    to.write_all(&encode(message)?)?;
    Ok(())
}

/// Reads one frame; for the daemon side. Not cancel-safe: whoever gives up waiting has to give up the child.
pub async fn receive<T: DeserializeOwned>(from: &mut UnixStream) -> Result<T, FrameError> {
    let mut prefix = [0; 4];
    from.read_exact(&mut prefix).await?;
    let mut bytes = vec![0; length(prefix)?];
    from.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Writes one frame; for the daemon side. Not cancel-safe, like [`receive`].
pub async fn send<T: Serialize>(to: &mut UnixStream, message: &T) -> Result<(), FrameError> {
    to.write_all(&encode(message)?).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::wire::FromScanner;

    fn parse(bytes: &[u8]) -> Result<FromScanner, FrameError> {
        read(&mut &bytes[..])
    }

    fn framed(json: &str) -> Vec<u8> {
        let mut bytes = (json.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        write(&mut bytes, &"x\u{0}\u{1b}").unwrap();
        assert_eq!(read::<String>(&mut &bytes[..]).unwrap(), "x\u{0}\u{1b}");
    }

    #[test]
    fn a_long_frame_is_refused_before_a_byte_of_it_is_held() {
        let bytes = u32::MAX.to_le_bytes();
        assert!(matches!(parse(&bytes), Err(FrameError::TooLong(len)) if len == u32::MAX as usize));
        assert!(matches!(encode(&"x".repeat(FRAME_BYTES_MAX)), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn cut_frames_and_unknown_words_are_errors() {
        assert!(matches!(parse(b""), Err(FrameError::Closed)));
        assert!(matches!(parse(&[5, 0, 0, 0, b'{']), Err(FrameError::Closed)));
        for json in ["{}", "null", "{\"dance\":{\"id\":1}}", "{\"done\":{\"id\":1}}", "\u{7f}"] {
            assert!(matches!(parse(&framed(json)), Err(FrameError::Malformed(_))), "{json}");
        }
    }
}
