//! Expressions as a tree in an arena: nodes refer to each other by number, so that neither walking nor dropping one needs
//! a deep stack.

/// A node of an [`Arena`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id(u32);

impl Id {
    /// Of what an expression is made has lower numbers than itself.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Small: a source of a megabyte has hundreds of thousands.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Name(Box<str>),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Number(Box<str>),
    /// A formatted string.
    Joined(Vec<Id>),
    Attribute(Id, Box<str>),
    Index(Id, Id),
    Slice(Box<[Option<Id>; 3]>),
    Call(Id, Vec<Argument>),
    Binary(&'static str, Id, Id),
    Unary(&'static str, Id),
    /// Tuples, lists and sets.
    List(Vec<Id>),
    /// `None` for `**mapping`.
    Dict(Vec<(Option<Id>, Id)>),
    /// The parameters' defaults, and the body.
    Lambda(Vec<Id>, Id),
    Comprehension(Box<Comprehension>),
    /// Then, condition, else.
    Choice(Id, Id, Id),
    Named(Id, Id),
    /// `*x`, `**x`, `await x`, `yield x`.
    Other(Id),
    Nothing,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Comprehension {
    /// What is collected.
    pub what: Vec<Id>,
    /// Targets and iterables.
    pub loops: Vec<(Id, Id)>,
    pub conditions: Vec<Id>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    pub name: Option<String>,
    /// `*x` or `**x`.
    pub spread: bool,
    pub value: Id,
}

/// The nodes of one source.
#[derive(Debug, Default)]
pub struct Arena {
    nodes: Vec<Node>,
}

impl Arena {
    pub fn add(&mut self, node: Node) -> Id {
        let id = Id(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        id
    }

    pub fn node(&self, id: Id) -> &Node {
        self.nodes.get(id.0 as usize).unwrap_or(&Node::Nothing)
    }

    /// Calls `each` with a node and everything below it; bodies of lambdas only where `lambdas`.
    pub fn walk(&self, top: Id, lambdas: bool, each: &mut impl FnMut(Id, &Node)) {
        let mut queue = vec![top];
        while let Some(id) = queue.pop() {
            let node = self.node(id);
            each(id, node);
            let from = queue.len();
            match node {
                Node::Joined(ids) | Node::List(ids) => queue.extend(ids),
                Node::Attribute(id, _) | Node::Unary(_, id) | Node::Other(id) => queue.push(*id),
                Node::Index(a, b) | Node::Binary(_, a, b) | Node::Named(a, b) => queue.extend([*a, *b]),
                Node::Slice(bounds) => queue.extend(bounds.iter().flatten()),
                Node::Call(callee, arguments) => {
                    queue.push(*callee);
                    queue.extend(arguments.iter().map(|argument| argument.value));
                }
                Node::Dict(entries) => entries.iter().for_each(|(key, value)| {
                    queue.extend(*key);
                    queue.push(*value);
                }),
                Node::Lambda(defaults, body) => {
                    queue.extend(defaults);
                    queue.extend(lambdas.then_some(*body));
                }
                Node::Comprehension(comprehension) => {
                    let Comprehension { what, loops, conditions } = &**comprehension;
                    loops.iter().for_each(|(target, iterable)| queue.extend([*target, *iterable]));
                    queue.extend(conditions.iter().chain(what));
                }
                Node::Choice(a, b, c) => {
                    queue.extend([*a, *b, *c]);
                }
                Node::Name(_) | Node::Text(_) | Node::Bytes(_) | Node::Number(_) | Node::Nothing => {}
            }
            queue[from..].reverse();
        }
    }
}
