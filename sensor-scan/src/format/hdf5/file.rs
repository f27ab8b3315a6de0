//! Superblock, addresses, and the heaps that names and texts lie in.

use crate::window::Window;

pub const MAGIC: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
/// A user block of 512 bytes, doubled up to here, may come before the superblock.
const USER_BLOCK_BYTES_MAX: u64 = 64 << 20;

/// Where the superblock is; offsets that the library tries.
pub fn superblock_at(window: &Window<'_>) -> Option<u64> {
    let candidates = std::iter::successors(Some(512_u64), |at| at.checked_mul(2));
    std::iter::once(0)
        .chain(candidates.take_while(|at| *at <= USER_BLOCK_BYTES_MAX && *at < window.len()))
        .find(|at| crate::slice::read(window.source(), *at, MAGIC.len()) == MAGIC)
}

/// An open file: every address is relative to `base`.
pub struct File<'w, 's> {
    pub window: &'w Window<'s>,
    base: u64,
    /// Bytes of an address.
    pub offset_bytes: u8,
    /// Bytes of a length.
    pub length_bytes: u8,
    /// Address of the root group's object header.
    pub root: u64,
    /// Behind the last byte that the superblock accounts for, as an offset in the source.
    pub end: u64,
}

/// Reads fields one behind the other.
#[derive(Clone, Copy)]
pub struct Cursor<'f, 'w, 's> {
    pub file: &'f File<'w, 's>,
    /// Offset in the source.
    pub at: u64,
    /// Behind the last byte that belongs to what is read.
    pub end: u64,
}

impl Cursor<'_, '_, '_> {
    pub fn uint(&mut self, bytes: u8) -> Option<u64> {
        let next = self.at.checked_add(bytes.into())?;
        if next > self.end {
            return None;
        }
        let number = self.file.window.uint(self.at, bytes)?;
        self.at = next;
        Some(number)
    }

    pub fn skip(&mut self, bytes: u64) -> Option<()> {
        let next = self.at.checked_add(bytes)?;
        if next > self.end {
            return None;
        }
        self.at = next;
        Some(())
    }

    /// An address, resolved to an offset in the source.
    pub fn address(&mut self) -> Option<u64> {
        let address = self.uint(self.file.offset_bytes)?;
        self.file.resolve(address)
    }

    /// The same where the address may be left out (all ones).
    pub fn optional_address(&mut self) -> Option<Option<u64>> {
        let address = self.uint(self.file.offset_bytes)?;
        Some(self.file.resolve(address))
    }

    pub fn length(&mut self) -> Option<u64> {
        self.uint(self.file.length_bytes)
    }

    pub fn signature(&mut self, signature: &[u8; 4]) -> Option<()> {
        let found = self.file.window.array(self.at)?;
        self.skip(4)?;
        (found == *signature).then_some(())
    }

    /// A text up to a NUL, at most `max` bytes.
    pub fn string(&mut self, max: usize) -> Option<Vec<u8>> {
        let bytes = self.file.window.bytes(self.at, self.end, max);
        let len = bytes.iter().position(|byte| *byte == 0)?;
        self.at += len as u64 + 1;
        Some(bytes[..len].to_vec())
    }
}

impl<'w, 's> File<'w, 's> {
    pub fn open(window: &'w Window<'s>) -> Option<Self> {
        let at = superblock_at(window)?;
        let version = window.u8(at + 8)?;
        let (sizes, fields) = match version {
            0 => (at + 13, at + 24),
            1 => (at + 13, at + 28),
            2 | 3 => (at + 9, at + 12),
            _ => return None,
        };
        let (offset_bytes, length_bytes) = (window.u8(sizes)?, window.u8(sizes + 1)?);
        let legal = |bytes: u8| matches!(bytes, 2 | 4 | 8);
        if !legal(offset_bytes) || !legal(length_bytes) {
            return None;
        }
        let mut file = Self { window, base: 0, offset_bytes, length_bytes, root: 0, end: 0 };
        let mut cursor = file.at(fields);
        let base = cursor.uint(offset_bytes)?;
        cursor.uint(offset_bytes)?;
        let end = cursor.uint(offset_bytes)?;
        if version < 2 {
            cursor.uint(offset_bytes)?;
            // The root's symbol table entry: the name's offset, then its object header.
            cursor.uint(offset_bytes)?;
        }
        let root = cursor.uint(offset_bytes)?;
        // The library moves the base to where it found the superblock.
        file.base = at;
        file.root = file.resolve(root)?;
        file.end = at.checked_add(end.checked_sub(base)?)?;
        Some(file)
    }

    /// An address as an offset in the source; `None` for the undefined one and for what lies outside.
    pub fn resolve(&self, address: u64) -> Option<u64> {
        let undefined = if self.offset_bytes == 8 { u64::MAX } else { (1 << (8 * self.offset_bytes)) - 1 };
        if address == undefined {
            return None;
        }
        self.base.checked_add(address)
    }

    /// Reads from an offset in the source on.
    pub fn at(&self, at: u64) -> Cursor<'_, 'w, 's> {
        Cursor { file: self, at, end: self.window.len() }
    }

    pub fn range(&self, at: u64, end: u64) -> Cursor<'_, 'w, 's> {
        Cursor { file: self, at, end: end.min(self.window.len()) }
    }

    /// A text in the local heap whose header is at `heap`.
    pub fn local_text(&self, heap: u64, offset: u64, max: usize) -> Option<Vec<u8>> {
        let mut cursor = self.at(heap);
        cursor.signature(b"HEAP")?;
        cursor.skip(4)?;
        let size = cursor.length()?;
        cursor.length()?;
        let data = cursor.address()?;
        if offset >= size {
            return None;
        }
        self.range(data.checked_add(offset)?, data.checked_add(size)?).string(max)
    }

    /// Where an object of a global heap collection lies.
    pub fn global(&self, collection: u64, index: u64) -> Option<(u64, u64)> {
        self.collection(collection)?.find(|(number, ..)| *number == index).map(|(_, start, end)| (start, end))
    }

    /// Objects of a global heap collection: index, start and end.
    pub fn collection(&self, at: u64) -> Option<impl Iterator<Item = (u64, u64, u64)>> {
        let mut cursor = self.at(at);
        cursor.signature(b"GCOL")?;
        cursor.skip(4)?;
        let size = cursor.length()?;
        let mut cursor = self.range(cursor.at, at.checked_add(size)?);
        Some(std::iter::from_fn(move || {
            let index = cursor.uint(2)?;
            cursor.skip(6)?;
            let size = cursor.length()?;
            let start = cursor.at;
            cursor.skip(size.checked_next_multiple_of(8)?)?;
            // Index 0 is the free space at the end.
            (index != 0).then_some((index, start, start + size))
        }))
    }
}
