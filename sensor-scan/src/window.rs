//! Numbers and ranges at positions of a source, through one small buffer: what every binary reader needs.

use std::cell::RefCell;

use crate::slice::read;
use crate::source::Source;

/// Bytes read at once.
const BUFFER_BYTES: usize = 16 << 10;

/// A source read at positions; what is not there is `None`, never a panic.
pub struct Window<'a> {
    source: &'a dyn Source,
    buffer: RefCell<(u64, Vec<u8>)>,
}

impl<'a> Window<'a> {
    pub fn new(source: &'a dyn Source) -> Self {
        Self { source, buffer: RefCell::new((0, Vec::new())) }
    }

    pub fn source(&self) -> &'a dyn Source {
        self.source
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.source.len()
    }

    /// Exactly `N` bytes at `at`.
    pub fn array<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut buffer = self.buffer.borrow_mut();
        let from = at.checked_sub(buffer.0).and_then(|from| usize::try_from(from).ok());
        if let Some(bytes) = from.and_then(|from| buffer.1.get(from..)?.first_chunk()) {
            return Some(*bytes);
        }
        *buffer = (at, read(self.source, at, BUFFER_BYTES.max(N)));
        buffer.1.first_chunk().copied()
    }

    pub fn u8(&self, at: u64) -> Option<u8> {
        self.array(at).map(|[byte]| byte)
    }

    /// Little endian, as the next two.
    pub fn u16(&self, at: u64) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub fn u32(&self, at: u64) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub fn u64(&self, at: u64) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// An unsigned little-endian number of `width` bytes, at most 8.
    pub fn uint(&self, at: u64, width: u8) -> Option<u64> {
        (0..u64::from(width.min(8)))
            .try_fold(0, |number, index| Some(number | u64::from(self.u8(at.checked_add(index)?)?) << (8 * index)))
    }

    /// Up to `max` bytes of `start .. end`; fewer where the source ends.
    pub fn bytes(&self, start: u64, end: u64, max: usize) -> Vec<u8> {
        let len = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX).min(max);
        let buffer = self.buffer.borrow();
        let from = start.checked_sub(buffer.0).and_then(|from| usize::try_from(from).ok());
        if let Some(bytes) = from.and_then(|from| buffer.1.get(from..from.checked_add(len)?)) {
            return bytes.to_vec();
        }
        read(self.source, start, len)
    }

    /// The same as text, what is no UTF-8 replaced.
    pub fn text(&self, start: u64, end: u64, max: usize) -> String {
        String::from_utf8_lossy(&self.bytes(start, end, max)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;

    #[test]
    fn what_is_not_there_is_none() {
        let bytes: Vec<u8> = (0..=255).cycle().take(40_000).collect();
        let source = MemorySource::new(&bytes, b"");
        let window = Window::new(&source);
        assert_eq!(window.u16(1), Some(0x0201));
        assert_eq!(window.u32(39_996), Some(0x3f3e_3d3c));
        assert_eq!(window.u32(39_997), None);
        assert_eq!(window.u64(u64::MAX), None);
        assert_eq!(window.uint(1, 3), Some(0x03_0201));
        assert_eq!(window.bytes(39_998, u64::MAX, 100), [0x3e, 0x3f]);
        assert!(window.bytes(5, 3, 100).is_empty());
    }
}
