//! Where a dataset's values lie: in this file, or in others.

use super::attribute::{Kind, datatype, variable};
use super::chunk::{self, Chunk};
use super::file::File;
use super::filter::{self, Filter};
use super::object::{Message, kind};

/// Other files of one dataset.
const FILES_MAX: u64 = 1000;
/// References of one dataset that are followed.
const VARIABLES_MAX: u64 = 10_000;

#[derive(Default)]
pub struct Dataset {
    /// Names of other files that the values are read from.
    pub files: Vec<Vec<u8>>,
    /// Ranges of values that are bytes or texts.
    pub values: Vec<(u64, u64)>,
    /// The same where they lie in chunks, the first ones in order.
    pub chunks: Vec<Chunk>,
    /// What the chunks went through.
    pub filters: Vec<Filter>,
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
    if let Some(message) = filters {
        match filter::pipeline(file, message) {
            Some(filters) => dataset.filters = filters,
            None => dataset.chunks.clear(),
        }
    }
    Some(dataset)
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
    if class == 2 && kind == Kind::Bytes {
        dataset.chunks = chunk::list(file, layout, version)?;
        return Some(());
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
