//! Where the chunks of a dataset lie: every index that the library writes.

use super::file::{Cursor, File};
use super::object::Message;
use super::tree;

/// Chunks of one dataset that are looked at: the first ones, which is where a payload has its start.
pub const CHUNKS_MAX: usize = 64;
/// Entries of one array that are read: most may be chunks that were never written.
const ENTRIES_MAX: u64 = 100_000;
/// Dimensions of a dataspace, and one for the element.
const RANK_MAX: u64 = 33;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub start: u64,
    pub end: u64,
    /// A bit for each filter that was left out.
    pub left_out: u64,
}

/// The first chunks, in order; `None` where the index can't be read. `layout` is a message of class 2 (chunked).
pub fn list(file: &File<'_, '_>, layout: &Message, version: u64) -> Option<Vec<Chunk>> {
    let mut body = file.range(layout.start, layout.end);
    match version {
        1 | 2 => {
            body.skip(1)?;
            let rank = body.uint(1)?;
            body.skip(6)?;
            let Some(tree) = body.optional_address()? else { return Some(Vec::new()) };
            old_tree(file, tree, rank)
        }
        3 => {
            body.skip(2)?;
            let rank = body.uint(1)?;
            let Some(tree) = body.optional_address()? else { return Some(Vec::new()) };
            old_tree(file, tree, rank)
        }
        4 | 5 => {
            body.skip(2)?;
            let flags = body.uint(1)?;
            let rank = body.uint(1).filter(|rank| (1..=RANK_MAX).contains(rank))?;
            let width = u8::try_from(body.uint(1)?).ok().filter(|width| (1..=8).contains(width))?;
            let bytes = (0..rank).try_fold(1_u64, |bytes, _| bytes.checked_mul(body.uint(width)?))?;
            indexed(file, body, Shape { rank, bytes, filtered: flags & 2 != 0 })
        }
        _ => None,
    }
}

/// What the layout says of every chunk.
#[derive(Clone, Copy)]
struct Shape {
    /// Dimensions, the element's size as the last one.
    rank: u64,
    /// Bytes of a chunk that no filter changed.
    bytes: u64,
    /// Of a single chunk: it went through the filters.
    filtered: bool,
}

impl Shape {
    fn chunk(self, start: u64) -> Option<Chunk> {
        Some(Chunk { start, end: start.checked_add(self.bytes)?, left_out: 0 })
    }
}

fn indexed(file: &File<'_, '_>, mut body: Cursor<'_, '_, '_>, shape: Shape) -> Option<Vec<Chunk>> {
    match body.uint(1)? {
        // One chunk.
        1 => {
            let filtered = if shape.filtered { Some((body.length()?, body.uint(4)?)) } else { None };
            let Some(start) = body.optional_address()? else { return Some(Vec::new()) };
            let chunk = match filtered {
                Some((bytes, left_out)) => Chunk { start, end: start.checked_add(bytes)?, left_out },
                None => shape.chunk(start)?,
            };
            Some(vec![chunk])
        }
        // One behind the other, without an index.
        2 => {
            let Some(first) = body.optional_address()? else { return Some(Vec::new()) };
            let starts = (0..CHUNKS_MAX as u64).map(|index| first.checked_add(index.checked_mul(shape.bytes)?));
            let inside = starts.take_while(|start| start.is_none_or(|start| start < file.window.len()));
            inside.map(|start| shape.chunk(start?)).collect()
        }
        3 => {
            body.skip(1)?;
            let Some(header) = body.optional_address()? else { return Some(Vec::new()) };
            Elements::new(shape).fixed_array(file, header)
        }
        4 => {
            body.skip(5)?;
            let Some(header) = body.optional_address()? else { return Some(Vec::new()) };
            Elements::new(shape).extensible_array(file, header)
        }
        5 => {
            body.skip(6)?;
            let Some(tree) = body.optional_address()? else { return Some(Vec::new()) };
            new_tree(file, tree, shape)
        }
        _ => None,
    }
}

/// A B-tree of version 1.
fn old_tree(file: &File<'_, '_>, tree: u64, rank: u64) -> Option<Vec<Chunk>> {
    let mut chunks = Vec::new();
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
            let (size, left_out) = (cursor.uint(4)?, cursor.uint(4)?);
            cursor.skip(8 * rank)?;
            let child = cursor.address()?;
            if level > 0 {
                children.push((child, level));
            } else if chunks.len() < CHUNKS_MAX {
                chunks.push(Chunk { start: child, end: child.checked_add(size)?, left_out });
            } else {
                return Some(chunks);
            }
        }
        queue.extend(children.into_iter().rev());
    }
    Some(chunks)
}

/// A B-tree of version 2: records of a place, a size and a mask where there are filters, and the chunk's coordinates.
fn new_tree(file: &File<'_, '_>, tree: u64, shape: Shape) -> Option<Vec<Chunk>> {
    let mut records = Vec::new();
    let form = tree::records(file, tree, &mut records)?;
    let coordinate_bytes = 8 * (shape.rank - 1);
    let head = form.record_bytes.checked_sub(coordinate_bytes)?;
    let filtered = match form.kind {
        10 => false,
        11 => true,
        _ => return None,
    };
    let chunks: Vec<Option<(Vec<u64>, Chunk)>> = records
        .into_iter()
        .map(|record| {
            let mut cursor = file.range(record, record.checked_add(form.record_bytes)?);
            let chunk = entry(&mut cursor, head, filtered, shape)?;
            let place: Vec<u64> = (1..shape.rank).map(|_| cursor.uint(8)).collect::<Option<_>>()?;
            Some(chunk.map(|chunk| (place, chunk)))
        })
        .collect::<Option<_>>()?;
    let mut chunks: Vec<(Vec<u64>, Chunk)> = chunks.into_iter().flatten().collect();
    chunks.sort_by(|a, b| a.0.cmp(&b.0));
    Some(chunks.into_iter().map(|(_, chunk)| chunk).take(CHUNKS_MAX).collect())
}

/// An entry of `bytes`: a place, and where there are filters a size and a mask. The inner `None` is a chunk that was never
/// written.
fn entry(cursor: &mut Cursor<'_, '_, '_>, bytes: u64, filtered: bool, shape: Shape) -> Option<Option<Chunk>> {
    let offset_bytes = u64::from(cursor.file.offset_bytes);
    let start = cursor.optional_address()?;
    if !filtered {
        return (bytes == offset_bytes).then(|| start.and_then(|start| shape.chunk(start)));
    }
    let size_bytes = u8::try_from(bytes.checked_sub(offset_bytes + 4)?).ok().filter(|bytes| (1..=8).contains(bytes))?;
    let (size, left_out) = (cursor.uint(size_bytes)?, cursor.uint(4)?);
    Some(start.and_then(|start| Some(Chunk { start, end: start.checked_add(size)?, left_out })))
}

/// The entries of an array, as far as they are looked at.
struct Elements {
    shape: Shape,
    entry_bytes: u64,
    filtered: bool,
    chunks: Vec<Chunk>,
    /// Entries read, those of chunks that were never written counted.
    read: u64,
}

impl Elements {
    fn new(shape: Shape) -> Self {
        Self { shape, entry_bytes: 0, filtered: false, chunks: Vec::new(), read: 0 }
    }

    fn full(&self) -> bool {
        self.chunks.len() >= CHUNKS_MAX || self.read >= ENTRIES_MAX
    }

    fn run(&mut self, cursor: &mut Cursor<'_, '_, '_>, count: u64) -> Option<()> {
        for _ in 0..count {
            if self.full() {
                return Some(());
            }
            self.read += 1;
            self.chunks.extend(entry(cursor, self.entry_bytes, self.filtered, self.shape)?);
        }
        Some(())
    }

    /// Entries in pages, of which each has a checksum.
    fn pages(&mut self, cursor: &mut Cursor<'_, '_, '_>, mut count: u64, page: u64) -> Option<()> {
        while count > 0 && !self.full() {
            let here = count.min(page);
            let next = cursor.at.checked_add(here.checked_mul(self.entry_bytes)?)?.checked_add(4)?;
            self.run(cursor, here)?;
            cursor.at = next;
            count -= here;
        }
        Some(())
    }

    fn fixed_array(mut self, file: &File<'_, '_>, header: u64) -> Option<Vec<Chunk>> {
        let mut cursor = file.at(header);
        cursor.signature(b"FAHD")?;
        cursor.skip(1)?;
        self.filtered = cursor.uint(1)? == 1;
        self.entry_bytes = cursor.uint(1)?;
        let page = 1_u64.checked_shl(cursor.uint(1)?.try_into().ok()?)?;
        let count = cursor.length()?;
        let Some(block) = cursor.optional_address()? else { return Some(self.chunks) };
        let mut cursor = file.at(block);
        cursor.signature(b"FADB")?;
        cursor.skip(2 + u64::from(file.offset_bytes))?;
        if count > page {
            // A bit for each page, and a checksum.
            cursor.skip(count.div_ceil(page).div_ceil(8) + 4)?;
            self.pages(&mut cursor, count, page)?;
        } else {
            self.run(&mut cursor, count)?;
        }
        Some(self.chunks)
    }

    /// An array that grows by blocks: the first entries and the first blocks hang on the index block, the rest on
    /// secondary blocks.
    fn extensible_array(mut self, file: &File<'_, '_>, header: u64) -> Option<Vec<Chunk>> {
        let mut cursor = file.at(header);
        cursor.signature(b"EAHD")?;
        cursor.skip(1)?;
        self.filtered = cursor.uint(1)? == 1;
        self.entry_bytes = cursor.uint(1)?;
        let mut small = || cursor.uint(1);
        let (index_bits, direct, block_min, pointers_min, page_bits) =
            (small()?, small()?, small()?, small()?, small()?);
        // Secondary blocks, data blocks, and what is in use.
        cursor.skip(6 * u64::from(file.length_bytes))?;
        let Some(index) = cursor.optional_address()? else { return Some(self.chunks) };
        if !block_min.is_power_of_two() || !pointers_min.is_power_of_two() || index_bits > 64 || page_bits > 32 {
            return None;
        }
        let form = Blocks { block_min, page: 1 << page_bits, place_bytes: index_bits.div_ceil(8) };
        let mut cursor = file.at(index);
        cursor.signature(b"EAIB")?;
        cursor.skip(2 + u64::from(file.offset_bytes))?;
        self.run(&mut cursor, direct)?;
        let hanging = 2 * u64::from(pointers_min.ilog2());
        for group in 0..hanging {
            for _ in 0..form.blocks(group)? {
                let block = cursor.optional_address()?;
                self.data_block(file, block, form.entries(group)?, &form)?;
            }
        }
        let groups = 1 + index_bits.checked_sub(block_min.ilog2().into())?;
        for group in hanging..groups {
            if self.full() {
                break;
            }
            if let Some(block) = cursor.optional_address()? {
                self.secondary_block(file, block, group, &form)?;
            }
        }
        Some(self.chunks)
    }

    fn secondary_block(&mut self, file: &File<'_, '_>, at: u64, group: u64, form: &Blocks) -> Option<()> {
        let mut cursor = file.at(at);
        cursor.signature(b"EASB")?;
        cursor.skip(2 + u64::from(file.offset_bytes) + form.place_bytes)?;
        let (blocks, entries) = (form.blocks(group)?, form.entries(group)?);
        if entries > form.page {
            cursor.skip(blocks.checked_mul((entries / form.page).div_ceil(8))?)?;
        }
        for _ in 0..blocks {
            if self.full() {
                break;
            }
            let block = cursor.optional_address()?;
            self.data_block(file, block, entries, form)?;
        }
        Some(())
    }

    fn data_block(&mut self, file: &File<'_, '_>, at: Option<u64>, entries: u64, form: &Blocks) -> Option<()> {
        if self.full() {
            return Some(());
        }
        let Some(at) = at else {
            self.read = self.read.saturating_add(entries);
            return Some(());
        };
        let mut cursor = file.at(at);
        cursor.signature(b"EADB")?;
        cursor.skip(2 + u64::from(file.offset_bytes) + form.place_bytes)?;
        if entries > form.page {
            cursor.skip(4)?;
            self.pages(&mut cursor, entries, form.page)
        } else {
            self.run(&mut cursor, entries)
        }
    }
}

/// How the blocks of an extensible array grow: group by group, more blocks and larger ones in turn.
struct Blocks {
    /// Entries of the smallest data block.
    block_min: u64,
    /// Entries of a page.
    page: u64,
    /// Bytes of a block's place in the array.
    place_bytes: u64,
}

impl Blocks {
    /// Data blocks of a group.
    fn blocks(&self, group: u64) -> Option<u64> {
        1_u64.checked_shl((group / 2).try_into().ok()?)
    }

    /// Entries of each of them.
    fn entries(&self, group: u64) -> Option<u64> {
        self.block_min.checked_mul(1_u64.checked_shl(group.div_ceil(2).try_into().ok()?)?)
    }
}
