//! Object headers: the messages of a group or a dataset, over all their continuation blocks.

use super::file::{Cursor, File};

/// Continuation blocks of one header.
const BLOCKS_MAX: usize = 10_000;
/// Messages of one header.
const MESSAGES_MAX: usize = 200_000;

/// Kinds of messages that say something here.
pub mod kind {
    pub const LINK_INFO: u64 = 0x02;
    pub const DATATYPE: u64 = 0x03;
    pub const LINK: u64 = 0x06;
    pub const EXTERNAL: u64 = 0x07;
    pub const LAYOUT: u64 = 0x08;
    pub const FILTERS: u64 = 0x0b;
    pub const ATTRIBUTE: u64 = 0x0c;
    pub const CONTINUATION: u64 = 0x10;
    pub const SYMBOL_TABLE: u64 = 0x11;
    pub const ATTRIBUTE_INFO: u64 = 0x15;
}

/// A message that is stored elsewhere, for several objects.
const SHARED: u64 = 0x02;

#[derive(Clone, Copy)]
pub struct Message {
    pub kind: u64,
    pub shared: bool,
    /// First byte of the body.
    pub start: u64,
    /// Behind the last one.
    pub end: u64,
}

/// What a header holds.
pub struct Messages {
    pub found: Vec<Message>,
    /// All of it was well formed and within the limits.
    pub complete: bool,
}

pub fn messages(file: &File<'_, '_>, header: u64) -> Messages {
    let mut walk = Walk { file, found: Vec::new(), blocks: Vec::new(), seen: 0, complete: true };
    if walk.header(header).is_none() {
        walk.complete = false;
    }
    while let Some((block, tracked)) = walk.blocks.pop() {
        if walk.seen >= BLOCKS_MAX || walk.found.len() >= MESSAGES_MAX {
            walk.complete = false;
            break;
        }
        walk.seen += 1;
        if walk.block(block, tracked).is_none() {
            walk.complete = false;
        }
    }
    Messages { found: walk.found, complete: walk.complete }
}

/// How the messages of a block are laid out.
#[derive(Clone, Copy)]
enum Layout {
    Old,
    New { tracked: bool },
}

struct Walk<'f, 'w, 's> {
    file: &'f File<'w, 's>,
    found: Vec<Message>,
    blocks: Vec<((u64, u64), Layout)>,
    seen: usize,
    complete: bool,
}

impl Walk<'_, '_, '_> {
    fn header(&mut self, at: u64) -> Option<()> {
        let mut cursor = self.file.at(at);
        if self.file.window.u8(at)? == 1 {
            cursor.skip(8)?;
            let size = cursor.uint(4)?;
            cursor.skip(4)?;
            self.blocks.push(((cursor.at, cursor.at.checked_add(size)?), Layout::Old));
            return Some(());
        }
        cursor.signature(b"OHDR")?;
        if cursor.uint(1)? != 2 {
            return None;
        }
        let flags = cursor.uint(1)?;
        if flags & 0x20 != 0 {
            cursor.skip(16)?;
        }
        if flags & 0x10 != 0 {
            cursor.skip(4)?;
        }
        let size = cursor.uint(1 << (flags & 3))?;
        let layout = Layout::New { tracked: flags & 4 != 0 };
        self.blocks.push(((cursor.at, cursor.at.checked_add(size)?), layout));
        Some(())
    }

    fn block(&mut self, (start, end): (u64, u64), layout: Layout) -> Option<()> {
        let mut cursor = self.file.range(start, end);
        let head = match layout {
            Layout::Old => 8,
            Layout::New { tracked } => 4 + 2 * u64::from(tracked),
        };
        // What is shorter than a message is a gap.
        while cursor.at + head <= cursor.end && self.found.len() < MESSAGES_MAX {
            let (kind, size, flags) = match layout {
                Layout::Old => {
                    let fields = (cursor.uint(2)?, cursor.uint(2)?, cursor.uint(1)?);
                    cursor.skip(3)?;
                    fields
                }
                Layout::New { tracked } => {
                    let fields = (cursor.uint(1)?, cursor.uint(2)?, cursor.uint(1)?);
                    cursor.skip(2 * u64::from(tracked))?;
                    fields
                }
            };
            let start = cursor.at;
            cursor.skip(size)?;
            let message = Message { kind, shared: flags & SHARED != 0, start, end: cursor.at };
            if kind == kind::CONTINUATION {
                self.continues(self.file.range(message.start, message.end), layout)?;
            } else {
                self.found.push(message);
            }
        }
        Some(())
    }

    fn continues(&mut self, mut body: Cursor<'_, '_, '_>, layout: Layout) -> Option<()> {
        let (at, size) = (body.address()?, body.length()?);
        let end = at.checked_add(size)?;
        let range = match layout {
            Layout::Old => (at, end),
            Layout::New { .. } => {
                self.file.at(at).signature(b"OCHK")?;
                // A checksum ends the block.
                (at + 4, end.checked_sub(4)?)
            }
        };
        self.blocks.push((range, layout));
        Some(())
    }
}
