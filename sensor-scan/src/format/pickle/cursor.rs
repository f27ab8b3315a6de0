//! Bytes of one stream through a bounded window, with the frames of protocol 4 as the different readers see them.

use crate::source::Source;

/// Bytes that are looked at in one read.
const WINDOW_BYTES: u64 = 256 << 10;

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The bytes end within an opcode, or before STOP.
    Truncated,
    /// An operand says that it is longer than what is left.
    TooLong { length: u64 },
    /// No such opcode.
    Opcode(u8),
    /// Pops from an empty stack, or passes a mark that is not there.
    Stack,
    /// GET of a memo entry that was never put.
    Memo,
    /// An operand that no reader accepts.
    Operand,
    /// A limit or the time is used up; reported where it happened.
    Limit,
    /// The source failed to deliver bytes that it said it has.
    Unreadable,
}

/// How the end of a frame is treated by the reader that is modelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// C from memory, pickletools: frames mean nothing.
    Ignored,
    /// C from an unbuffered stream: an operand that crosses the end of its frame starts anew behind the frame.
    Dropped,
}

/// A range of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    pub len: u64,
}

pub struct Cursor<'a> {
    source: &'a dyn Source,
    end: u64,
    window: Vec<u8>,
    /// Offset of the window's first byte in the source.
    base: u64,
    /// Next byte within the window.
    at: usize,
    frames: Frames,
    frame_end: Option<u64>,
    /// Where an operand first crossed the end of its frame.
    pub straddled: Option<u64>,
    /// Bytes taken from the source.
    pub bytes_read: u64,
}

impl<'a> Cursor<'a> {
    pub fn new(source: &'a dyn Source, start: u64, end: u64, frames: Frames) -> Self {
        Self {
            source,
            end: end.min(source.len()),
            window: Vec::new(),
            base: start,
            at: 0,
            frames,
            frame_end: None,
            straddled: None,
            bytes_read: 0,
        }
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn position(&self) -> u64 {
        self.base + self.at as u64
    }

    pub fn left(&self) -> u64 {
        self.end.saturating_sub(self.position())
    }

    pub fn seek(&mut self, position: u64) {
        let inside = position.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        match inside {
            Some(at) if at <= self.window.len() => self.at = at,
            _ => {
                self.base = position;
                self.at = 0;
                self.window.clear();
            }
        }
    }

    /// Forgets the frame: raw bytes follow.
    pub fn reset_frames(&mut self) {
        self.frame_end = None;
    }

    /// FRAME with this length was read.
    pub fn open_frame(&mut self, len: u64) {
        let position = self.position();
        let end = position.checked_add(len);
        match self.frame_end.filter(|outer| position < *outer) {
            // It lies within what the reader holds already, and changes nothing.
            Some(outer) if end.is_some_and(|end| end <= outer) => {}
            // It is read from behind the frame that it starts in, of which the rest is dropped.
            Some(outer) if self.frames == Frames::Dropped => {
                self.seek(outer);
                self.frame_end = outer.checked_add(len);
            }
            Some(_) => {
                self.straddled.get_or_insert(position);
                self.frame_end = end;
            }
            None => self.frame_end = end,
        }
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, Break> {
        if let Some(&byte) = self.window.get(self.at) {
            self.at += 1;
            return Ok(byte);
        }
        self.refill()?;
        let byte = *self.window.get(self.at).ok_or(Break::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    /// A fixed-size operand.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Break> {
        self.enter(N as u64);
        if let Some(bytes) = self.window.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            self.at += N;
            return Ok(*bytes);
        }
        let mut bytes = [0; N];
        for slot in &mut bytes {
            *slot = self.byte()?;
        }
        Ok(bytes)
    }

    /// Steps over an operand of `len` bytes without looking at it.
    #[inline]
    pub fn skip(&mut self, len: u64) -> Result<Range, Break> {
        self.enter(len);
        if len > self.left() {
            return Err(Break::TooLong { length: len });
        }
        let start = self.position();
        self.seek(start + len);
        Ok(Range { start, len })
    }

    /// Steps over a text line; its range excludes the newline. The pure-Python reader drops the last byte of a line
    /// that ends the input instead.
    pub fn line(&mut self) -> Result<Range, Break> {
        let mut range = self.raw_line()?;
        if let Some(frame_end) = self.frame_end {
            let next = self.position();
            if range.start < frame_end && next > frame_end {
                self.straddled.get_or_insert(range.start);
                self.frame_end = None;
                if self.frames == Frames::Dropped {
                    self.seek(frame_end);
                    range = self.raw_line()?;
                }
            }
        }
        Ok(range)
    }

    fn raw_line(&mut self) -> Result<Range, Break> {
        let start = self.position();
        loop {
            let rest = self.window.get(self.at..).unwrap_or_default();
            if let Some(newline) = rest.iter().position(|&byte| byte == b'\n') {
                self.at += newline + 1;
                let len = self.position() - 1 - start;
                return Ok(Range { start, len });
            }
            self.at = self.window.len();
            match self.refill() {
                Ok(()) => {}
                Err(Break::Truncated) => {
                    let len = self.position().saturating_sub(start);
                    return if len == 0 { Err(Break::Truncated) } else { Ok(Range { start, len: len - 1 }) };
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// The first bytes at a place; zeros where there are none. Cheap where the place is in the window.
    #[inline]
    pub fn head(&self, start: u64) -> [u8; 3] {
        let inside = start.checked_sub(self.base).and_then(|from| usize::try_from(from).ok());
        if let Some(head) = inside.and_then(|from| self.window.get(from..)).and_then(|rest| rest.first_chunk()) {
            return *head;
        }
        let mut head = [0; 3];
        if self.source.read_at(start, &mut head).is_err() {
            return [0; 3];
        }
        head
    }

    /// Bytes of a range, at most `max`.
    pub fn bytes(&mut self, range: Range, max: usize) -> Vec<u8> {
        let len = usize::try_from(range.len).unwrap_or(usize::MAX).min(max);
        if let Some(from) = range.start.checked_sub(self.base).and_then(|from| usize::try_from(from).ok())
            && let Some(inside) = from.checked_add(len).and_then(|to| self.window.get(from..to))
        {
            return inside.to_vec();
        }
        let bytes = self.bytes_apart(range, max);
        self.bytes_read += bytes.len() as u64;
        bytes
    }

    /// The same from the source, whatever is in the window.
    pub fn bytes_apart(&self, range: Range, max: usize) -> Vec<u8> {
        let left = usize::try_from(self.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let len = usize::try_from(range.len).unwrap_or(usize::MAX).min(max).min(left);
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read_at(range.start + filled as u64, rest) {
                Ok(0) | Err(_) => break,
                Ok(read) => filled += read,
            }
        }
        bytes.truncate(filled);
        bytes
    }

    /// An operand of `len` bytes is about to be read: does it cross the end of its frame?
    #[inline]
    fn enter(&mut self, len: u64) {
        match self.frame_end {
            Some(frame_end) if self.position().saturating_add(len) > frame_end => self.cross(frame_end, len),
            _ => {}
        }
    }

    /// It does, or lies behind it.
    #[cold]
    fn cross(&mut self, frame_end: u64, len: u64) {
        let position = self.position();
        self.frame_end = None;
        if position >= frame_end {
            return;
        }
        // A length that does not fit into the input fails in every reader; it is no second program.
        if len <= self.end.saturating_sub(position) {
            self.straddled.get_or_insert(position);
        }
        if self.frames == Frames::Dropped {
            self.seek(frame_end);
        }
    }

    #[cold]
    fn refill(&mut self) -> Result<(), Break> {
        let position = self.position();
        let left = self.end.saturating_sub(position);
        if left == 0 {
            return Err(Break::Truncated);
        }
        let len = usize::try_from(left.min(WINDOW_BYTES)).unwrap_or(0);
        self.base = position;
        self.at = 0;
        self.window.resize(len, 0);
        let mut filled = 0;
        while let Some(rest) = self.window.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read_at(position + filled as u64, rest) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.window.clear();
                    return Err(Break::Unreadable);
                }
            }
        }
        self.window.truncate(filled);
        self.bytes_read += filled as u64;
        if filled == 0 { Err(Break::Unreadable) } else { Ok(()) }
    }
}
