//! Waiting for the kernel's ring buffers without spinning.

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
        Ok(Self { fd: AsyncFd::new(ring)? })
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
