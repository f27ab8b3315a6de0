//! Positioned, bounded reads: the only way in which the scanner sees bytes.

use std::io;

/// Bytes that can be read at any offset.
///
/// Not a memory map: a file that is truncated under a map is SIGBUS; here it is a short read, which is a finding.
pub trait Source {
    /// Bytes in all, as known when the source was opened.
    fn len(&self) -> u64;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads at most `buffer.len()` bytes at `offset` and returns how many; 0 only at or behind the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// The file's own name without its folder, as a hint (bytes: not necessarily UTF-8); empty where it has none.
    fn name(&self) -> &[u8];
}

/// Bytes in memory: standard input, a decoded member, a test.
#[derive(Debug, Clone)]
pub struct MemorySource<'a> {
    bytes: &'a [u8],
    name: &'a [u8],
}

impl<'a> MemorySource<'a> {
    pub fn new(bytes: &'a [u8], name: &'a [u8]) -> Self {
        Self { bytes, name }
    }
}

impl Source for MemorySource<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(rest) = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)) else { return Ok(0) };
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn name(&self) -> &[u8] {
        self.name
    }
}

/// An open regular file.
#[derive(Debug)]
pub struct FileSource {
    file: std::fs::File,
    len: u64,
    name: Vec<u8>,
}

impl FileSource {
    /// `file` has to be a regular file that the caller opened safely; its length is taken now.
    pub fn new(file: std::fs::File, name: impl Into<Vec<u8>>) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, len, name: name.into() })
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset)
    }

    fn name(&self) -> &[u8] {
        &self.name
    }
}
