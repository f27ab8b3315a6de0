//! Dense storage: a fractal heap that holds attributes or links, which a B-tree lists.

use std::collections::BTreeMap;

use super::file::File;
use super::tree;

/// Blocks in each other.
const DEPTH_MAX: u64 = 16;

/// Ranges of the objects that the tree at `tree` lists in the heap at `heap`; the flag says that all were found.
pub fn objects(file: &File<'_, '_>, heap: u64, tree: u64) -> (Vec<(u64, u64)>, bool) {
    let mut records = Vec::new();
    let listed = tree::records(file, tree, &mut records);
    // Where the heap id stands in a record: links by name and by order, attributes by name and by order.
    let id_at = match listed.map(|form| form.kind) {
        Some(5) => 4,
        Some(6) => 8,
        Some(8 | 9) => 0,
        _ => return (Vec::new(), false),
    };
    let Some(heap) = Heap::open(file, heap) else { return (Vec::new(), false) };
    let ranges: Vec<(u64, u64)> = records.iter().filter_map(|record| heap.locate(record + id_at)).collect();
    let complete = ranges.len() == records.len();
    (ranges, complete)
}

/// Objects outside the heap's blocks, as their tree lists them: a place, a length and the key.
fn huge_objects(file: &File<'_, '_>, tree: u64) -> BTreeMap<u64, (u64, u64)> {
    let mut records = Vec::new();
    if tree::records(file, tree, &mut records).is_none_or(|form| form.kind != 1) {
        return BTreeMap::new();
    }
    let object = |record: &u64| {
        let mut cursor = file.at(*record);
        let (start, length) = (cursor.address()?, cursor.length()?);
        let end = start.checked_add(length).filter(|end| *end <= file.window.len())?;
        Some((cursor.length()?, (start, end)))
    };
    records.iter().filter_map(object).collect()
}

struct Heap<'f, 'w, 's> {
    file: &'f File<'w, 's>,
    /// Bytes of an object's id.
    id_bytes: u8,
    width: u64,
    start_bytes: u64,
    max_direct_bytes: u64,
    /// Bytes of an offset within the heap, and of a length.
    offset_bytes: u8,
    length_bytes: u8,
    /// Ranges of the objects that are too large for a block, by their keys.
    huge: BTreeMap<u64, (u64, u64)>,
    root: Option<u64>,
    root_rows: u64,
}

impl<'f, 'w, 's> Heap<'f, 'w, 's> {
    fn open(file: &'f File<'w, 's>, at: u64) -> Option<Self> {
        let mut cursor = file.at(at);
        cursor.signature(b"FRHP")?;
        cursor.skip(1)?;
        let id_bytes = u8::try_from(cursor.uint(2)?).ok()?;
        let filter_bytes = cursor.uint(2)?;
        cursor.skip(1)?;
        let max_object_bytes = cursor.uint(4)?;
        let (offset, length) = (u64::from(file.offset_bytes), u64::from(file.length_bytes));
        cursor.skip(length)?;
        let huge = cursor.optional_address()?;
        cursor.skip(length + offset + 8 * length)?;
        let width = cursor.uint(2)?;
        let start_bytes = cursor.length()?;
        let max_direct_bytes = cursor.length()?;
        let bits = cursor.uint(2)?;
        cursor.skip(2)?;
        let root = cursor.optional_address()?;
        let root_rows = cursor.uint(2)?;
        // Filtered heaps hold compressed blocks, which nobody writes for names and attributes.
        if filter_bytes > 0 || bits > 64 || width == 0 || !start_bytes.is_power_of_two() {
            return None;
        }
        Some(Self {
            file,
            id_bytes,
            width,
            start_bytes,
            max_direct_bytes,
            offset_bytes: bits.div_ceil(8) as u8,
            huge: huge.map(|tree| huge_objects(file, tree)).unwrap_or_default(),
            length_bytes: (max_object_bytes.min(max_direct_bytes).max(1).ilog2() / 8 + 1) as u8,
            root,
            root_rows,
        })
    }

    /// Range of the object whose id stands at `id`.
    fn locate(&self, id: u64) -> Option<(u64, u64)> {
        let mut cursor = self.file.at(id);
        let flags = cursor.uint(1)?;
        match flags >> 4 & 3 {
            0 => {
                let offset = cursor.uint(self.offset_bytes)?;
                let length = cursor.uint(self.length_bytes)?;
                let start = self.resolve(offset)?;
                let end = start.checked_add(length)?;
                (end <= self.file.window.len()).then_some((start, end))
            }
            1 => {
                let key = cursor.uint(self.file.length_bytes.min(self.id_bytes.checked_sub(1)?))?;
                self.huge.get(&key).copied()
            }
            // The id holds the object itself.
            2 => Some((cursor.at, cursor.at + (flags & 0xf) + 1)),
            _ => None,
        }
    }

    fn row_bytes(&self, row: u64) -> Option<u64> {
        self.start_bytes.checked_shl(row.saturating_sub(1).try_into().ok()?).filter(|bytes| *bytes >= self.start_bytes)
    }

    /// Offset in the source of an offset in the heap, through the doubling table of blocks.
    fn resolve(&self, offset: u64) -> Option<u64> {
        let (mut block, mut rows, mut base) = (self.root?, self.root_rows, 0_u64);
        for _ in 0..DEPTH_MAX {
            if rows == 0 {
                return block.checked_add(offset.checked_sub(base)?);
            }
            let mut row_base = base;
            let mut row = 0;
            let bytes = loop {
                if row >= rows {
                    return None;
                }
                let bytes = self.row_bytes(row)?;
                let next = row_base.checked_add(bytes.checked_mul(self.width)?)?;
                if offset < next {
                    break bytes;
                }
                row_base = next;
                row += 1;
            };
            let column = (offset - row_base) / bytes;
            let entries = 5 + u64::from(self.file.offset_bytes) + u64::from(self.offset_bytes);
            let index = row.checked_mul(self.width)?.checked_add(column)?;
            let mut cursor = self.file.at(block);
            cursor.signature(b"FHIB")?;
            cursor.at = block.checked_add(entries)?.checked_add(index.checked_mul(self.file.offset_bytes.into())?)?;
            block = cursor.address()?;
            base = row_base + column * bytes;
            rows = if bytes > self.max_direct_bytes {
                // An indirect block of as many rows as cover its size.
                u64::from((bytes / self.start_bytes / self.width).max(1).ilog2()) + 1
            } else {
                0
            };
        }
        None
    }
}
