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

    /// It lies where a hub's libraries keep the code of models: whoever loads one imports it, by whatever name.
    fn is_models_code(&self) -> bool {
        false
    }

    /// Another file of the same repository: `path` is relative to this file's folder, with `/` between its parts.
    /// Who implements it never leaves that folder.
    fn sibling(&self, _path: &str) -> Sibling {
        Sibling::Unknown
    }
}

/// What is known of another file of the repository.
pub enum Sibling {
    Here(Box<dyn Source>),
    Missing,
    /// The source has no folder, or the file may not be read.
    Unknown,
}

/// The parts of a path below a folder: `None` where it would leave it.
pub fn parts_below(path: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let safe = |part: &&str| *part != ".." && !part.contains(['\\', '\0']);
    (!path.starts_with('/') && !parts.is_empty() && parts.iter().all(safe)).then_some(parts)
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
