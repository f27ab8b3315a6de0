//! Expressions evaluated as far as constants and names go; the calls in them are judged on the way.

use super::judge::{Judge, When};
use super::module::{MODULE, Scope};
use super::tree::{Id, Node};
use super::value::{DECODED, Origin, Value, What};
use super::{Role, effect, fold};
use crate::finding::Severity;

/// Constants below this size cost no more than the text that they are written in.
const SMALL_BYTES: usize = 256;

impl Judge<'_> {
    /// Evaluates an expression and judges the calls in it. Children have lower numbers than what holds them, so that no
    /// recursion is needed.
    pub(super) fn evaluate(&mut self, top: Id, scope: Scope, line: u32) -> Value {
        let module = self.module;
        let mut ids = Vec::new();
        module.arena.walk(top, false, &mut |id, _| ids.push(id));
        ids.sort_unstable_by_key(|id| id.index());
        for id in ids {
            if matches!(module.arena.node(id), Node::Text(_) | Node::Bytes(_) | Node::Number(_)) {
                continue;
            }
            let value = self.node(id, scope, line);
            let value = if self.makes(id) { self.charged(value) } else { value };
            self.values.insert(id, value);
            self.forget_parts(id);
        }
        self.value(top)
    }

    /// What an operator or a list was made of is asked for by nobody else: long ones would keep a value for each part.
    fn forget_parts(&mut self, id: Id) {
        match self.module.arena.node(id) {
            Node::Binary(_, a, b) => {
                self.values.remove(a);
                self.values.remove(b);
            }
            Node::Joined(parts) | Node::List(parts) => parts.iter().for_each(|part| drop(self.values.remove(part))),
            _ => {}
        }
    }

    /// Does this node make a value, other than handing on one that is there?
    fn makes(&self, id: Id) -> bool {
        let node = self.module.arena.node(id);
        !matches!(node, Node::Name(_) | Node::Attribute(..) | Node::Other(_) | Node::Choice(..) | Node::Named(..))
    }

    /// The value, or only where it comes from once the budget is used up.
    fn charged(&mut self, value: Value) -> Value {
        let size = value.size();
        if size < SMALL_BYTES {
            return value;
        }
        let left = self.left.folded_bytes.checked_sub(size);
        self.left.folded_bytes = left.unwrap_or(0);
        if left.is_some() { value } else { Value::from_origin(value.origin) }
    }

    pub(super) fn value(&self, id: Id) -> Value {
        let made = self.values.get(&id).cloned();
        made.or_else(|| constant(self.module.arena.node(id))).unwrap_or(Value::UNKNOWN)
    }

    fn origins(&self, ids: impl IntoIterator<Item = Id>) -> Origin {
        ids.into_iter().fold(0, |all, id| all | self.value(id).origin)
    }

    fn node(&mut self, id: Id, scope: Scope, line: u32) -> Value {
        let module = self.module;
        match module.arena.node(id) {
            Node::Name(name) => self.name(scope, name),
            node @ (Node::Text(_) | Node::Bytes(_) | Node::Number(_)) => constant(node).unwrap_or(Value::UNKNOWN),
            Node::Joined(parts) => {
                self.joined(parts).unwrap_or(Value::UNKNOWN).with(self.origins(parts.iter().copied()))
            }
            Node::Attribute(of, name) => self.attribute(*of, name, scope, line),
            Node::Index(of, index) => {
                let value = self.value(*of);
                match module.arena.node(*index) {
                    Node::Slice(bounds) => {
                        let bound = |bound: Option<Id>| bound.and_then(|id| self.value(id).as_number());
                        value.slice([bound(bounds[0]), bound(bounds[1]), bound(bounds[2])])
                    }
                    _ => match module.arena.node(*of) {
                        Node::Dict(entries) => self.entry(entries, &self.value(*index)),
                        _ => {
                            // What acts is in a table, then: see `Dict`.
                            let item = value.item(&self.value(*index));
                            if item.is_unknown() && effect::of(&value).is_some() { value } else { item }
                        }
                    },
                }
            }
            Node::Call(callee, arguments) => self.call(*callee, arguments, scope, line),
            Node::Binary("+", a, b) => self.value(*a).plus(&self.value(*b)),
            Node::Binary("%", a, b) => {
                let (format, values) = (self.value(*a), self.value(*b));
                let origin = format.origin | values.origin;
                let folded = if let What::Text(text) = &format.what { fold::percent(text, &values) } else { None };
                folded.unwrap_or(Value::UNKNOWN).with(origin)
            }
            Node::Binary("*", a, b) => {
                let (a, b) = (self.value(*a), self.value(*b));
                match (&a.what, b.as_number()) {
                    (What::Text(text), Some(times @ 0..=1024)) if text.len() < 1024 => {
                        Value::text(text.repeat(times as usize))
                    }
                    _ => Value::from_origin(a.origin | b.origin),
                }
            }
            Node::Binary("^" | "-", a, b) => {
                let (a, b) = (self.value(*a), self.value(*b));
                let minus = matches!(module.arena.node(id), Node::Binary("-", ..));
                match (a.as_number(), b.as_number()) {
                    (Some(a), Some(b)) if minus => a.checked_sub(b).map_or(Value::UNKNOWN, Value::number),
                    (Some(a), Some(b)) => Value::number(a ^ b).with(DECODED),
                    _ => Value::from_origin(a.origin | b.origin | if minus { 0 } else { DECODED }),
                }
            }
            Node::Binary("or" | "and" | "?", a, b) => {
                let (a, b) = (self.value(*a), self.value(*b));
                let chosen = if effect::of(&a).is_some() || b.is_unknown() { a.clone() } else { b.clone() };
                chosen.with(a.origin | b.origin)
            }
            Node::Binary("/", a, b) => {
                let (a, b) = (self.value(*a), self.value(*b));
                let origin = a.origin | b.origin | b.place();
                if a.is_path() { a.with(origin) } else { Value::from_origin(origin) }
            }
            Node::Binary(_, a, b) => Value::from_origin(self.origins([*a, *b])),
            Node::Unary("-", a) => {
                let value = self.value(*a);
                value.as_number().and_then(i64::checked_neg).map_or(Value::from_origin(value.origin), Value::number)
            }
            Node::Unary(operator, a) if *operator == "await" => self.value(*a),
            Node::List(items) => Value::list(items.iter().map(|item| self.value(*item)).collect()),
            Node::Dict(entries) => {
                // A table of callables: whatever is taken from it may be the worst of them.
                let worst =
                    entries.iter().map(|(_, value)| self.value(*value)).find(|value| effect::of(value).is_some());
                let origin = self.origins(entries.iter().map(|(_, value)| *value));
                worst.unwrap_or(Value::UNKNOWN).with(origin)
            }
            Node::Lambda(_, body) => Value::new(What::Lambda(*body)),
            Node::Comprehension(inner) => self.comprehension(&inner.what, &inner.loops, scope, line),
            Node::Choice(a, _, b) => {
                let (a, b) = (self.value(*a), self.value(*b));
                if effect::of(&a).is_some() || b.is_unknown() { a } else { b }
            }
            Node::Named(target, value) => {
                let value = self.value(*value);
                self.assign(scope, *target, &value);
                value
            }
            Node::Other(inner) => self.value(*inner),
            Node::Unary(_, inner) => Value::from_origin(self.value(*inner).origin),
            Node::Slice(_) | Node::Nothing => Value::UNKNOWN,
        }
    }

    /// Strings one behind the other, and fields between them.
    fn joined(&self, parts: &[Id]) -> Option<Value> {
        let (mut text, mut bytes) = (String::new(), Vec::new());
        for part in parts {
            match self.value(*part).what {
                What::Text(part) => text.push_str(&part),
                What::Number(number) => text.push_str(&number.to_string()),
                What::Bytes(part) => bytes.extend_from_slice(&part),
                _ => return None,
            }
        }
        match (text.is_empty(), bytes.is_empty()) {
            (_, true) => Some(Value::text(text)),
            (true, false) => Some(Value::bytes(&bytes)),
            (false, false) => None,
        }
    }

    fn entry(&self, entries: &[(Option<Id>, Id)], key: &Value) -> Value {
        let wanted = key.as_text();
        let found = entries
            .iter()
            .find(|(key, _)| key.is_some_and(|key| wanted.is_some() && self.value(key).as_text() == wanted));
        found.map_or(Value::UNKNOWN, |(_, value)| self.value(*value))
    }

    fn attribute(&mut self, of: Id, name: &str, scope: Scope, line: u32) -> Value {
        let module = self.module;
        if matches!(module.arena.node(of), Node::Name(me) if matches!(&**me, "self" | "cls")) {
            if let Some(value) = self.names.get(&(MODULE, format!("self.{name}"))) {
                return value.clone();
            }
            return Value::UNKNOWN;
        }
        let value = self.value(of);
        if self.judging && WALKS.contains(&name) && !matches!(value.what, What::Scope(_)) {
            self.walk(of, name, scope, line);
        }
        if let (What::Scope(_) | What::Lambda(_), "__globals__" | "__builtins__") = (&value.what, name) {
            return Value::global("builtins", "__globals__");
        }
        value.attribute(name)
    }

    /// From any object to all classes, or to the globals of a function.
    fn walk(&mut self, of: Id, name: &str, scope: Scope, line: u32) {
        let module = self.module;
        let mut from_object = matches!(name, "__builtins__");
        module.arena.walk(of, false, &mut |_, node| match node {
            Node::Attribute(_, inner) => {
                from_object |= matches!(&**inner, "__base__" | "__bases__" | "__mro__" | "__init__");
            }
            Node::Name(inner) => from_object |= &**inner == "object" && name == "__subclasses__",
            _ => {}
        });
        if from_object {
            let severity = match (self.role(), self.when_of(scope)) {
                (Role::Named | Role::Likely, When::Import | When::Use) => Severity::High,
                (Role::Named, _) => Severity::Medium,
                _ => Severity::Low,
            };
            self.report(
                severity,
                line,
                scope,
                format!("walks from an object to the interpreter by {name}"),
                String::new(),
            );
        }
    }

    fn comprehension(&mut self, what: &[Id], loops: &[(Id, Id)], scope: Scope, line: u32) -> Value {
        let module = self.module;
        let iterables: Vec<Id> = loops.iter().map(|(_, iterable)| *iterable).collect();
        let origin = self.origins(what.iter().copied().chain(iterables));
        let ([what], [(target, iterable)]) = (what, loops) else { return Value::from_origin(origin) };
        let Node::Name(name) = module.arena.node(*target) else { return Value::from_origin(origin) };
        let items: Vec<Value> = match self.value(*iterable).what {
            What::List(items) => items.to_vec(),
            What::Text(text) => text.chars().map(|char| Value::text(char.to_string())).collect(),
            What::Bytes(bytes) => bytes.iter().map(|byte| Value::number(i64::from(*byte))).collect(),
            _ => return Value::from_origin(origin),
        };
        let mut ids = Vec::new();
        module.arena.walk(*what, false, &mut |id, _| ids.push(id));
        ids.sort_unstable_by_key(|id| id.index());
        let cost = ids.len().saturating_mul(items.len());
        if cost > self.left.repeats {
            self.left.repeats = 0;
            return Value::from_origin(origin);
        }
        self.left.repeats -= cost;
        let judging = self.judging;
        let mut made = Vec::new();
        for item in items {
            self.names.insert((scope, name.to_string()), item);
            for id in &ids {
                let value = self.node(*id, scope, line);
                self.values.insert(*id, value);
            }
            made.push(self.value(*what));
        }
        self.judging = judging;
        Value::list(made).with(origin)
    }
}

/// What a source says outright is made again whenever it is asked for, and not kept.
fn constant(node: &Node) -> Option<Value> {
    match node {
        Node::Text(text) => Some(Value::text(text)),
        Node::Bytes(bytes) => Some(Value::bytes(bytes)),
        Node::Number(number) => integer(number).map(Value::number),
        _ => None,
    }
}

fn integer(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    match lower.get(..2) {
        Some("0x") => i64::from_str_radix(&lower[2..], 16).ok(),
        Some("0o") => i64::from_str_radix(&lower[2..], 8).ok(),
        Some("0b") => i64::from_str_radix(&lower[2..], 2).ok(),
        _ => lower.parse().ok(),
    }
}

/// Attributes that lead from any object to the interpreter.
const WALKS: &[&str] = &["__subclasses__", "__globals__", "__builtins__"];
