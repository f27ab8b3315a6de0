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
    /// Of `dense` before this place, `alive` has the indices of what is a node, in their order: most entries of a long
    /// stream were forgotten, and nobody looks at them again.
    settled: usize,
    alive: Vec<u32>,
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
            self.settled = self.settled.min(at);
        } else if at < 2 * self.len as usize + MEMO_SLACK {
            self.dense.resize(at, Id::EMPTY);
            self.dense.push(value);
            // Asked first: a look into an empty table hashes all the same.
            self.len += u32::from(self.sparse.is_empty() || self.sparse.remove(&index).is_none());
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

    /// Every value that is a node, and perhaps others; those of `dense` in their order.
    pub fn values(&self) -> impl Iterator<Item = Id> {
        let settled = self.alive.iter().take_while(|&&index| (index as usize) < self.settled);
        let settled = settled.filter_map(|&index| self.dense.get(index as usize));
        let others = self.dense.get(self.settled..).unwrap_or_default();
        settled.chain(others).chain(self.sparse.values()).copied()
    }

    /// Values have moved: `place` says where to.
    pub fn renew(&mut self, place: impl Fn(Id) -> Id) {
        let before = std::mem::take(&mut self.alive);
        let settled = before.into_iter().take_while(|&index| (index as usize) < self.settled);
        let others = self.settled as u32..self.dense.len() as u32;
        for index in settled.chain(others) {
            let Some(slot) = self.dense.get_mut(index as usize) else { continue };
            *slot = place(*slot);
            if slot.is_node() {
                self.alive.push(index);
            }
        }
        self.settled = self.dense.len();
        for slot in self.sparse.values_mut() {
            *slot = place(*slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::{Arena, Kind};
    use super::*;

    #[test]
    fn what_moved_is_found_in_its_order_and_again_where_an_index_is_used_twice() {
        let mut arena = Arena::new(1_000);
        let nodes: Vec<Id> = (0..4).map(|_| arena.new_box(Kind::List)).collect();
        let mut memo = Memo::default();
        for index in 0..6 {
            memo.put(index, if index % 2 == 0 { nodes[index as usize / 2] } else { Id::NONE });
        }
        memo.renew(|id| if id == nodes[1] { Id::LOST } else { id });
        assert_eq!(memo.values().collect::<Vec<_>>(), [nodes[0], nodes[2]]);
        assert_eq!((memo.get(2), memo.get(3)), (Some(Id::LOST), Some(Id::NONE)));

        memo.put(1, nodes[3]);
        memo.put(6, nodes[1]);
        let nodes_of = |memo: &Memo| memo.values().filter(|id| id.is_node()).collect::<Vec<_>>();
        assert_eq!(nodes_of(&memo), [nodes[0], nodes[3], nodes[2], nodes[1]]);
        memo.renew(|id| id);
        assert_eq!(memo.values().collect::<Vec<_>>(), [nodes[0], nodes[3], nodes[2], nodes[1]]);
        assert_eq!(memo.len, 7);
    }
}
