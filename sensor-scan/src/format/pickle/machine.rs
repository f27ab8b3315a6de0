//! The machine: stack, marks, memo, and the loop over opcodes.

use std::collections::{HashMap, HashSet};

use super::cursor::{Break, Cursor, Frames, Range};
use super::memo::Memo;
use super::nested::Inert;
use super::odd::Odd;
use super::resolve::Globals;
use super::value::{Arena, Flags, Id, Kind, Text};
use super::{Outcome, Stream, opcode as op};
use crate::context::Context;
use crate::finding::{Finding, Severity};

/// Opcodes between two looks at the clock.
pub(super) const CLOCK_OPCODES: u64 = 1 << 16;
/// Bytes of a text line or name that are looked at.
pub(super) const NAME_BYTES_MAX: usize = 4096;

/// Which reader is modelled.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    pub frames: Frames,
    /// Raw arrays follow a `NumpyArrayWrapper`, as joblib reads them.
    pub arrays: bool,
    /// Go on after STOP.
    pub all: bool,
}

/// What a run gave.
#[derive(Debug, Clone, Copy, Default)]
pub struct Run {
    pub outcome: Outcome,
    pub straddled: Option<u64>,
    /// A `NumpyArrayWrapper` was built.
    pub wrapped_array: bool,
}

pub struct Machine<'s, 'c, 'l> {
    pub(super) stream: &'s Stream<'s>,
    pub(super) context: &'c mut Context<'l>,
    pub(super) cursor: Cursor<'s>,
    pub(super) arena: Arena,
    pub(super) globals: Globals,
    pub(super) mode: Mode,
    pub(super) stack: Vec<Id>,
    /// What APPENDS and SETITEMS took off the stack.
    batch: Vec<Id>,
    pub(super) marks: Vec<usize>,
    pub(super) memo: Memo,
    pub(super) previous: Memo,
    /// The extension registry as the stream filled it.
    pub(super) extensions: HashMap<u32, Id>,
    /// Where the present opcode stands.
    pub(super) at: u64,
    pub(super) opcode: u8,
    pub(super) opcodes: u64,
    /// Something was called that is not listed as safe.
    pub(super) effects: bool,
    pub(super) wrapped_array: bool,
    /// A function was made from its code.
    pub(super) made_function: bool,
    /// Where a module that no table knows was first imported by name.
    pub(super) unknown_module: Option<(u64, u8)>,
    /// Texts that may be nested pickles.
    pub(super) inert: Vec<Inert>,
    /// Where texts start that were loaded, and so scanned already.
    pub(super) loaded: HashSet<u64>,
    pub(super) long: Option<u128>,
    /// What was reported and is not reported again.
    pub(super) odd: Odd,
    pub(super) dups: u32,
    /// A value that was not kept was needed: reported once.
    pub(super) full: bool,
    /// Values in the arena at which the machine forgets what it can.
    pub(super) forget_at: u64,
    /// The last two texts, for names after the arena is full.
    pub(super) recent: [Range; 2],
}

impl<'s, 'c, 'l> Machine<'s, 'c, 'l> {
    pub fn new(stream: &'s Stream<'s>, context: &'c mut Context<'l>, mode: Mode) -> Self {
        let cursor = Cursor::new(stream.source, stream.start, stream.end, mode.frames);
        let values_max = context.limits.values_max;
        let arena = Arena::new(values_max);
        Self {
            stream,
            context,
            cursor,
            arena,
            globals: Globals::default(),
            mode,
            stack: Vec::new(),
            batch: Vec::new(),
            marks: Vec::new(),
            memo: Memo::default(),
            previous: Memo::default(),
            extensions: HashMap::new(),
            at: stream.start,
            opcode: 0,
            opcodes: 0,
            effects: false,
            wrapped_array: false,
            made_function: false,
            unknown_module: None,
            inert: Vec::new(),
            loaded: HashSet::new(),
            long: None,
            odd: Odd::default(),
            dups: 0,
            full: false,
            forget_at: values_max / 2,
            recent: [Range { start: 0, len: 0 }; 2],
        }
    }

    /// One stream, up to STOP.
    pub(super) fn one(&mut self) -> Result<(), Break> {
        loop {
            self.at = self.cursor.position();
            let opcode = self.cursor.byte()?;
            self.opcode = opcode;
            self.opcodes += 1;
            if self.opcodes & (CLOCK_OPCODES - 1) == 0 {
                self.budget()?;
            }
            if opcode == op::STOP {
                self.pop()?;
                self.stack_at_stop();
                return Ok(());
            }
            self.step(opcode)?;
        }
    }

    pub(super) fn step(&mut self, opcode: u8) -> Result<(), Break> {
        match opcode {
            op::MEMOIZE => {
                let top = self.top()?;
                self.memo.put(self.memo.len, top);
            }
            op::BINPUT => {
                let index = u32::from(self.cursor.byte()?);
                let top = self.top()?;
                self.memo.put(index, top);
            }
            op::BINGET => {
                let index = u32::from(self.cursor.byte()?);
                self.get(index)?;
            }
            op::LONG_BINPUT => {
                let index = u32::from_le_bytes(self.cursor.array()?);
                let top = self.top()?;
                self.put(index, top);
            }
            op::LONG_BINGET => {
                let index = u32::from_le_bytes(self.cursor.array()?);
                self.get(index)?;
            }
            op::SHORT_BINUNICODE | op::SHORT_BINSTRING => {
                let len = u64::from(self.cursor.byte()?);
                self.text(Text::Str, len)?;
            }
            op::SHORT_BINBYTES => {
                let len = u64::from(self.cursor.byte()?);
                self.text(Text::Bytes, len)?;
            }
            op::BINUNICODE => {
                let len = u64::from(u32::from_le_bytes(self.cursor.array()?));
                self.text(Text::Str, len)?;
            }
            op::BINSTRING => {
                let len = i32::from_le_bytes(self.cursor.array()?);
                self.text(Text::Str, u64::try_from(len).map_err(|_| Break::Operand)?)?;
            }
            op::BINBYTES => {
                let len = u64::from(u32::from_le_bytes(self.cursor.array()?));
                self.text(Text::Bytes, len)?;
            }
            op::BINUNICODE8 => {
                let len = u64::from_le_bytes(self.cursor.array()?);
                self.text(Text::Str, len)?;
            }
            op::BINBYTES8 | op::BYTEARRAY8 => {
                let len = u64::from_le_bytes(self.cursor.array()?);
                self.text(Text::Bytes, len)?;
            }
            op::BININT1 => {
                let value = self.cursor.byte()?;
                self.push(Id::int(i64::from(value)));
            }
            op::BININT2 => {
                let value = u16::from_le_bytes(self.cursor.array()?);
                self.push(Id::int(i64::from(value)));
            }
            op::BININT => {
                let value = i32::from_le_bytes(self.cursor.array()?);
                self.push(Id::int(i64::from(value)));
            }
            op::BINFLOAT => {
                let _: [u8; 8] = self.cursor.array()?;
                self.push(Id::DATA);
            }
            op::NONE => self.push(Id::NONE),
            op::NEWTRUE => self.push(Id::TRUE),
            op::NEWFALSE => self.push(Id::FALSE),
            op::EMPTY_TUPLE => self.push_tuple(&[]),
            op::TUPLE1 => self.tuple_of::<1>()?,
            op::TUPLE2 => self.tuple_of::<2>()?,
            op::TUPLE3 => self.tuple_of::<3>()?,
            op::TUPLE => {
                let items = self.pop_mark()?;
                let tuple = self.arena.tuple(self.stack.get(items..).unwrap_or_default());
                self.stack.truncate(items);
                self.push(tuple);
                self.check_size(tuple);
            }
            op::MARK => self.marks.push(self.stack.len()),
            op::EMPTY_LIST => self.push_box(Kind::List),
            op::EMPTY_DICT => self.push_box(Kind::Dict),
            op::EMPTY_SET => self.push_box(Kind::Set),
            op::APPEND => {
                let item = self.pop()?;
                let target = self.top()?;
                self.append(target, &[item]);
            }
            op::SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                let target = self.top()?;
                self.set_items(target, &[key, value]);
            }
            op::APPENDS | op::ADDITEMS | op::SETITEMS => {
                let from = self.pop_mark()?;
                // One allocation for all of a stream's batches.
                let mut items = std::mem::take(&mut self.batch);
                items.clear();
                items.extend(self.stack.drain(from.min(self.stack.len())..));
                let target = self.top()?;
                if opcode == op::SETITEMS {
                    self.set_items(target, items.get(..items.len() & !1).unwrap_or_default());
                } else {
                    self.append(target, &items);
                }
                self.batch = items;
            }
            op::LIST => self.box_of_mark(Kind::List)?,
            op::DICT => self.box_of_mark(Kind::Dict)?,
            op::FROZENSET => self.box_of_mark(Kind::Set)?,
            _ => return self.rare(opcode),
        }
        Ok(())
    }

    /// The opcodes that call, import or are seldom.
    pub(super) fn rare(&mut self, opcode: u8) -> Result<(), Break> {
        match opcode {
            op::PROTO => {
                let version = self.cursor.byte()?;
                if version > 5 {
                    return Err(Break::Operand);
                }
            }
            op::FRAME => {
                let len = u64::from_le_bytes(self.cursor.array()?);
                self.cursor.open_frame(len);
            }
            op::POP => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            op::POP_MARK => {
                let from = self.pop_mark()?;
                self.stack.truncate(from);
            }
            op::DUP => {
                let top = self.top()?;
                self.push(top);
                self.note_dup();
            }
            op::INT | op::LONG => {
                let value = self.number()?;
                self.push(value);
            }
            op::FLOAT => {
                self.cursor.line()?;
                self.push(Id::DATA);
            }
            op::LONG1 => {
                let len = self.cursor.byte()?;
                self.long_bytes(u64::from(len))?;
            }
            op::LONG4 => {
                let len = i32::from_le_bytes(self.cursor.array()?);
                self.long_bytes(u64::try_from(len).map_err(|_| Break::Operand)?)?;
            }
            op::STRING => {
                let line = self.cursor.line()?;
                let bytes = self.cursor.bytes(line, 1 << 20);
                let text = super::fold::unquote(&bytes).ok_or(Break::Operand)?;
                let value = self.arena.owned_text(Text::Str, text);
                self.push(value);
            }
            op::UNICODE => {
                let line = self.cursor.line()?;
                let bytes = self.cursor.bytes(line, 1 << 20);
                let value = match super::fold::raw_unicode_escape(&bytes) {
                    Some(text) => self.arena.owned_text(Text::Str, text),
                    None => self.arena.text(Text::Str, line),
                };
                self.recent = [self.recent[1], line];
                self.push(value);
            }
            op::PUT => {
                let index = self.index()?;
                let top = self.top()?;
                self.put(index, top);
            }
            op::GET => {
                let index = self.index()?;
                self.get(index)?;
            }
            op::GLOBAL => {
                let (module, name) = (self.cursor.line()?, self.cursor.line()?);
                let global = self.global_of_ranges(module, name);
                self.push(global);
            }
            op::STACK_GLOBAL => {
                let name = self.pop()?;
                let module = self.pop()?;
                let global = self.global_of_values(module, name)?;
                self.push(global);
            }
            op::INST => {
                let (module, name) = (self.cursor.line()?, self.cursor.line()?);
                // The reader in Python imports before it looks for the mark; the one in C does not.
                let callee = self.global_of_ranges(module, name);
                let from = self.pop_mark()?;
                let args = self.arena.tuple(self.stack.get(from..).unwrap_or_default());
                self.stack.truncate(from);
                let result = self.call(callee, args, Id::NONE);
                self.push(result);
            }
            op::OBJ => {
                let from = self.pop_mark()?;
                let (callee, rest) = match self.stack.get(from..) {
                    Some([callee, rest @ ..]) => (*callee, rest),
                    _ => return Err(Break::Stack),
                };
                let args = self.arena.tuple(rest);
                self.stack.truncate(from);
                let result = self.call(callee, args, Id::NONE);
                self.push(result);
            }
            op::REDUCE | op::NEWOBJ => {
                let args = self.pop()?;
                let callee = self.pop()?;
                let result = self.call(callee, args, Id::NONE);
                self.push(result);
            }
            op::NEWOBJ_EX => {
                let kwargs = self.pop()?;
                let args = self.pop()?;
                let callee = self.pop()?;
                let result = self.call(callee, args, kwargs);
                self.push(result);
            }
            op::BUILD => {
                let state = self.pop()?;
                let target = self.top()?;
                self.build(target, state)?;
            }
            op::EXT1 => {
                let code = u32::from(self.cursor.byte()?);
                self.extension(code);
            }
            op::EXT2 => {
                let code = u32::from(u16::from_le_bytes(self.cursor.array()?));
                self.extension(code);
            }
            op::EXT4 => {
                let code = u32::from_le_bytes(self.cursor.array()?);
                self.extension(code);
            }
            op::PERSID => {
                let line = self.cursor.line()?;
                let id = self.arena.text(Text::Str, line);
                self.persistent(id);
            }
            op::BINPERSID => {
                let id = self.pop()?;
                self.persistent(id);
            }
            op::NEXT_BUFFER => self.push(Id::BUFFER),
            op::READONLY_BUFFER => {
                self.top()?;
            }
            other => return Err(Break::Opcode(other)),
        }
        Ok(())
    }

    pub(super) fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    #[inline]
    pub(super) fn push(&mut self, value: Id) {
        self.stack.push(value);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Result<Id, Break> {
        if self.stack.len() > self.fence() { self.stack.pop().ok_or(Break::Stack) } else { Err(Break::Stack) }
    }

    #[inline]
    pub(super) fn top(&self) -> Result<Id, Break> {
        if self.stack.len() > self.fence() { self.stack.last().copied().ok_or(Break::Stack) } else { Err(Break::Stack) }
    }

    /// Closes the last mark and says where its values start.
    pub(super) fn pop_mark(&mut self) -> Result<usize, Break> {
        self.note_marks();
        self.marks.pop().ok_or(Break::Stack)
    }

    fn push_tuple(&mut self, items: &[Id]) {
        let tuple = self.arena.tuple(items);
        self.push(tuple);
    }

    fn tuple_of<const N: usize>(&mut self) -> Result<(), Break> {
        if self.stack.len() - self.fence() < N {
            return Err(Break::Stack);
        }
        let from = self.stack.len() - N;
        let tuple = self.arena.tuple(self.stack.get(from..).unwrap_or_default());
        self.stack.truncate(from);
        self.push(tuple);
        self.check_size(tuple);
        Ok(())
    }

    fn push_box(&mut self, kind: Kind) {
        let value = self.arena.new_box(kind);
        self.push(value);
    }

    fn box_of_mark(&mut self, kind: Kind) -> Result<(), Break> {
        let from = self.pop_mark()?;
        let items = self.stack.split_off(from);
        let value = self.arena.new_box(kind);
        self.arena.extend(value, &items);
        self.push(value);
        self.check_size(value);
        Ok(())
    }

    /// Names for STACK_GLOBAL when the arena had no room for their texts.
    pub(super) fn recent_texts(&self) -> [Range; 2] {
        self.recent
    }

    /// A finding at the present opcode.
    pub(super) fn finding(&self, id: &'static str, severity: Severity, title: impl Into<String>) -> Finding {
        let mut finding = Finding::new(id, severity, title);
        finding.member.clone_from(&self.stream.member);
        finding.offset = Some(self.at);
        finding.opcode = op::name(self.opcode);
        finding.loaders = self.stream.dialect.loaders().to_vec();
        finding
    }

    /// Name of something nested at an offset.
    pub(super) fn member_with(&self, what: &str, offset: u64) -> Option<Vec<u8>> {
        let mut member = self.stream.member.clone().unwrap_or_default();
        if !member.is_empty() {
            member.extend_from_slice(b"!/");
        }
        member.extend_from_slice(format!("{what}@{offset}").as_bytes());
        Some(member)
    }

    /// Marks what flows into something that is called as seen.
    pub(super) fn flags_of(&self, values: &[Id]) -> Flags {
        values.iter().fold(Flags::NONE, |flags, &value| flags.with(self.arena.flags(value)))
    }
}
