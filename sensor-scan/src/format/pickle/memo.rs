//! The memo: integers to values.

use std::collections::HashMap;

use super::value::Id;

/// Memo indices up to twice the number of entries and this much are kept in a vector.
const MEMO_SLACK: usize = 1 << 10;

/// Entries that are kept; later ones are forgotten.
const ENTRIES_MAX: usize = 4 << 20;

/// Memo of one stream.
#[derive(Debug, Default)]
pub struct Memo {
    dense: Vec<Id>,
    /// Entries far behind the others.
    pub sparse: HashMap<u32, Id>,
    /// Entries; what MEMOIZE takes as the next index.
    pub len: u32,
}

impl Memo {
    pub fn put(&mut self, index: u32, value: Id) {
        let at = index as usize;
        if self.len as usize >= ENTRIES_MAX && at >= self.dense.len() && !self.sparse.contains_key(&index) {
            self.len += 1;
            return;
        }
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

    pub fn get(&self, index: u32) -> Option<Id> {
        match self.dense.get(index as usize) {
            Some(&value) if value != Id::EMPTY => Some(value),
            _ => self.sparse.get(&index).copied().or_else(|| self.forgotten(index)),
        }
    }

    /// An entry that was not kept, as far as one can tell: readers would fail at an index that was never written.
    fn forgotten(&self, index: u32) -> Option<Id> {
        (self.len as usize > ENTRIES_MAX && index as usize >= ENTRIES_MAX).then_some(Id::LOST)
    }

    pub fn values(&self) -> impl Iterator<Item = Id> {
        self.dense.iter().chain(self.sparse.values()).copied()
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Id> {
        self.dense.iter_mut().chain(self.sparse.values_mut())
    }
}
