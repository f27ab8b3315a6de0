//! Where a dataset's values lie: in this file, or in others.

use super::attribute::{Kind, datatype, variable};
use super::file::File;
use super::object::{Message, kind};

/// Other files of one dataset.
const FILES_MAX: u64 = 1000;
/// Chunks of one dataset that are looked at.
const CHUNKS_MAX: usize = 64;
/// References of one dataset that are followed.
const VARIABLES_MAX: u64 = 10_000;

#[derive(Default)]
pub struct Dataset {
    /// Names of other files that the values are read from.
    pub files: Vec<Vec<u8>>,
    /// Ranges of values that are bytes or texts.
    pub values: Vec<(u64, u64)>,
    /// The same where they lie in chunks: each chunk's range, in order.
    pub chunks: Vec<(u64, u64)>,
    /// Chunks are compressed with deflate.
    pub deflated: bool,
}

/// `None` where the object is no dataset; the flag is cleared where something can't be read.
pub fn read(file: &File<'_, '_>, messages: &[Message], complete: &mut bool) -> Option<Dataset> {
    let of = |kind| messages.iter().find(move |message| message.kind == kind);
    let layout = of(kind::LAYOUT)?;
    let mut dataset = Dataset::default();
    for message in messages.iter().filter(|message| message.kind == kind::EXTERNAL) {
        *complete &= external(file, message, &mut dataset).is_some();
    }
    let element = of(kind::DATATYPE)
        .filter(|message| !message.shared)
        .and_then(|message| datatype(file.range(message.start, message.end)));
    let kind = element.map_or(Kind::Other, |(kind, _)| kind);
    let filters = of(kind::FILTERS);
    *complete &= place(file, layout, kind, filters.is_some(), &mut dataset).is_some();
    dataset.deflated = filters.is_some_and(|message| deflates(file, message));
    // Other filters (shuffle with deflate, vendors' own) hide bytes from every reader but the library.
    if filters.is_some() && !dataset.deflated {
        dataset.chunks.clear();
    }
    Some(dataset)
}

/// The pipeline is deflate alone.
fn deflates(file: &File<'_, '_>, message: &Message) -> bool {
    let mut body = file.range(message.start, message.end);
    let version = body.uint(1);
    let count = body.uint(1);
    let reserved = if version == Some(1) { 6 } else { 0 };
    body.skip(reserved).is_some() && count == Some(1) && body.uint(2) == Some(1)
}

/// Chunks that the B-tree (version 1) at `tree` lists; the first ones, which is where a payload has its start.
fn chunks(file: &File<'_, '_>, tree: u64, rank: u64, dataset: &mut Dataset) -> Option<()> {
    let mut queue = vec![(tree, u64::MAX)];
    while let Some((node, level_above)) = queue.pop() {
        let mut cursor = file.at(node);
        cursor.signature(b"TREE")?;
        let (kind, level, used) = (cursor.uint(1)?, cursor.uint(1)?, cursor.uint(2)?);
        if kind != 1 || level >= level_above {
            return None;
        }
        cursor.skip(2 * u64::from(file.offset_bytes))?;
        let mut children = Vec::new();
        for _ in 0..used {
            let size = cursor.uint(4)?;
            cursor.skip(4 + 8 * rank)?;
            let child = cursor.address()?;
            if level > 0 {
                children.push((child, level));
            } else if dataset.chunks.len() < CHUNKS_MAX {
                dataset.chunks.push((child, child.checked_add(size)?));
            } else {
                return Some(());
            }
        }
        queue.extend(children.into_iter().rev());
    }
    Some(())
}

/// The list of raw files.
fn external(file: &File<'_, '_>, message: &Message, dataset: &mut Dataset) -> Option<()> {
    let mut body = file.range(message.start, message.end);
    body.skip(6)?;
    let used = body.uint(2)?;
    let heap = body.address()?;
    for _ in 0..used.min(FILES_MAX) {
        let name = body.length()?;
        body.length()?;
        body.length()?;
        dataset.files.push(file.local_text(heap, name, 4096)?);
    }
    Some(())
}

fn place(file: &File<'_, '_>, layout: &Message, kind: Kind, filtered: bool, dataset: &mut Dataset) -> Option<()> {
    let mut body = file.range(layout.start, layout.end);
    let version = body.uint(1)?;
    let (class, range) = if version < 3 {
        let rank = body.uint(1)?;
        let class = body.uint(1)?;
        body.skip(5)?;
        let at = if class == 0 { Some(None) } else { Some(body.optional_address()?) };
        let bytes = (0..rank).try_fold(1_u64, |bytes, _| bytes.checked_mul(body.uint(4)?))?;
        let range = match at? {
            Some(at) if class == 1 => Some((at, at.saturating_add(bytes))),
            None if class == 0 => {
                let size = body.uint(4)?;
                Some((body.at, body.at + size))
            }
            _ => None,
        };
        (class, range)
    } else {
        let class = body.uint(1)?;
        let range = match class {
            0 => {
                let size = body.uint(2)?;
                Some((body.at, body.at + size))
            }
            1 => {
                let (at, size) = (body.optional_address()?, body.length()?);
                at.map(|at| (at, at.saturating_add(size)))
            }
            _ => None,
        };
        (class, range)
    };
    if class == 3 {
        let (heap, index) = (body.optional_address()?, body.uint(4)?);
        if let Some(heap) = heap {
            virtual_files(file, heap, index, dataset)?;
        }
        return Some(());
    }
    // A dataset in chunks: version 3 lists them in a B-tree, version 4 may have just one.
    if class == 2 && kind == Kind::Bytes {
        return in_chunks(file, layout, version, dataset);
    }
    let Some((start, end)) = range.filter(|_| !filtered) else { return Some(()) };
    match kind {
        Kind::Bytes => dataset.values.push((start, end)),
        Kind::Variable => {
            let mut cursor = file.range(start, end);
            let each = 8 + u64::from(file.offset_bytes);
            for _ in 0..((end - start) / each).min(VARIABLES_MAX) {
                dataset.values.extend(variable(&mut cursor));
            }
        }
        Kind::Other => {}
    }
    Some(())
}

fn in_chunks(file: &File<'_, '_>, layout: &Message, version: u64, dataset: &mut Dataset) -> Option<()> {
    let mut body = file.range(layout.start, layout.end);
    body.skip(2)?;
    match version {
        3 => {
            let rank = body.uint(1)?;
            let Some(tree) = body.optional_address()? else { return Some(()) };
            chunks(file, tree, rank, dataset)
        }
        4 => {
            let flags = body.uint(1)?;
            let rank = body.uint(1)?;
            let width = body.uint(1)? as u8;
            let mut bytes = 1_u64;
            for _ in 0..rank {
                bytes = bytes.checked_mul(body.uint(width)?)?;
            }
            // A single chunk, or chunks one behind the other without an index.
            match body.uint(1)? {
                1 => {
                    if flags & 2 != 0 {
                        bytes = body.length()?;
                        body.skip(4)?;
                    }
                    if let Some(at) = body.optional_address()? {
                        dataset.chunks.push((at, at.checked_add(bytes)?));
                    }
                }
                2 => {
                    if let Some(at) = body.optional_address()? {
                        for index in 0..CHUNKS_MAX as u64 {
                            let start = at.checked_add(index.checked_mul(bytes)?)?;
                            dataset.chunks.push((start, start.checked_add(bytes)?));
                        }
                    }
                }
                _ => {}
            }
            Some(())
        }
        _ => Some(()),
    }
}

/// The files of a virtual dataset's mappings, up to the first selection: its length is known to the library alone, so
/// the names behind it are found by their NULs.
fn virtual_files(file: &File<'_, '_>, heap: u64, index: u64, dataset: &mut Dataset) -> Option<()> {
    let (start, end) = file.global(heap, index)?;
    let mut body = file.range(start, end);
    body.skip(1)?;
    let count = body.length()?;
    if count > 0 {
        // `.` is this file itself.
        let name = body.string(4096)?;
        if name != b"." {
            dataset.files.push(name);
        }
    }
    Some(())
}
