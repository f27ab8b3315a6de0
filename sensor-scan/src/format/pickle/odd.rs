//! Streams that are built to exhaust their reader: SNS-206.

use super::machine::Machine;
use super::value::{Id, What};
use crate::finding::Severity;
use crate::rule::globals::Does;

/// Open marks, stack left at STOP, nesting and unfolded size beyond which the stream is built to exhaust its reader.
const MARKS_ODD: usize = 5_000;
const STACK_ODD: usize = 1_000;
const DUPS_ODD: u32 = 1_000;
const DEPTH_ODD: u16 = 1_000;
/// Python itself refuses 4,300 since 3.11.
const DIGITS_ODD: u64 = 50_000;
const ARGUMENTS_LOOKED_AT: usize = 16;
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
    pub const DIGITS: Self = Self(128);
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

    /// A number as text: reading it takes time with the square of its length.
    pub(super) fn note_digits(&mut self, digits: u64) {
        if digits > DIGITS_ODD && self.once(Odd::DIGITS) {
            self.report_206(format!("a number of {digits} digits as text"));
        }
    }

    /// Whole numbers among arguments, and the product of those in a tuple, which is a shape; `None` for one that is too
    /// large to be told from a float.
    pub(super) fn largest(&self, args: Id) -> Option<u64> {
        let mut largest = 0;
        for &arg in self.arena.children(args).iter().take(ARGUMENTS_LOOKED_AT) {
            if arg == Id::DATA {
                return None;
            }
            let numbers = self.arena.children(arg).iter().take(ARGUMENTS_LOOKED_AT).filter_map(|item| item.as_int());
            let shape = numbers.fold(1_u64, |product, number| product.saturating_mul(u64::from(number)));
            largest = largest.max(shape).max(arg.as_int().map_or(0, u64::from));
        }
        Some(largest)
    }

    /// An iterator that never ends is handed to something that wants all of it.
    pub(super) fn note_endless(&mut self, callee: Id, args: Id) {
        let endless = |&arg: &Id| {
            let object = self.arena.as_object(arg).filter(|object| object.what == What::Result)?;
            let maker = self.globals.get(self.arena.as_global(object.callee)?)?;
            let finite = maker.path.starts_with("repeat") && self.arena.children(object.args).len() > 1;
            Some(maker.rule?.does == Does::Endless && !finite)
        };
        if self.arena.children(args).iter().take(ARGUMENTS_LOOKED_AT).any(|arg| endless(arg) == Some(true)) {
            self.report_206(format!("{} is given an iterator that never ends", self.name_of(callee)));
        }
    }

    #[inline]
    pub(super) fn check_size(&mut self, value: Id) {
        let (weight, depth) = self.arena.size_of(value);
        if depth > DEPTH_ODD || weight > WEIGHT_ODD {
            self.note_size(weight, depth);
        }
    }

    #[cold]
    fn note_size(&mut self, weight: u32, depth: u16) {
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
