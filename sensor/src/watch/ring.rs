//! The kernel's two ring buffers: waiting for them without spinning, and reading them as one stream.

#![expect(unsafe_code, reason = "tokio asks for the promise that the kernel's descriptor stays the same")]

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use aya::maps::{MapData, RingBuf};
use sensor_abi::record::Header;
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes;

/// One ring, readable when the kernel says so.
struct Ring {
    fd: AsyncFd<RingBuf<MapData>>,
}

impl Ring {
    fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: a ring names the one descriptor that it owns until it is dropped, and it is dropped with the `AsyncFd`.
        let fd = unsafe { AsyncFd::register(ring) };
        Ok(Self { fd: fd.map_err(|error| error.into_parts().1)? })
    }

    /// Only one task may wait at a time. Takes no place in a list of those that wait, as `readable` would: it is asked
    /// before every record that comes alone.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fd.poll_read_ready(context).map_ok(|mut ready| ready.clear_ready())
    }

    /// Hands out at most `records_max` records that are there now, until `each` says no; how many there were.
    fn drain(&mut self, records_max: usize, mut each: impl FnMut(&[u8]) -> bool) -> usize {
        let ring = self.fd.get_mut();
        let mut records = 0;
        while records < records_max {
            let Some(item) = ring.next() else { break };
            records += 1;
            if !each(&item) {
                break;
            }
        }
        records
    }
}

/// Both rings, in the order of time: an act is never taken before the open, fork or exec that it follows, and a flood in
/// one ring doesn't keep the other from being read.
pub struct Stream {
    priority: Ring,
    bulk: Ring,
    /// A record of the bulk ring that is later than what was read of the other one.
    ahead: Option<Vec<u8>>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    /// Errors: the reactor refuses a descriptor (no runtime, out of descriptors).
    pub fn new(priority: RingBuf<MapData>, bulk: RingBuf<MapData>) -> io::Result<Self> {
        Ok(Self { priority: Ring::new(priority)?, bulk: Ring::new(bulk)?, ahead: None })
    }

    /// Resolves when there is something to read. Cancel-safe; one at a time.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| match self.priority.poll_readable(context) {
            Poll::Ready(ready) => Poll::Ready(ready),
            Poll::Pending => self.bulk.poll_readable(context),
        })
        .await
    }

    /// Hands out at most `records_max` records of each ring. `now_ns`: CLOCK_BOOTTIME, as the records have it. True where
    /// more may be there.
    pub fn take(&mut self, now_ns: u64, records_max: usize, mut each: impl FnMut(&[u8])) -> bool {
        let mut last_ns = 0;
        let first = self.priority.drain(records_max, |bytes| {
            last_ns = time_of(bytes);
            each(bytes);
            true
        });
        let more = first == records_max;
        // What was sent before now has been read, or what was sent before the last one read.
        let until_ns = if more { last_ns } else { now_ns };
        if let Some(bytes) = self.ahead.take() {
            if time_of(&bytes) > until_ns {
                self.ahead = Some(bytes);
                return true;
            }
            each(&bytes);
        }
        let ahead = &mut self.ahead;
        let second = self.bulk.drain(records_max, |bytes| {
            if time_of(bytes) > until_ns {
                *ahead = Some(bytes.to_vec());
                return false;
            }
            each(bytes);
            true
        });
        more || second == records_max || self.ahead.is_some()
    }
}

/// When the act of a record was; 0 of bytes that are none.
fn time_of(bytes: &[u8]) -> u64 {
    Header::read_from_prefix(bytes).map_or(0, |(header, _)| header.time_ns)
}
