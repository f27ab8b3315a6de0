//! One input, stream by stream.

use super::cursor::{Break, Range};
use super::machine::{CLOCK_OPCODES, Machine, NAME_BYTES_MAX, Run};
use super::memo::Memo;
use super::value::Arena;
use super::{Dialect, STREAMS_MAX, opcode as op, report_break};
use crate::finding::{Evidence, Finding, Severity};

/// Magic, protocol, system, object, storage keys.
const TORCH_LEGACY_STREAMS: u64 = 5;
/// Legal opcodes that bytes of another kind may start with.
const BY_CHANCE_OPCODES: u64 = 6;

impl Machine<'_, '_, '_> {
    /// Interprets one stream, or all of them.
    pub fn run(mut self) -> Run {
        let mut run = Run::default();
        let mut imports = 0;
        loop {
            let start = self.cursor.position();
            if run.outcome.streams > 0 && self.archive_follows(start) {
                self.report_tail(start);
                break;
            }
            let before = self.opcodes;
            let imports_before = self.globals.imports();
            let result = self.one();
            imports += self.globals.imports() - imports_before;
            let plausible = self.plausible(start, before, result);
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
        self.look_at_inert();
        run.outcome.opcodes = self.opcodes;
        run.outcome.imports = imports;
        run.straddled = self.cursor.straddled;
        run.wrapped_array = self.wrapped_array;
        self.context.bytes_read += self.cursor.bytes_read;
        self.context.opcodes_left = self.context.opcodes_left.saturating_sub(self.opcodes & (CLOCK_OPCODES - 1));
        run
    }

    /// `PK\3\4` is a persistent id and a few integers, too; whoever wrote it behind a pickle means the archive.
    fn archive_follows(&mut self, start: u64) -> bool {
        self.cursor.bytes(Range { start, len: 4 }, 4) == b"PK\x03\x04"
    }

    /// Did somebody mean this stream as a pickle? Any text may start with a few legal opcodes.
    fn plausible(&mut self, start: u64, before: u64, result: Result<(), Break>) -> bool {
        let opcodes = self.opcodes - before;
        if self.started_with_proto(start) {
            // Two bytes may be chance; then the third is no opcode, or finds no stack.
            let by_chance = matches!(result, Err(Break::Opcode(_) | Break::Stack | Break::Memo | Break::Operand));
            return !by_chance || opcodes > BY_CHANCE_OPCODES || self.globals.known() || self.effects;
        }
        let stopped = result.is_ok() && (self.cursor.left() == 0 || opcodes > BY_CHANCE_OPCODES);
        stopped || self.globals.known() || self.effects
    }

    /// cloudpickle imports modules for the functions that it brings along; without such a function, the import is the
    /// purpose.
    pub(super) fn report_unknown_module(&mut self) {
        if let Some((at, opcode)) = self.unknown_module.filter(|_| !self.made_function) {
            (self.at, self.opcode) = (at, opcode);
            let text = "an unknown module is imported, which runs its code, and no function here needs it";
            let finding = self.finding("SNS-101", Severity::High, text);
            self.context.report(finding);
        }
    }

    pub(super) fn started_with_proto(&mut self, start: u64) -> bool {
        let head = self.cursor.bytes(Range { start, len: 2 }, 2);
        matches!(head.as_slice(), [op::PROTO, 0..=5])
    }

    /// A fresh memo; the old one stays in reach, because a second `load()` on the same Unpickler still sees it, as it does
    /// the rest of a frame that the stream ended in.
    pub(super) fn next_stream(&mut self) {
        self.stack.clear();
        self.marks.clear();
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
    pub(super) fn report_tail(&mut self, start: u64) {
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
        if !self.context.nested(&piece) {
            super::resync::sweep(self.stream, self.context, start);
        }
    }
}
