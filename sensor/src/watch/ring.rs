//! Waiting for the kernel's ring buffers without spinning.

#![expect(unsafe_code, reason = "tokio asks for the promise that the kernel's descriptor stays the same")]

use std::io;

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

/// One ring, readable when the kernel says so.
pub struct Ring {
    fd: AsyncFd<RingBuf<MapData>>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

impl Ring {
    /// Errors: the reactor refuses the descriptor (no runtime, out of descriptors).
    pub fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: a ring names the one descriptor that it owns until it is dropped, and it is dropped with the `AsyncFd`.
        let fd = unsafe { AsyncFd::register(ring) };
        Ok(Self { fd: fd.map_err(|error| error.into_parts().1)? })
    }

    /// Resolves when there is something to read. Cancel-safe.
    pub async fn readable(&self) -> io::Result<()> {
        self.fd.readable().await?.clear_ready();
        Ok(())
    }

    /// Hands out at most `records_max` records that are there now and returns how many there were.
    pub fn drain(&mut self, records_max: usize, mut each: impl FnMut(&[u8])) -> usize {
        let ring = self.fd.get_mut();
        let mut records = 0;
        while records < records_max {
            let Some(item) = ring.next() else { break };
            each(&item);
            records += 1;
        }
        records
    }
}
