//! Parts of a source, and the reads that every format needs.

use std::cell::Cell;
use std::io;

use crate::source::{Sibling, Source};

/// A range of another source, under a name of its own: a stored member, a gap, a tail.
pub struct Slice<'a> {
    parent: &'a dyn Source,
    start: u64,
    len: u64,
    name: &'a [u8],
}

impl<'a> Slice<'a> {
    /// The part of `start .. start + len` that the parent has.
    pub fn new(parent: &'a dyn Source, start: u64, len: u64, name: &'a [u8]) -> Self {
        let start = start.min(parent.len());
        Self { parent, start, len: len.min(parent.len() - start), name }
    }
}

impl Source for Slice<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(offset);
        let len = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if len == 0 {
            return Ok(0);
        }
        self.parent.read_at(self.start + offset, &mut buffer[..len])
    }

    fn name(&self) -> &[u8] {
        self.name
    }
}

/// Counts what is read from the file itself, and remembers whether a read failed.
pub struct Counted<'a> {
    inner: &'a dyn Source,
    bytes: Cell<u64>,
    failed: Cell<Option<io::ErrorKind>>,
}

impl<'a> Counted<'a> {
    pub fn new(inner: &'a dyn Source) -> Self {
        Self { inner, bytes: Cell::new(0), failed: Cell::new(None) }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// The last error of a read: a disk or network fault, never the file's content.
    pub fn failed(&self) -> Option<io::ErrorKind> {
        self.failed.get()
    }
}

impl Source for Counted<'_> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read_at(offset, buffer) {
                Ok(0) if !buffer.is_empty() && offset < self.len() => {
                    // Shorter than it was when it was opened.
                    self.failed.set(Some(io::ErrorKind::UnexpectedEof));
                    return Ok(0);
                }
                Ok(read) => {
                    self.bytes.set(self.bytes.get() + read as u64);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed.set(Some(error.kind()));
                    return Err(error);
                }
            }
        }
    }

    fn sibling(&self, path: &str) -> Sibling {
        self.inner.sibling(path)
    }

    fn name(&self) -> &[u8] {
        self.inner.name()
    }

    fn is_models_code(&self) -> bool {
        self.inner.is_models_code()
    }
}

/// Reads up to `len` bytes at `offset`: fewer only where the source ends or fails.
pub fn read(source: &dyn Source, offset: u64, len: usize) -> Vec<u8> {
    let left = usize::try_from(source.len().saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len.min(left)];
    let mut have = 0;
    while have < bytes.len() {
        match source.read_at(offset + have as u64, &mut bytes[have..]) {
            Ok(0) | Err(_) => break,
            Ok(read) => have += read,
        }
    }
    bytes.truncate(have);
    bytes
}

/// Calls `each` with the bytes of `start .. end` piece by piece; stops where it answers `false` or the source ends.
/// Returns the offset behind the last byte handed over.
pub fn for_each_piece(source: &dyn Source, start: u64, end: u64, mut each: impl FnMut(u64, &[u8]) -> bool) -> u64 {
    const PIECE_BYTES: u64 = 256 << 10;
    let mut at = start;
    while at < end {
        let bytes = read(source, at, (end - at).min(PIECE_BYTES) as usize);
        if bytes.is_empty() {
            break;
        }
        let goes_on = each(at, &bytes);
        at += bytes.len() as u64;
        if !goes_on {
            break;
        }
    }
    at
}

/// Says whether `start .. end` is nothing but zeros.
pub fn is_zero(source: &dyn Source, start: u64, end: u64) -> bool {
    let mut zero = true;
    for_each_piece(source, start, end, |_, bytes| {
        zero = bytes.iter().all(|byte| *byte == 0);
        zero
    });
    zero
}

/// Where zeros that start at `start` end, at most `end`.
pub fn zeros_end(source: &dyn Source, start: u64, end: u64) -> u64 {
    let mut at = start;
    for_each_piece(source, start, end, |_, bytes| {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        at += zeros as u64;
        zeros == bytes.len()
    });
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;

    #[test]
    fn a_slice_never_reaches_beyond_itself_or_its_parent() {
        let parent = MemorySource::new(b"0123456789", b"p");
        let slice = Slice::new(&parent, 3, 4, b"s");
        assert_eq!(read(&slice, 0, 100), b"3456");
        assert_eq!(read(&slice, 3, 100), b"6");
        assert_eq!(read(&slice, 4, 100), b"");
        let long = Slice::new(&parent, 8, u64::MAX, b"s");
        assert_eq!((long.len(), read(&long, 0, 100)), (2, b"89".to_vec()));
        assert_eq!(Slice::new(&parent, u64::MAX, 1, b"s").len(), 0);
    }

    #[test]
    fn pieces_cover_the_range_once() {
        let bytes: Vec<u8> = (0..600_000_u32).map(|byte| byte as u8).collect();
        let source = MemorySource::new(&bytes, b"");
        let mut seen = Vec::new();
        let end = for_each_piece(&source, 10, 599_990, |at, piece| {
            assert_eq!(at, 10 + seen.len() as u64);
            seen.extend_from_slice(piece);
            true
        });
        assert_eq!((end, &seen[..]), (599_990, &bytes[10..599_990]));
    }
}
