//! Links of a group: in the old form a B-tree with a heap of names, in the new one messages or dense storage.

use super::file::File;
use super::object::{Message, kind};

/// Nodes of one group's tree.
const NODES_MAX: usize = 100_000;
/// Bytes of a name or a path that are kept.
const NAME_BYTES_MAX: usize = 4096;

pub enum Link {
    /// An object of this file.
    Hard { header: u64 },
    /// A path within this file.
    Soft,
    /// An object of another file.
    External { file: Vec<u8>, at: u64 },
}

/// Links by their messages; the flag is cleared where something can't be read.
pub fn links(file: &File<'_, '_>, messages: &[Message], complete: &mut bool) -> Vec<Link> {
    let mut links = Vec::new();
    for message in messages {
        let read = match message.kind {
            kind::SYMBOL_TABLE => table(file, message, &mut links),
            kind::LINK => link(file, message.start, message.end).map(|link| links.push(link)),
            kind::LINK_INFO => dense(file, message, &mut links),
            _ => continue,
        };
        *complete &= read.is_some();
    }
    links
}

fn table(file: &File<'_, '_>, message: &Message, links: &mut Vec<Link>) -> Option<()> {
    let mut body = file.range(message.start, message.end);
    let Some(tree) = body.optional_address()? else { return Some(()) };
    let heap = body.address()?;
    let mut queue = vec![(tree, u64::MAX)];
    let mut nodes = 0;
    while let Some((node, level_below)) = queue.pop() {
        nodes += 1;
        if nodes > NODES_MAX {
            return None;
        }
        let mut cursor = file.at(node);
        if file.window.array(node) == Some(*b"SNOD") {
            cursor.skip(6)?;
            for _ in 0..cursor.uint(2)? {
                let _name = cursor.uint(file.offset_bytes)?;
                let header = cursor.optional_address()?;
                let cached = cursor.uint(4)?;
                cursor.skip(20)?;
                links.push(match header {
                    _ if cached == 2 => Link::Soft,
                    Some(header) => Link::Hard { header },
                    None => Link::Soft,
                });
            }
            continue;
        }
        cursor.signature(b"TREE")?;
        let (kind, level, used) = (cursor.uint(1)?, cursor.uint(1)?, cursor.uint(2)?);
        // Levels go down to 0, whose children are tables: a loop is none.
        if kind != 0 || level >= level_below {
            return None;
        }
        cursor.skip(2 * u64::from(file.offset_bytes))?;
        for _ in 0..used {
            cursor.length()?;
            queue.push((cursor.address()?, level));
        }
    }
    // The heap has to be there, though names say nothing here.
    file.at(heap).signature(b"HEAP")
}

fn dense(file: &File<'_, '_>, message: &Message, links: &mut Vec<Link>) -> Option<()> {
    let mut body = file.range(message.start, message.end);
    body.skip(1)?;
    let flags = body.uint(1)?;
    if flags & 1 != 0 {
        body.skip(8)?;
    }
    let (heap, tree) = (body.optional_address()?, body.optional_address()?);
    let (Some(heap), Some(tree)) = (heap, tree) else { return Some(()) };
    let (ranges, complete) = super::fractal::objects(file, heap, tree);
    for (start, end) in ranges {
        links.push(link(file, start, end)?);
    }
    complete.then_some(())
}

fn link(file: &File<'_, '_>, start: u64, end: u64) -> Option<Link> {
    let mut body = file.range(start, end);
    body.skip(1)?;
    let flags = body.uint(1)?;
    let kind = if flags & 0x08 != 0 { body.uint(1)? } else { 0 };
    if flags & 0x04 != 0 {
        body.skip(8)?;
    }
    if flags & 0x10 != 0 {
        body.skip(1)?;
    }
    let name_bytes = body.uint(1 << (flags & 3))?;
    body.skip(name_bytes)?;
    Some(match kind {
        0 => Link::Hard { header: body.address()? },
        64 => {
            let at = body.at;
            body.skip(3)?;
            Link::External { file: body.string(NAME_BYTES_MAX)?, at }
        }
        _ => Link::Soft,
    })
}
