//! Attributes: their names, and the texts that they hold.

use super::file::{Cursor, File};

/// Bytes of one text that are kept: a model's configuration has up to a few megabytes.
pub const TEXT_BYTES_MAX: usize = 16 << 20;
/// Texts of one attribute.
const TEXTS_MAX: u64 = 10_000;

pub struct Attribute {
    pub name: Vec<u8>,
    /// Ranges of its texts or its raw bytes.
    pub values: Vec<(u64, u64)>,
}

/// A datatype, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Texts of a fixed length, opaque bytes, bytes as numbers.
    Bytes,
    /// Texts or sequences in a global heap.
    Variable,
    /// Numbers and the like.
    Other,
}

/// Kind and bytes of one element of the datatype at the cursor.
pub fn datatype(mut cursor: Cursor<'_, '_, '_>) -> Option<(Kind, u64)> {
    let class = cursor.uint(1)?;
    cursor.skip(3)?;
    let size = cursor.uint(4)?;
    let kind = match class & 0xf {
        0 if size == 1 => Kind::Bytes,
        3 | 5 => Kind::Bytes,
        9 => Kind::Variable,
        // An array of bytes.
        10 if size > 8 => Kind::Bytes,
        // Compounds may hold texts of a fixed length: pandas' and PyTables' tables.
        6 if size > 16 => Kind::Bytes,
        _ => Kind::Other,
    };
    Some((kind, size))
}

/// Number of elements of the dataspace at the cursor.
pub fn elements(mut cursor: Cursor<'_, '_, '_>) -> Option<u64> {
    let version = cursor.uint(1)?;
    let rank = cursor.uint(1)?;
    cursor.skip(1)?;
    match version {
        1 => cursor.skip(5)?,
        2 => {
            if cursor.uint(1)? == 2 {
                return Some(0);
            }
        }
        _ => return None,
    }
    (0..rank).try_fold(1_u64, |elements, _| elements.checked_mul(cursor.length()?))
}

/// Reads the message between `start` and `end`.
pub fn read(file: &File<'_, '_>, start: u64, end: u64) -> Option<Attribute> {
    let mut cursor = file.range(start, end);
    let version = cursor.uint(1)?;
    let flags = cursor.uint(1)?;
    let (name_bytes, type_bytes, space_bytes) = (cursor.uint(2)?, cursor.uint(2)?, cursor.uint(2)?);
    if version == 3 {
        cursor.skip(1)?;
    }
    let padded = |bytes: u64| if version == 1 { bytes.next_multiple_of(8) } else { bytes };
    let mut name = file.window.bytes(cursor.at, cursor.at + name_bytes, 4096);
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
    cursor.skip(padded(name_bytes))?;
    let (type_at, space_at) = (cursor.at, cursor.at + padded(type_bytes));
    cursor.skip(padded(type_bytes) + padded(space_bytes))?;
    let mut values = Vec::new();
    let shared_type = version > 1 && flags & 1 != 0;
    let kind = if shared_type { committed(file, type_at) } else { datatype(file.range(type_at, space_at)) };
    let (kind, size) = kind.unwrap_or((Kind::Bytes, end.saturating_sub(cursor.at)));
    let count = elements(file.range(space_at, space_at + space_bytes)).unwrap_or(1).min(TEXTS_MAX);
    match kind {
        Kind::Variable => {
            for _ in 0..count {
                values.extend(variable(&mut cursor));
            }
        }
        Kind::Bytes if size > 1 && count < TEXTS_MAX => {
            for _ in 0..count {
                let next = cursor.at.saturating_add(size).min(end);
                values.push((cursor.at, next));
                cursor.at = next;
            }
        }
        Kind::Bytes => values.push((cursor.at, end)),
        Kind::Other => {}
    }
    Some(Attribute { name, values })
}

/// A datatype that stands in an object header of its own.
fn committed(file: &File<'_, '_>, at: u64) -> Option<(Kind, u64)> {
    let mut cursor = file.at(at);
    let version = cursor.uint(1)?;
    cursor.skip(if version == 1 { 7 } else { 1 })?;
    let header = cursor.address()?;
    let messages = super::object::messages(file, header);
    let found = messages.found.iter().find(|message| message.kind == super::object::kind::DATATYPE)?;
    datatype(file.range(found.start, found.end))
}

/// A reference into a global heap: length, collection, index.
pub fn variable(cursor: &mut Cursor<'_, '_, '_>) -> Option<(u64, u64)> {
    let length = cursor.uint(4)?;
    let collection = cursor.optional_address()?;
    let index = cursor.uint(4)?;
    let (start, end) = cursor.file.global(collection?, index)?;
    // A sequence counts elements, a text bytes: the heap knows the bytes.
    Some((start, end.min(start.saturating_add(length.saturating_mul(8)))))
}
