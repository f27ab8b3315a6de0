//! The machine: stack, marks, memo, and the loop over opcodes.

use std::collections::HashMap;

use super::cursor::{Break, Cursor, Frames, Range};
use super::resolve::Globals;
use super::value::{Arena, Flags, Id, Kind, Text, What};
use super::{Dialect, Outcome, STREAMS_MAX, Stream, opcode as op, report_break};
use crate::context::Context;
use crate::finding::{Evidence, Finding, Severity};

/// Magic, protocol, system, object, storage keys.
const TORCH_LEGACY_STREAMS: u64 = 5;
/// Opcodes between two looks at the clock.
const CLOCK_OPCODES: u64 = 1 << 16;
/// Bytes of a text line or name that are looked at.
pub(super) const NAME_BYTES_MAX: usize = 4096;
/// Memo indices up to twice the number of entries and this much are kept in a vector.
const MEMO_SLACK: usize = 1 << 10;
/// Open marks, stack left at STOP, nesting and unfolded size beyond which the stream is built to exhaust its reader.
const MARKS_ODD: usize = 5_000;
const STACK_ODD: usize = 1_000;
const DUPS_ODD: u32 = 1_000;
const DEPTH_ODD: u16 = 1_000;
const WEIGHT_ODD: u32 = 50_000_000;
/// A memo index from which CPython's memo, a plain array of twice the index, takes gigabytes.
const MEMO_INDEX_ODD: u32 = 1 << 25;

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

/// Memo of one stream.
#[derive(Debug, Default)]
pub struct Memo {
    dense: Vec<Id>,
    sparse: HashMap<u32, Id>,
    len: u32,
}

impl Memo {
    fn put(&mut self, index: u32, value: Id) {
        let at = index as usize;
        if let Some(slot) = self.dense.get_mut(at) {
            self.len += u32::from(*slot == Id::EMPTY);
            *slot = value;
        } else if at < 2 * self.len as usize + MEMO_SLACK {
            self.dense.resize(at, Id::EMPTY);
            self.dense.push(value);
            self.len += u32::from(self.sparse.remove(&index).is_none());
        } else {
            self.len += u32::from(self.sparse.insert(index, value).is_none());
        }
    }

    fn get(&self, index: u32) -> Option<Id> {
        match self.dense.get(index as usize) {
            Some(&value) if value != Id::EMPTY => Some(value),
            _ => self.sparse.get(&index).copied(),
        }
    }
}

pub struct Machine<'s, 'c, 'l> {
    pub(super) stream: &'s Stream<'s>,
    pub(super) context: &'c mut Context<'l>,
    pub(super) cursor: Cursor<'s>,
    pub(super) arena: Arena,
    pub(super) globals: Globals,
    pub(super) mode: Mode,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: Memo,
    previous: Memo,
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
    /// Values and texts that may be inert nested content, looked at so far.
    pub(super) inert_looked_at: u32,
    long: Option<u128>,
    /// Worst sizes were reported.
    odd: u8,
    dups: u32,
    /// The arena ran full, reported once.
    full: bool,
    /// The last two texts, for names after the arena is full.
    recent: [Range; 2],
}

impl<'s, 'c, 'l> Machine<'s, 'c, 'l> {
    pub fn new(stream: &'s Stream<'s>, context: &'c mut Context<'l>, mode: Mode) -> Self {
        let cursor = Cursor::new(stream.source, stream.start, stream.end, mode.frames);
        let arena = Arena::new(context.limits.values_max);
        Self {
            stream,
            context,
            cursor,
            arena,
            globals: Globals::default(),
            mode,
            stack: Vec::new(),
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
            inert_looked_at: 0,
            long: None,
            odd: 0,
            dups: 0,
            full: false,
            recent: [Range { start: 0, len: 0 }; 2],
        }
    }

    /// Interprets one stream, or all of them.
    pub fn run(mut self) -> Run {
        let mut run = Run::default();
        let mut imports = 0;
        loop {
            let start = self.cursor.position();
            let before = self.opcodes;
            let imports_before = self.globals.imports();
            let result = self.one();
            imports += self.globals.imports() - imports_before;
            let plausible = match result {
                Ok(()) => true,
                Err(_) => self.started_with_proto(start) || self.globals.imports() > imports_before,
            };
            if start == self.stream.start || plausible {
                run.outcome.plausible |= plausible;
            }
            match result {
                Ok(()) => {
                    run.outcome.streams += 1;
                    run.outcome.stopped = true;
                    run.outcome.end = self.cursor.position();
                    if run.outcome.streams == 1 {
                        run.outcome.integer = self.stack.last().and_then(|top| top.as_int());
                        run.outcome.long = self.long;
                    }
                }
                Err(reason) => {
                    if run.outcome.streams == 0 {
                        run.outcome.stopped = false;
                        run.outcome.end = self.cursor.position();
                        report_break(self.stream, self.context, self.at, reason, imports);
                    } else if plausible && self.opcodes > before {
                        run.outcome.stopped = false;
                        run.outcome.end = self.cursor.position();
                        report_break(self.stream, self.context, self.at, reason, imports - imports_before);
                    } else {
                        self.report_tail(start);
                        run.outcome.end = start;
                    }
                    break;
                }
            }
            if !self.mode.all || self.cursor.left() == 0 {
                break;
            }
            if self.stream.dialect == Dialect::TorchLegacy && run.outcome.streams == TORCH_LEGACY_STREAMS {
                // The storages follow.
                break;
            }
            if run.outcome.streams >= STREAMS_MAX {
                let at = self.cursor.position();
                let member = self.stream.member.as_deref();
                self.context.limit_reached("streams_max", STREAMS_MAX, member, Some(at));
                break;
            }
            self.next_stream();
        }
        self.report_unknown_module();
        self.report_references();
        run.outcome.opcodes = self.opcodes;
        run.outcome.imports = imports;
        run.straddled = self.cursor.straddled;
        run.wrapped_array = self.wrapped_array;
        self.context.bytes_read += self.cursor.bytes_read;
        self.context.opcodes_left = self.context.opcodes_left.saturating_sub(self.opcodes & (CLOCK_OPCODES - 1));
        run
    }

    /// cloudpickle imports modules for the functions that it brings along; without such a function, the import is the
    /// purpose.
    fn report_unknown_module(&mut self) {
        if let Some((at, opcode)) = self.unknown_module.filter(|_| !self.made_function) {
            (self.at, self.opcode) = (at, opcode);
            let text = "an unknown module is imported, which runs its code, and no function here needs it";
            let finding = self.finding("SNS-101", Severity::High, text);
            self.context.report(finding);
        }
    }

    fn started_with_proto(&mut self, start: u64) -> bool {
        let head = self.cursor.bytes(Range { start, len: 2 }, 2);
        matches!(head.as_slice(), [op::PROTO, 0..=5])
    }

    /// A fresh memo; the old one stays in reach, because a second `load()` on the same Unpickler still sees it.
    fn next_stream(&mut self) {
        self.stack.clear();
        self.marks.clear();
        self.cursor.reset_frames();
        self.previous = std::mem::take(&mut self.memo);
        if self.arena.half_full() {
            self.report_references();
            self.previous = Memo::default();
            self.extensions.clear();
            self.arena = Arena::new(self.context.limits.values_max);
            self.globals.forget();
        }
    }

    /// What stands behind the last stream: nothing that a reader would go on with.
    fn report_tail(&mut self, start: u64) {
        let end = self.cursor.end();
        let head = self.cursor.bytes(Range { start, len: end - start }, NAME_BYTES_MAX);
        let len = end - start;
        if head.iter().all(|&byte| byte == 0) && len <= NAME_BYTES_MAX as u64 {
            return;
        }
        let mut finding = Finding::new("SNS-204", Severity::Low, format!("{len} bytes follow the last pickle"));
        finding.member.clone_from(&self.stream.member);
        finding.offset = Some(start);
        finding.evidence.insert("bytes", Evidence::Number(len));
        self.context.report(finding);
        let member = self.member_with("tail", start);
        let piece = crate::context::Piece { source: self.stream.source, start, end, member };
        self.context.nested(&piece);
    }

    /// One stream, up to STOP.
    fn one(&mut self) -> Result<(), Break> {
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

    #[cold]
    fn budget(&mut self) -> Result<(), Break> {
        let member = self.stream.member.as_deref();
        if self.context.opcodes_left < CLOCK_OPCODES {
            self.context.opcodes_left = 0;
            let max = self.context.limits.opcodes_max;
            self.context.limit_reached("opcodes_max", max, member, Some(self.at));
            return Err(Break::Limit);
        }
        self.context.opcodes_left -= CLOCK_OPCODES;
        let stack = (self.stack.len() + self.marks.len() + self.memo.sparse.len()) as u64;
        if stack > self.context.limits.values_max {
            self.context.limit_reached("values_max", self.context.limits.values_max, member, Some(self.at));
            return Err(Break::Limit);
        }
        if self.arena.full() && !self.full {
            self.full = true;
            self.context.limit_reached("values_max", self.context.limits.values_max, member, Some(self.at));
        }
        if self.context.expired() { Err(Break::Limit) } else { Ok(()) }
    }

    fn step(&mut self, opcode: u8) -> Result<(), Break> {
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
                let items = self.stack.split_off(from);
                let target = self.top()?;
                if opcode == op::SETITEMS {
                    self.set_items(target, items.get(..items.len() & !1).unwrap_or_default());
                } else {
                    self.append(target, &items);
                }
            }
            op::LIST => self.box_of_mark(Kind::List)?,
            op::DICT => self.box_of_mark(Kind::Dict)?,
            op::FROZENSET => self.box_of_mark(Kind::Set)?,
            _ => return self.rare(opcode),
        }
        Ok(())
    }

    /// The opcodes that call, import or are seldom.
    fn rare(&mut self, opcode: u8) -> Result<(), Break> {
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
                self.dups += 1;
                if self.dups > DUPS_ODD && self.odd & 64 == 0 {
                    self.odd |= 64;
                    self.report_206("values are duplicated on the stack in masses, which no pickler does".to_owned());
                }
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
                let bytes = self.cursor.bytes(line, usize::MAX.min(1 << 20));
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
            op::LONG_BINPUT => {
                let index = u32::from_le_bytes(self.cursor.array()?);
                let top = self.top()?;
                self.put(index, top);
            }
            op::GET => {
                let index = self.index()?;
                self.get(index)?;
            }
            op::LONG_BINGET => {
                let index = u32::from_le_bytes(self.cursor.array()?);
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
                let from = self.pop_mark()?;
                let callee = self.global_of_ranges(module, name);
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

    fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    #[inline]
    fn push(&mut self, value: Id) {
        self.stack.push(value);
    }

    #[inline]
    fn pop(&mut self) -> Result<Id, Break> {
        if self.stack.len() > self.fence() { self.stack.pop().ok_or(Break::Stack) } else { Err(Break::Stack) }
    }

    #[inline]
    fn top(&self) -> Result<Id, Break> {
        if self.stack.len() > self.fence() { self.stack.last().copied().ok_or(Break::Stack) } else { Err(Break::Stack) }
    }

    /// Closes the last mark and says where its values start.
    fn pop_mark(&mut self) -> Result<usize, Break> {
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

    #[inline]
    fn text(&mut self, text: Text, len: u64) -> Result<(), Break> {
        let range = self.cursor.skip(len)?;
        if len >= super::nested::INERT_BYTES_MIN {
            self.look_at_inert(text, range);
        }
        let value = self.arena.text(text, range);
        self.recent = [self.recent[1], range];
        self.push(value);
        Ok(())
    }

    fn long_bytes(&mut self, len: u64) -> Result<(), Break> {
        let range = self.cursor.skip(len)?;
        let bytes = self.cursor.bytes(range, 16);
        let mut wide = [0; 16];
        for (slot, byte) in wide.iter_mut().zip(&bytes) {
            *slot = *byte;
        }
        let value = u128::from_le_bytes(wide);
        self.long = (len <= 16).then_some(value);
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let small = if len <= 8 && !negative { i64::try_from(value).ok() } else { None };
        self.push(small.map_or(Id::DATA, Id::int));
        Ok(())
    }

    /// INT and LONG: what any reader accepts; a number never fails the scan.
    fn number(&mut self) -> Result<Id, Break> {
        let line = self.cursor.line()?;
        let bytes = self.cursor.bytes(line, 64);
        Ok(match bytes.as_slice() {
            b"00" => Id::FALSE,
            b"01" => Id::TRUE,
            text => super::fold::integer(text).map_or(Id::DATA, Id::int),
        })
    }

    /// Text index of PUT and GET: blanks, leading zeros and `_` are accepted by some reader.
    fn index(&mut self) -> Result<u32, Break> {
        let line = self.cursor.line()?;
        let bytes = self.cursor.bytes(line, 64);
        let value = super::fold::integer(&bytes).ok_or(Break::Operand)?;
        u32::try_from(value).map_err(|_| Break::Operand)
    }

    fn put(&mut self, index: u32, value: Id) {
        if index >= MEMO_INDEX_ODD && self.odd & 1 == 0 {
            self.odd |= 1;
            self.report_206(format!("memo index {index} makes the reader allocate gigabytes"));
        }
        self.memo.put(index, value);
    }

    fn get(&mut self, index: u32) -> Result<(), Break> {
        let value = self.memo.get(index).or_else(|| self.previous.get(index)).ok_or(Break::Memo)?;
        self.push(value);
        Ok(())
    }

    /// Names for STACK_GLOBAL when the arena had no room for their texts.
    pub(super) fn recent_texts(&self) -> [Range; 2] {
        self.recent
    }

    fn extension(&mut self, code: u32) {
        let value = match self.extensions.get(&code) {
            Some(&value) => value,
            None => {
                let text = format!("extension code {code} is looked up in the registry of the loading process");
                let finding = self.finding("SNS-108", Severity::Medium, text);
                self.context.report(finding);
                self.context.all_globals_safe = false;
                Id::UNKNOWN
            }
        };
        self.push(value);
    }

    fn persistent(&mut self, id: Id) {
        if !self.stream.dialect.persistent_ids_are_legal() && self.odd & 2 == 0 {
            self.odd |= 2;
            let text = "a persistent id, which no plain loader accepts";
            let finding = self.finding("SNS-109", Severity::Medium, text);
            self.context.report(finding);
        }
        let flags = self.arena.flags(id);
        let value = self.arena.object(What::Persistent, Id::NONE, id, flags);
        self.push(value);
    }

    pub(super) fn check_size(&mut self, value: Id) {
        let (weight, depth) = self.arena.size_of(value);
        if depth > DEPTH_ODD && self.odd & 4 == 0 {
            self.odd |= 4;
            self.report_206(format!("values nest {depth} deep"));
        }
        if weight > WEIGHT_ODD && u64::from(weight) > self.opcodes.saturating_mul(1_000) && self.odd & 8 == 0 {
            self.odd |= 8;
            self.report_206(format!("{} opcodes unfold into more than {weight} values", self.opcodes));
        }
    }

    fn note_marks(&mut self) {
        if self.marks.len() > MARKS_ODD && self.odd & 16 == 0 {
            self.odd |= 16;
            self.report_206(format!("{} open marks", self.marks.len()));
        }
    }

    fn stack_at_stop(&mut self) {
        self.note_marks();
        if self.stack.len() > STACK_ODD && self.odd & 32 == 0 {
            self.odd |= 32;
            self.report_206(format!("{} values are left on the stack", self.stack.len()));
        }
    }

    pub(super) fn report_206(&mut self, text: String) {
        let finding = self.finding("SNS-206", Severity::Medium, text);
        self.context.report(finding);
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
