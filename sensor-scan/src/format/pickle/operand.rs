//! Operands that need more than a fixed number of bytes: texts, numbers, memo entries, registry and persistent ids.

use super::Dialect;
use super::cursor::Break;
use super::machine::Machine;
use super::odd::Odd;
use super::value::{Id, Text, What};
use crate::finding::Severity;

impl Machine<'_, '_, '_> {
    #[inline]
    pub(super) fn text(&mut self, text: Text, len: u64) -> Result<(), Break> {
        let range = self.cursor.skip(len)?;
        if len >= super::nested::INERT_BYTES_MIN {
            self.note_inert(text, range);
        }
        let value = self.arena.text(text, range);
        self.recent = [self.recent[1], range];
        self.push(value);
        Ok(())
    }

    pub(super) fn long_bytes(&mut self, len: u64) -> Result<(), Break> {
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
    pub(super) fn number(&mut self) -> Result<Id, Break> {
        let line = self.cursor.line()?;
        self.note_digits(line.len);
        let bytes = self.cursor.bytes(line, 64);
        Ok(match bytes.as_slice() {
            b"00" => Id::FALSE,
            b"01" => Id::TRUE,
            text => super::fold::integer(text).map_or(Id::DATA, Id::int),
        })
    }

    /// Text index of PUT and GET: blanks, leading zeros and `_` are accepted by some reader.
    pub(super) fn index(&mut self) -> Result<u32, Break> {
        let line = self.cursor.line()?;
        let bytes = self.cursor.bytes(line, 64);
        let value = super::fold::integer(&bytes).ok_or(Break::Operand)?;
        u32::try_from(value).map_err(|_| Break::Operand)
    }

    pub(super) fn put(&mut self, index: u32, value: Id) {
        self.note_memo_index(index);
        self.memo.put(index, value);
    }

    pub(super) fn get(&mut self, index: u32) -> Result<(), Break> {
        let value = self.memo.get(index).or_else(|| self.previous.get(index)).ok_or(Break::Memo)?;
        self.push(value);
        Ok(())
    }

    pub(super) fn extension(&mut self, code: u32) {
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

    pub(super) fn persistent(&mut self, id: Id) {
        if !self.stream.dialect.persistent_ids_are_legal() && self.once(Odd::PERSISTENT) {
            let text = "a persistent id, which no plain loader accepts";
            let finding = self.finding("SNS-109", Severity::Medium, text);
            self.context.report(finding);
        }
        if self.stream.dialect == Dialect::TorchZip {
            self.declare_storage(id);
        }
        let value = self.container(id).unwrap_or_else(|| {
            let flags = self.arena.flags(id);
            self.arena.object(What::Persistent, Id::NONE, id, flags)
        });
        self.push(value);
    }

    /// `('module', class, file, source)`: torch's first format keeps the source of a class beside it, and gives the class.
    fn container(&mut self, id: Id) -> Option<Id> {
        let [kind, class, _, _] = *self.arena.children(id) else { return None };
        let legacy = self.stream.dialect == Dialect::TorchLegacy;
        (legacy && self.string_of(kind).as_deref() == Some("module")).then_some(class)
    }
}
