//! Walks a template's expressions, folds what is constant, and says what no chat template needs.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use super::build::item_of;
use super::expression::{Argument, Expression, Step};
use super::name;
use super::run::Program;
use super::token::Token;
use crate::finding::Severity;
use crate::format::text;

/// Bytes of a folded text.
pub const FOLDED_BYTES_MAX: usize = 16 << 10;
/// Findings of one template.
const FOUND_MAX: usize = 20;
/// A number that no range and no repetition of a template needs.
const REPEATS_MAX: i64 = 10_000_000;
/// Copies of variables' values in all: a list of lists doubles with every line.
const COPIED_BYTES_MAX: usize = 16 << 20;
/// Lists in lists that a variable holds.
const VALUE_DEPTH_MAX: usize = 32;
/// Variables that are remembered.
const VARIABLES_MAX: usize = 10_000;

/// What an expression is, as far as it can be told.
#[derive(Debug, Clone, PartialEq)]
pub enum Folded {
    Text(String),
    Number(i64),
    List(Vec<Folded>),
    /// A dictionary or a namespace.
    Map(Vec<(String, Folded)>),
    /// What a message says.
    Content,
    Unknown,
}

use Folded::{Content, List, Map, Number, Text, Unknown};

#[derive(Default)]
pub struct Judge<'t> {
    pub found: Vec<Found>,
    pub(super) variables: BTreeMap<String, Folded>,
    /// Halves of names with two underscores.
    halves: BTreeSet<String>,
    pub(super) program: Program<'t>,
    /// The part that is looked at.
    part: String,
    copied_bytes: usize,
    /// What is asked of the content in this part of an expression is asked of a mapping.
    keyed: bool,
}

impl Folded {
    /// About what a copy takes.
    fn bytes(&self) -> usize {
        const NODE_BYTES: usize = 32;
        let inner = match self {
            Text(text) => text.len(),
            List(items) => items.iter().map(Self::bytes).sum(),
            Map(entries) => entries.iter().map(|(key, value)| key.len() + value.bytes()).sum(),
            Number(_) | Content | Unknown => 0,
        };
        NODE_BYTES + inner
    }

    /// Lists in lists.
    fn depth(&self) -> usize {
        let inner = match self {
            List(items) => items.iter().map(Self::depth).max(),
            Map(entries) => entries.iter().map(|(_, value)| value.depth()).max(),
            _ => None,
        };
        inner.map_or(0, |inner| inner + 1)
    }
}

impl Judge<'_> {
    pub(super) fn enter(&mut self, body: &str) {
        self.part = body.chars().take(400).collect();
    }

    pub(super) fn report(&mut self, id: &'static str, severity: Severity, title: &'static str) {
        let found = Found { id, severity, title, expression: self.part.clone() };
        if self.found.len() < FOUND_MAX && !self.found.contains(&found) {
            self.found.push(found);
        }
    }

    /// Whether that much more may be copied.
    pub(super) fn may_copy(&mut self, value: &Folded) -> bool {
        self.copied_bytes = self.copied_bytes.saturating_add(value.bytes());
        self.copied_bytes <= COPIED_BYTES_MAX
    }

    pub(super) fn assign(&mut self, target: String, value: Folded) {
        let value = if value.depth() > VALUE_DEPTH_MAX { Unknown } else { value };
        // An attribute of a namespace.
        if let Some((outer, name)) = target.split_once('.')
            && let Some(Map(entries)) = self.variables.get_mut(outer)
        {
            match entries.iter_mut().position(|(key, _)| key == name) {
                Some(at) => entries[at].1 = value,
                None if entries.len() < VARIABLES_MAX => entries.push((name.to_owned(), value)),
                None => {}
            }
            return;
        }
        if self.variables.len() < VARIABLES_MAX || self.variables.contains_key(&target) {
            self.variables.insert(target, value);
        }
    }

    /// Names that are in two pieces somewhere, however they come together.
    pub(super) fn put_together(&mut self) {
        let whole = name::WALKED.iter().find(|whole| {
            (3..whole.len() - 2).any(|at| self.halves.contains(&whole[..at]) && self.halves.contains(&whole[at..]))
        });
        if let Some(whole) = whole {
            self.enter(whole);
            self.report("SNS-501", Severity::High, "the template has the two halves of an internal attribute's name");
        }
    }

    /// A template that loads another one by its name.
    pub(super) fn loads(&mut self, from: &Folded) {
        match from {
            Text(path) if text::leaves(path).is_some() => {
                self.report("SNS-501", Severity::High, "the template loads a file outside its folder");
            }
            Text(_) => {}
            _ => self.report("SNS-501", Severity::Medium, "the template loads another one by a computed name"),
        }
    }

    /// Tokens that are no expression: what stands behind a dot, and every text, is looked at all the same.
    pub(super) fn loose(&mut self, tokens: &[Token]) {
        for pair in tokens.windows(2) {
            if let [Token::Operator("." | "|"), Token::Name(name)] = pair {
                self.attribute(name);
            }
        }
        let mut joined = String::new();
        for token in tokens {
            if let Token::Text(text) = token {
                self.text(text);
                if joined.len() < FOLDED_BYTES_MAX {
                    joined.push_str(text);
                }
            }
        }
        if name::is_internal(&joined) {
            self.walk();
        }
    }

    fn walk(&mut self) {
        self.report("SNS-501", Severity::Critical, "the template reaches for an internal attribute of Python objects");
    }

    pub(super) fn attribute(&mut self, name: &str) {
        if name::is_internal(name) {
            self.walk();
        }
    }

    /// A constant text, wherever it stands.
    fn text(&mut self, text: &str) {
        if name::is_half(text) && self.halves.len() < VARIABLES_MAX {
            self.halves.insert(text.to_owned());
        }
        if name::names_internal(text) {
            self.walk();
        } else if text::active(text).is_some_and(|what| !what.starts_with('<') && what != "import") {
            self.report("SNS-501", Severity::High, "a text in the template is code");
        } else {
            self.words(text);
        }
    }

    pub(super) fn words(&mut self, text: &str) {
        if name::overrides_instructions(text) {
            if self.part.is_empty() {
                self.enter(text);
            }
            self.report("SNS-502", Severity::Medium, "the template tells the model to ignore its instructions");
        }
    }

    pub fn fold(&mut self, expression: &Expression) -> Folded {
        match expression {
            Expression::Text(text) => {
                self.text(text);
                Text(text.clone())
            }
            Expression::Number(number) => number.parse().map_or(Unknown, Number),
            Expression::Name(name) => {
                self.attribute(name);
                let Some(value) = self.variables.get(name) else { return Unknown };
                self.copied_bytes = self.copied_bytes.saturating_add(value.bytes());
                if self.copied_bytes > COPIED_BYTES_MAX { Unknown } else { value.clone() }
            }
            Expression::List(items) => List(items.iter().map(|item| self.fold(item)).collect()),
            Expression::Dict(entries) => {
                let mut folded = Vec::new();
                for (key, value) in entries {
                    let (key, value) = (self.fold(key), self.fold(value));
                    if let Text(key) = key {
                        folded.push((key, value));
                    }
                }
                Map(folded)
            }
            Expression::Unary(operator, inner) => match (operator, self.fold(inner)) {
                (&"-", Number(number)) => Number(number.wrapping_neg()),
                _ => Unknown,
            },
            Expression::Choice { condition, then, otherwise } => {
                self.fold(condition);
                let then = self.fold(then);
                match otherwise.as_ref().map(|otherwise| self.fold(otherwise)) {
                    Some(otherwise) if then == Unknown => otherwise,
                    _ => then,
                }
            }
            Expression::Operators(first, more) => {
                let mut left = self.fold(first);
                // Of a mapping, `in` asks for a key.
                let outer = self.keyed;
                let mut before: &Expression = first;
                for (operator, right) in more {
                    self.keyed |= *operator == "and" && is_mapping(before);
                    before = right;
                    let right = self.fold(right);
                    left = self.operator(left, operator, right);
                }
                self.keyed = outer;
                left
            }
            Expression::Chain(base, steps) => self.chain(base, steps),
            Expression::Nothing => Unknown,
        }
    }

    fn operator(&mut self, left: Folded, operator: &str, right: Folded) -> Folded {
        match (operator, left, right) {
            ("~" | "+", Text(left), Text(right)) => self.built(left + &right),
            ("~", Text(text), Number(number)) => self.built(format!("{text}{number}")),
            ("~", Number(number), Text(text)) => self.built(format!("{number}{text}")),
            ("~" | "+", Content, _) | ("~" | "+", _, Content) => Content,
            ("~" | "+", Unknown, Text(text)) if name::is_word(&text) => Text(format!("{}{text}", name::HIDDEN)),
            ("~" | "+", Text(text), Unknown) if name::is_word(&text) => Text(format!("{text}{}", name::HIDDEN)),
            ("+", List(mut left), List(right)) if left.len() + right.len() < 1000 => {
                left.extend(right);
                List(left)
            }
            ("*", Text(text), Number(times)) | ("*", Number(times), Text(text)) => {
                if times > REPEATS_MAX {
                    self.repeats();
                }
                let times = usize::try_from(times).unwrap_or(0).min(FOLDED_BYTES_MAX / text.len().max(1));
                self.built(text.repeat(times))
            }
            ("%", Text(text), value) => self.format(&text, &[value], &[]),
            ("**", Number(base), Number(power)) => {
                let value = u32::try_from(power).ok().and_then(|power| base.checked_pow(power)).unwrap_or(i64::MAX);
                Number(value)
            }
            ("*", Number(left), Number(right)) => Number(left.saturating_mul(right)),
            ("in" | "not in", List(words), Content) => {
                words.iter().for_each(|word| self.condition(word));
                Unknown
            }
            ("in" | "not in", word, Content) => {
                self.condition(&word);
                Unknown
            }
            ("==" | "!=", Content, word @ Text(_)) | ("==" | "!=", word @ Text(_), Content) => {
                self.condition(&word);
                Unknown
            }
            _ => Unknown,
        }
    }

    /// What the conversation says is compared with words.
    pub(super) fn condition(&mut self, word: &Folded) {
        if let Text(word) = word
            && !(self.keyed && name::is_word(word))
            && name::is_plain_phrase(word)
        {
            self.report("SNS-502", Severity::Medium, "the template changes with a word that the user says");
        }
    }

    pub(super) fn repeats(&mut self) {
        self.report("SNS-501", Severity::Medium, "the template repeats something more often than any reader bears");
    }

    /// A text that was put together: as suspicious as if it had been written.
    pub(super) fn built(&mut self, mut text: String) -> Folded {
        if name::names_internal(&text) || name::is_internal(&text) && !name::is_dunder(&text) {
            self.walk();
        }
        let mut cut = text.len().min(FOLDED_BYTES_MAX);
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        text.truncate(cut);
        Text(text)
    }

    fn chain(&mut self, base: &Expression, steps: &[Step]) -> Folded {
        let mut value = self.fold(base);
        let mut path = match base {
            Expression::Name(name) => {
                if name::ANCHORS.contains(&name.as_str()) && !matches!(steps, [Step::Call(_)]) {
                    self.report("SNS-501", Severity::Medium, "the template uses a global that attacks start from");
                }
                name.clone()
            }
            _ => String::new(),
        };
        for (index, step) in steps.iter().enumerate() {
            let called = match steps.get(index + 1) {
                Some(Step::Call(arguments)) => Some(arguments.as_slice()),
                _ => None,
            };
            value = match step {
                Step::Attribute(name) => {
                    self.attribute(name);
                    if called.is_some() && name::is_action(name) {
                        self.report("SNS-501", Severity::High, "the template calls something that acts");
                    }
                    path = format!("{path}.{name}");
                    path.truncate(256);
                    match called {
                        Some(arguments) => self.method(value, name, arguments),
                        None => self.reach(value, name, &path),
                    }
                }
                Step::Item(item) => match self.fold(item) {
                    Text(name) => {
                        if name::is_masked(&name) {
                            self.walk();
                        }
                        self.attribute(&name);
                        if called.is_some() && name::is_action(&name) {
                            self.report("SNS-501", Severity::High, "the template calls something that acts");
                        }
                        self.reach(value, &name, "")
                    }
                    Number(index) => item_of(value, index),
                    _ if value == Content => Content,
                    _ => Unknown,
                },
                Step::Slice(parts) => {
                    let parts: Vec<Folded> = parts.iter().map(|part| self.fold(part)).collect();
                    self.slice(value, &parts)
                }
                // A method's result was folded with its name.
                Step::Call(_) if index > 0 && matches!(steps[index - 1], Step::Attribute(_)) => value,
                Step::Call(arguments) => self.call(base, index == 0, arguments),
                Step::Filter(name, arguments) => self.filter(value, name, arguments),
                Step::Test(_, arguments) => {
                    self.arguments(arguments);
                    Unknown
                }
            };
        }
        value
    }

    fn reach(&self, value: Folded, name: &str, path: &str) -> Folded {
        if let Map(entries) = &value {
            return entries.iter().find(|(key, _)| key == name).map_or(Unknown, |(_, value)| value.clone());
        }
        match name {
            "content" => Content,
            // A part of what a message says is no text, but an object.
            _ if value == Content => Unknown,
            _ => self.variables.get(path).cloned().unwrap_or(Unknown),
        }
    }

    pub(super) fn arguments(&mut self, arguments: &[Argument]) -> Vec<Folded> {
        arguments
            .iter()
            .map(|argument| {
                if let Some(name) = &argument.name {
                    self.attribute(name);
                }
                self.fold(&argument.value)
            })
            .collect()
    }

    fn call(&mut self, base: &Expression, direct: bool, arguments: &[Argument]) -> Folded {
        let values = self.arguments(arguments);
        if let (Expression::Name(name), true) = (base, direct) {
            if name == "range" && values.iter().any(|value| matches!(value, Number(number) if *number > REPEATS_MAX)) {
                self.repeats();
            }
            if matches!(name.as_str(), "dict" | "namespace") {
                let mut entries = match values.first() {
                    Some(Map(entries)) => entries.clone(),
                    _ => Vec::new(),
                };
                let named = arguments.iter().zip(values).filter_map(|(argument, value)| {
                    let name = argument.name.clone()?;
                    Some((name, value))
                });
                entries.extend(named);
                return Map(entries);
            }
            return self.call_macro(name, arguments, &values);
        }
        Unknown
    }
}

/// `x is mapping`.
fn is_mapping(expression: &Expression) -> bool {
    matches!(expression, Expression::Chain(_, steps) if matches!(steps.last(), Some(Step::Test(name, _)) if name == "mapping"))
}

#[cfg(test)]
mod tests;
