//! Forgetting: a stream of any length is followed in bounded memory. What is harmless and out of sight leaves the arena,
//! and becomes [`Id::LOST`]: whoever needs its content later says so in the report.

use super::{Arena, Id, Node, Object};

/// Values that are kept because the stack, or an open container on it, shows them: the next calls take them as arguments.
const SHOWN_MAX: usize = 1 << 18;
/// Texts that are kept because the memo has them: the names of later imports.
const TEXTS_MAX: usize = 1 << 18;

/// Where values are after forgetting.
pub struct Moved(Vec<Id>);

impl Moved {
    pub fn new_place(&self, id: Id) -> Id {
        match id.node() {
            None => id,
            Some(index) => self.0.get(index).copied().unwrap_or(Id::LOST),
        }
    }
}

impl Arena {
    /// Keeps what `shown` (the stack, bottom first) reaches within a budget, globals, the first texts of `memo`, and
    /// from all of it and the memo whatever is or holds more than plain data.
    pub fn forget(&mut self, shown: &[Id], memo: impl Iterator<Item = Id>) -> Moved {
        let mut keep = vec![false; self.nodes.len()];
        let mut queue = Vec::new();
        let mut budget = SHOWN_MAX.min(self.max as usize / 4);
        for &id in shown.iter().rev() {
            queue.push(id);
            self.reach(&mut keep, &mut queue, &mut budget);
        }
        let (mut none, mut texts) = (0, TEXTS_MAX.min(self.max as usize / 8));
        memo.for_each(|id| match self.node(id) {
            Some(Node::Text { .. } | Node::Owned { .. }) => {
                if texts > 0
                    && let Some(slot) = id.node().and_then(|index| keep.get_mut(index))
                {
                    texts -= 1;
                    *slot = true;
                }
            }
            _ if self.matters(id) => {
                queue.push(id);
                self.reach(&mut keep, &mut queue, &mut none);
            }
            _ => {}
        });
        self.compact(&keep)
    }

    /// More than plain data: a global, a callable, something computed, or a container of such.
    fn matters(&self, id: Id) -> bool {
        self.flags(id).with(super::Flags::CAPTURED) != super::Flags::CAPTURED
    }

    /// Marks what the queue reaches: all that matters, and plain data while the budget lasts.
    fn reach(&self, keep: &mut [bool], queue: &mut Vec<Id>, budget: &mut usize) {
        while let Some(id) = queue.pop() {
            let Some(slot) = id.node().and_then(|index| keep.get_mut(index)) else { continue };
            let mut wanted = self.matters(id);
            if !wanted && *budget > 0 {
                *budget -= 1;
                wanted = true;
            }
            if *slot || !wanted {
                continue;
            }
            *slot = true;
            match self.as_object(id) {
                Some(&Object { callee, args, state, .. }) => queue.extend([callee, args, state]),
                None => queue.extend_from_slice(self.children(id)),
            }
        }
    }

    /// Moves the kept nodes and all globals together, where they are; everything that named another one names
    /// [`Id::LOST`].
    ///
    /// What a node is made of lies in the order of the nodes, so nothing is written over before it was read; the children
    /// of containers do not, and move to a new list.
    fn compact(&mut self, keep: &[bool]) -> Moved {
        let mut moved = Moved(Vec::with_capacity(keep.len()));
        let mut kept = Kept::default();
        self.owned_bytes = 0;
        for (at, &wanted) in keep.iter().enumerate() {
            let Some(&node) = self.nodes.get(at) else { break };
            if !wanted && !matches!(node, Node::Global { .. }) {
                moved.0.push(Id::LOST);
                continue;
            }
            let node = match node {
                Node::Text { .. } | Node::Global { .. } => node,
                Node::Owned { text, index } => {
                    let index = down(&mut self.owned, index, &mut kept.owned);
                    self.owned_bytes += self.owned(index).len() + 16;
                    Node::Owned { text, index }
                }
                Node::Tuple { index } => Node::Tuple { index: down(&mut self.tuples, index, &mut kept.tuples) },
                Node::Box { kind, index } => Node::Box { kind, index: down(&mut self.boxes, index, &mut kept.boxes) },
                Node::Object { index } => Node::Object { index: down(&mut self.objects, index, &mut kept.objects) },
            };
            if let Some(place) = self.nodes.get_mut(kept.nodes) {
                *place = node;
            }
            moved.0.push(Id(kept.nodes as u32 + super::FIRST_NODE));
            kept.nodes += 1;
        }
        self.nodes.truncate(kept.nodes);
        self.tuples.truncate(kept.tuples);
        self.boxes.truncate(kept.boxes);
        self.objects.truncate(kept.objects);
        self.owned.truncate(kept.owned);
        self.move_items(&moved);
        for object in &mut self.objects {
            for part in [&mut object.callee, &mut object.args, &mut object.state] {
                *part = moved.new_place(*part);
            }
        }
        let containers = self.tuples.len() + 2 * self.boxes.len();
        self.used = (self.nodes.len() + containers + self.items.len() + self.objects.len() + self.owned.len()) as u64;
        moved
    }

    /// Moves the children of all containers to a list of their own.
    fn move_items(&mut self, moved: &Moved) {
        let before = std::mem::take(&mut self.items);
        let spans = self.tuples.iter_mut().map(|tuple| (&mut tuple.span, None));
        let spans = spans.chain(self.boxes.iter_mut().map(|shared| (&mut shared.span, Some(&mut shared.room))));
        for (span, room) in spans {
            let children = before.get(span.range()).unwrap_or_default();
            span.start = self.items.len() as u32;
            self.items.extend(children.iter().map(|&child| moved.new_place(child)));
            if let Some(room) = room {
                *room = span.len;
            }
        }
    }
}

/// How much of each list stays.
#[derive(Default)]
struct Kept {
    nodes: usize,
    tuples: usize,
    boxes: usize,
    objects: usize,
    owned: usize,
}

/// Moves an element down to place `next`, and says which that was.
fn down<T>(list: &mut [T], index: u32, next: &mut usize) -> u32 {
    let (to, from) = (*next, index as usize);
    if to < from && from < list.len() {
        list.swap(to, from);
    }
    *next += 1;
    to as u32
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, Kind, Text, What};
    use super::*;
    use crate::format::pickle::cursor::Range;

    #[test]
    fn what_matters_stays_and_plain_data_out_of_sight_goes() {
        let mut arena = Arena::new(1_000_000);
        arena.global_flags.push(Flags::DANGEROUS);
        let text = |arena: &mut Arena, at| arena.text(Text::Str, Range { start: at, len: 3 });
        let name = text(&mut arena, 1);
        let plain = arena.tuple(&[name]);
        let bad = arena.global(0);
        let holder = arena.new_box(Kind::List);
        arena.extend(holder, &[plain, bad]);
        let result = arena.object(What::Result, bad, plain, Flags::DANGEROUS);
        let argument = text(&mut arena, 2);
        let shown = arena.tuple(&[argument]);

        let moved = arena.forget(&[shown], [plain, holder, result].into_iter());
        assert_eq!(moved.new_place(plain), Id::LOST, "data that only the memo has");
        let shown = moved.new_place(shown);
        assert!(matches!(arena.node(arena.children(shown)[0]), Some(Node::Text { start: 2, .. })));
        let holder = moved.new_place(holder);
        let &[lost, bad] = arena.children(holder) else { panic!("two children") };
        assert!(lost == Id::LOST && arena.as_global(bad) == Some(0) && arena.flags(holder).has(Flags::DANGEROUS));
        let object = *arena.as_object(moved.new_place(result)).unwrap();
        assert_eq!((object.callee, object.args), (bad, Id::LOST));
        assert_eq!(moved.new_place(Id::int(5)), Id::int(5));
    }

    #[test]
    fn names_in_the_memo_stay() {
        let mut arena = Arena::new(1_000);
        let name = arena.text(Text::Str, Range { start: 7, len: 2 });
        let moved = arena.forget(&[], [name].into_iter());
        assert!(matches!(arena.node(moved.new_place(name)), Some(Node::Text { start: 7, .. })));
    }
}
