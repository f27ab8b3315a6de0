//! Streams that are built to exhaust their reader: SNS-206.

use super::machine::Machine;
use super::value::Id;
use crate::finding::Severity;

/// Open marks, stack left at STOP, nesting and unfolded size beyond which the stream is built to exhaust its reader.
const MARKS_ODD: usize = 5_000;
const STACK_ODD: usize = 1_000;
const DUPS_ODD: u32 = 1_000;
const DEPTH_ODD: u16 = 1_000;
const WEIGHT_ODD: u32 = 50_000_000;
/// A memo index from which CPython's memo, a plain array of twice the index, takes gigabytes.
const MEMO_INDEX_ODD: u32 = 1 << 25;

/// A set of things to report once per machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Odd(u8);

impl Odd {
    pub const MEMO_INDEX: Self = Self(1);
    pub const PERSISTENT: Self = Self(2);
    pub const DEPTH: Self = Self(4);
    pub const WEIGHT: Self = Self(8);
    pub const MARKS: Self = Self(16);
    pub const STACK: Self = Self(32);
    pub const DUPS: Self = Self(64);
}

impl Machine<'_, '_, '_> {
    /// True the first time.
    pub(super) fn once(&mut self, what: Odd) -> bool {
        let first = self.odd.0 & what.0 == 0;
        self.odd.0 |= what.0;
        first
    }

    /// DUP, which no pickler writes.
    pub(super) fn note_dup(&mut self) {
        self.dups += 1;
        if self.dups > DUPS_ODD && self.once(Odd::DUPS) {
            self.report_206("values are duplicated on the stack in masses, which no pickler does".to_owned());
        }
    }

    /// PUT with a huge index.
    pub(super) fn note_memo_index(&mut self, index: u32) {
        if index >= MEMO_INDEX_ODD && self.once(Odd::MEMO_INDEX) {
            self.report_206(format!("memo index {index} makes the reader allocate gigabytes"));
        }
    }

    pub(super) fn check_size(&mut self, value: Id) {
        let (weight, depth) = self.arena.size_of(value);
        if depth > DEPTH_ODD && self.once(Odd::DEPTH) {
            self.report_206(format!("values nest {depth} deep"));
        }
        if weight > WEIGHT_ODD && u64::from(weight) > self.opcodes.saturating_mul(1_000) && self.once(Odd::WEIGHT) {
            self.report_206(format!("{} opcodes unfold into more than {weight} values", self.opcodes));
        }
    }

    pub(super) fn note_marks(&mut self) {
        if self.marks.len() > MARKS_ODD && self.once(Odd::MARKS) {
            self.report_206(format!("{} open marks", self.marks.len()));
        }
    }

    pub(super) fn stack_at_stop(&mut self) {
        self.note_marks();
        if self.stack.len() > STACK_ODD && self.once(Odd::STACK) {
            self.report_206(format!("{} values are left on the stack", self.stack.len()));
        }
    }

    pub(super) fn report_206(&mut self, text: String) {
        let finding = self.finding("SNS-206", Severity::Medium, text);
        self.context.report(finding);
    }
}
