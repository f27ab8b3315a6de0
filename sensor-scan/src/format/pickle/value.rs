//! Symbolic values of the machine: an arena of small nodes, shared by stack and memo.
//!
//! Text is not copied: a node is a range of the source. Containers that can be mutated are shared by identity, because
//! aliasing is the point of most evasions. Every container carries the union of its contents' [`Flags`], so no question
//! about a value has to walk it.

mod forget;

use super::cursor::Range;

pub use forget::Moved;

/// Children that a mutable container keeps; flags cover all of them.
const CHILDREN_MAX: usize = 4096;

/// A value. Small integers and singletons need no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id(u32);

const SMALL_INT: u32 = 1 << 31;
const FIRST_NODE: u32 = 8;

impl Id {
    pub const NONE: Self = Self(0);
    pub const TRUE: Self = Self(1);
    pub const FALSE: Self = Self(2);
    /// Plain data whose value is not kept: floats, big integers, what comes after the arena is full.
    pub const DATA: Self = Self(3);
    /// Anything, also a callable.
    pub const UNKNOWN: Self = Self(4);
    /// An out-of-band buffer.
    pub const BUFFER: Self = Self(5);
    /// No value: a free slot.
    pub const EMPTY: Self = Self(6);
    /// Plain data that was forgotten (see [`Arena::forget`]).
    pub const LOST: Self = Self(7);

    pub fn int(value: i64) -> Self {
        match u32::try_from(value) {
            Ok(small) if small < SMALL_INT => Self(small | SMALL_INT),
            _ => Self::DATA,
        }
    }

    pub fn as_int(self) -> Option<u32> {
        (self.0 & SMALL_INT != 0).then_some(self.0 & !SMALL_INT)
    }

    /// It stands for a node of the arena, which can move.
    pub fn is_node(self) -> bool {
        self.node().is_some()
    }

    fn node(self) -> Option<usize> {
        (self.0 & SMALL_INT == 0).then(|| self.0.checked_sub(FIRST_NODE)).flatten().map(|index| index as usize)
    }
}

/// What a value holds anywhere inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    pub const NONE: Self = Self(0);
    /// A callable that is listed as dangerous or risky, or that was made from one.
    pub const DANGEROUS: Self = Self(1);
    /// A callable that is not a plain class.
    pub const CALLABLE: Self = Self(2);
    /// Something that could not be resolved.
    pub const UNKNOWN: Self = Self(4);
    /// A function made from a code object.
    pub const FUNCTION: Self = Self(8);
    /// The container is inside another one or was an argument: who changes it changes that too.
    pub const CAPTURED: Self = Self(128);

    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// As part of an instance: harmless callables inside are its own business.
    pub fn of_instance(self) -> Self {
        Self(self.0 & !(Self::CALLABLE.0 | Self::CAPTURED.0))
    }

    fn inherited(self) -> Self {
        Self(self.0 & !Self::CAPTURED.0)
    }
}

/// Which type a text node has in Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    Str,
    Bytes,
    /// `bytes` that the source holds as UTF-8 of Latin-1 text: how protocol 2 writes them.
    BytesAsUtf8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    List,
    Dict,
    Set,
}

#[derive(Debug, Clone, Copy)]
pub enum Node {
    /// A range of the source.
    Text {
        text: Text,
        len: u32,
        start: u64,
    },
    /// Text that was computed or unescaped, in [`Arena::owned`].
    Owned {
        text: Text,
        index: u32,
    },
    Tuple {
        index: u32,
    },
    /// List, dictionary (children alternate), set.
    Box {
        kind: Kind,
        index: u32,
    },
    Global {
        index: u32,
    },
    Object {
        index: u32,
    },
}

/// Where the children of a container lie in [`Arena::items`].
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// What values hold together.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    weight: u32,
    depth: u16,
    flags: Flags,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Tuple {
    span: Span,
    sum: Sum,
}

/// A mutable container.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shared {
    span: Span,
    /// Items from the start of the span on that are the container's own.
    room: u32,
    sum: Sum,
    /// Children in all.
    total: u64,
}

impl Shared {
    /// Every child was kept.
    pub fn is_whole(&self) -> bool {
        self.total <= u64::from(self.span.len)
    }
}

/// What a call or an attribute access gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An instance or result of `callee(args)`; nothing is known but where it comes from.
    Result,
    /// `functools.partial` and the like: calls `callee` with `args` first.
    Partial,
    /// `operator.attrgetter`: `args` holds the names.
    AttrGetter,
    /// `operator.methodcaller`: `args` holds name and arguments.
    MethodCaller,
    /// A module by name: `args` is the text.
    Module,
    /// Attribute `args` of `callee`, which is no global.
    Attr,
    /// A function made from a code object.
    Function,
    Code,
    /// A class made by the stream.
    Class,
    /// A persistent id.
    Persistent,
    /// Bytes wrapped as a file: `args` holds the bytes.
    File,
}

#[derive(Debug, Clone, Copy)]
pub struct Object {
    pub what: What,
    pub callee: Id,
    pub args: Id,
    /// Last state of BUILD.
    pub state: Id,
    pub flags: Flags,
}

/// All values of one machine.
#[derive(Debug, Default)]
pub struct Arena {
    nodes: Vec<Node>,
    tuples: Vec<Tuple>,
    /// Children of tuples and boxes.
    items: Vec<Id>,
    boxes: Vec<Shared>,
    objects: Vec<Object>,
    owned: Vec<Box<[u8]>>,
    owned_bytes: usize,
    used: u64,
    max: u64,
    /// Flags of globals, by index (see `resolve`).
    pub global_flags: Vec<Flags>,
}

/// Bytes of computed text in all.
const OWNED_BYTES_MAX: usize = 8 << 20;

impl Arena {
    pub fn new(max: u64) -> Self {
        Self { max: max.min(u64::from(SMALL_INT - FIRST_NODE) / 2), ..Self::default() }
    }

    /// No more values are kept: new ones degrade to [`Id::LOST`] or [`Id::UNKNOWN`].
    pub fn full(&self) -> bool {
        self.used >= self.max
    }

    /// Values, by what they take.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// More than half of the room is taken.
    pub fn half_full(&self) -> bool {
        self.used >= self.max / 2
    }

    fn push(&mut self, node: Node, cost: u64) -> Id {
        let id = Id(self.nodes.len() as u32 + FIRST_NODE);
        self.nodes.push(node);
        self.used += 1 + cost;
        id
    }

    pub fn node(&self, id: Id) -> Option<Node> {
        id.node().and_then(|index| self.nodes.get(index)).copied()
    }

    #[inline]
    pub fn text(&mut self, text: Text, range: Range) -> Id {
        match u32::try_from(range.len) {
            Ok(len) if !self.full() => self.push(Node::Text { text, len, start: range.start }, 0),
            _ => Id::LOST,
        }
    }

    pub fn owned_text(&mut self, text: Text, bytes: Vec<u8>) -> Id {
        if self.full() || self.owned_bytes + bytes.len() > OWNED_BYTES_MAX {
            return Id::LOST;
        }
        self.owned_bytes += bytes.len() + 16;
        self.owned.push(bytes.into_boxed_slice());
        self.push(Node::Owned { text, index: self.owned.len() as u32 - 1 }, 1)
    }

    pub fn owned(&self, index: u32) -> &[u8] {
        self.owned.get(index as usize).map_or(&[], |bytes| bytes)
    }

    pub fn global(&mut self, index: u32) -> Id {
        // A global is never lost: its number is bounded by what the stream spells out, and it is what matters.
        self.push(Node::Global { index }, 0)
    }

    pub fn as_global(&self, id: Id) -> Option<u32> {
        match self.node(id)? {
            Node::Global { index } => Some(index),
            _ => None,
        }
    }

    pub fn tuple(&mut self, items: &[Id]) -> Id {
        let mut sum = self.take_in(items);
        if self.full() {
            return Self::degraded(sum.flags);
        }
        sum.weight = sum.weight.saturating_add(1);
        let span = Span { start: self.items.len() as u32, len: items.len() as u32 };
        self.items.extend_from_slice(items);
        self.tuples.push(Tuple { span, sum });
        self.push(Node::Tuple { index: self.tuples.len() as u32 - 1 }, items.len() as u64 + 1)
    }

    pub fn new_box(&mut self, kind: Kind) -> Id {
        if self.full() {
            return Id::LOST;
        }
        let sum = Sum { weight: 1, depth: 1, flags: Flags::NONE };
        self.boxes.push(Shared { sum, ..Shared::default() });
        self.push(Node::Box { kind, index: self.boxes.len() as u32 - 1 }, 2)
    }

    pub fn object(&mut self, what: What, callee: Id, args: Id, flags: Flags) -> Id {
        let flags = flags.inherited();
        if self.full() {
            return Self::degraded(flags);
        }
        self.capture(args);
        self.objects.push(Object { what, callee, args, state: Id::NONE, flags });
        self.push(Node::Object { index: self.objects.len() as u32 - 1 }, 1)
    }

    /// What is left of a value when the arena is full.
    fn degraded(flags: Flags) -> Id {
        if flags == Flags::NONE { Id::LOST } else { Id::UNKNOWN }
    }

    pub fn as_object(&self, id: Id) -> Option<&Object> {
        match self.node(id)? {
            Node::Object { index } => self.objects.get(index as usize),
            _ => None,
        }
    }

    pub fn as_object_mut(&mut self, id: Id) -> Option<&mut Object> {
        match self.node(id)? {
            Node::Object { index } => self.objects.get_mut(index as usize),
            _ => None,
        }
    }

    /// Elements of a tuple, list or set; keys and values of a dictionary in turn.
    pub fn children(&self, id: Id) -> &[Id] {
        let span = match self.node(id) {
            Some(Node::Tuple { index }) => self.tuples.get(index as usize).map(|tuple| tuple.span),
            Some(Node::Box { index, .. }) => self.boxes.get(index as usize).map(|shared| shared.span),
            _ => None,
        };
        span.and_then(|span| self.items.get(span.range())).unwrap_or_default()
    }

    pub fn shared(&self, id: Id) -> Option<(Kind, &Shared)> {
        match self.node(id)? {
            Node::Box { kind, index } => self.boxes.get(index as usize).map(|shared| (kind, shared)),
            _ => None,
        }
    }

    /// Adds children to a mutable container. `Some(true)`: a dangerous value went into a container that something
    /// already holds. `None`: this is no container.
    pub fn extend(&mut self, id: Id, items: &[Id]) -> Option<bool> {
        let Some(Node::Box { index, .. }) = self.node(id) else { return None };
        let added = self.take_in(items);
        let full = self.full();
        let shared = self.boxes.get_mut(index as usize)?;
        let room = if full { 0 } else { CHILDREN_MAX.saturating_sub(shared.span.len as usize) };
        let kept = items.get(..room.min(items.len())).unwrap_or_default();
        shared.total += items.len() as u64;
        shared.sum.weight = shared.sum.weight.saturating_add(added.weight);
        shared.sum.depth = shared.sum.depth.max(added.depth);
        let before = shared.sum.flags;
        shared.sum.flags = before.with(added.flags);
        self.keep(index, kept);
        Some(before.has(Flags::CAPTURED) && added.flags.has(Flags::DANGEROUS) && !before.has(Flags::DANGEROUS))
    }

    /// Puts children behind those of a box, in place as long as there is room, else in a new place with room to grow.
    fn keep(&mut self, index: u32, children: &[Id]) {
        let Some(shared) = self.boxes.get_mut(index as usize) else { return };
        let (start, len, more) = (shared.span.start as usize, shared.span.len as usize, children.len());
        shared.span.len += more as u32;
        if let Some(place) = self.items.get_mut(start + len..start + len + more)
            && len + more <= shared.room as usize
        {
            place.copy_from_slice(children);
            return;
        }
        // Most are filled at once, and never again.
        let room = if len == 0 { more } else { 2 * (len + more) };
        shared.span.start = self.items.len() as u32;
        shared.room = room as u32;
        self.items.reserve(room);
        self.items.extend_from_within(start..start + len);
        self.items.extend_from_slice(children);
        self.items.resize(shared.span.start as usize + room, Id::EMPTY);
        self.used += room as u64;
    }

    /// Values go into a container: what they hold together, with a depth of one more.
    fn take_in(&mut self, items: &[Id]) -> Sum {
        let mut all = Sum { weight: 0, depth: 1, flags: Flags::NONE };
        for &item in items {
            let sum = match self.node(item) {
                Some(Node::Tuple { index }) => self.tuples.get(index as usize).map(|tuple| tuple.sum),
                Some(Node::Box { index, .. }) => self.boxes.get_mut(index as usize).map(|shared| {
                    let sum = Sum { flags: shared.sum.flags.inherited(), ..shared.sum };
                    shared.sum.flags = shared.sum.flags.with(Flags::CAPTURED);
                    sum
                }),
                _ => None,
            };
            let sum = sum.unwrap_or_else(|| Sum { weight: 1, depth: 0, flags: self.flags(item) });
            all.weight = all.weight.saturating_add(sum.weight);
            all.depth = all.depth.max(sum.depth.saturating_add(1));
            all.flags = all.flags.with(sum.flags);
        }
        all
    }

    fn capture(&mut self, id: Id) {
        if let Some(Node::Box { index, .. }) = self.node(id)
            && let Some(shared) = self.boxes.get_mut(index as usize)
        {
            shared.sum.flags = shared.sum.flags.with(Flags::CAPTURED);
        }
    }

    #[inline]
    pub fn flags(&self, id: Id) -> Flags {
        match self.node(id) {
            None if id == Id::UNKNOWN => Flags::UNKNOWN,
            None | Some(Node::Text { .. } | Node::Owned { .. }) => Flags::NONE,
            Some(Node::Tuple { index }) => self.tuples.get(index as usize).map_or(Flags::NONE, |tuple| tuple.sum.flags),
            Some(Node::Box { index, .. }) => {
                self.boxes.get(index as usize).map_or(Flags::NONE, |shared| shared.sum.flags.inherited())
            }
            Some(Node::Global { index }) => self.global_flags.get(index as usize).copied().unwrap_or(Flags::UNKNOWN),
            Some(Node::Object { index }) => {
                self.objects.get(index as usize).map_or(Flags::UNKNOWN, |object| object.flags)
            }
        }
    }

    /// Nodes when all sharing is unfolded, and nesting; both saturate.
    #[inline]
    pub fn size_of(&self, id: Id) -> (u32, u16) {
        match self.node(id) {
            Some(Node::Tuple { index }) => {
                self.tuples.get(index as usize).map_or((1, 1), |it| (it.sum.weight, it.sum.depth))
            }
            Some(Node::Box { index, .. }) => {
                self.boxes.get(index as usize).map_or((1, 1), |it| (it.sum.weight, it.sum.depth))
            }
            _ => (1, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Lists that grow in turn keep their own children, before and after values have moved.
        #[test]
        fn containers_that_grow_in_turn_keep_their_own_children(
            steps in prop::collection::vec((0..5usize, 0..40u32, prop::bool::weighted(0.1)), 1..120),
        ) {
            let mut arena = Arena::new(1_000_000);
            let mut lists: Vec<Id> = (0..5).map(|_| arena.new_box(Kind::List)).collect();
            let mut expected = vec![Vec::new(); 5];
            for (list, more, moves) in steps {
                let children: Vec<Id> = (0..more).map(|n| Id::int(i64::from(n) + 100 * list as i64)).collect();
                arena.extend(lists[list], &children);
                expected[list].extend_from_slice(&children);
                if moves {
                    arena.new_box(Kind::Dict);
                    let moved = arena.forget(&lists, std::iter::empty());
                    lists.iter_mut().for_each(|list| *list = moved.new_place(*list));
                }
                for (list, children) in lists.iter().zip(&expected) {
                    prop_assert_eq!(arena.children(*list), children.as_slice());
                }
            }
        }
    }

    #[test]
    fn a_container_keeps_so_many_children_and_says_that_there_are_more() {
        let mut arena = Arena::new(1_000_000);
        let list = arena.new_box(Kind::List);
        for n in 0..CHILDREN_MAX as i64 + 10 {
            assert!(arena.shared(list).is_some_and(|(_, list)| list.is_whole() == (n <= CHILDREN_MAX as i64)));
            arena.extend(list, &[Id::int(n)]);
        }
        assert_eq!(arena.children(list).len(), CHILDREN_MAX);
        assert!(arena.used() < 5 * CHILDREN_MAX as u64, "{}", arena.used());
    }
}
