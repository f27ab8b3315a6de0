//! Walks a template's expressions, folds what is constant, and says what no chat template needs.

use std::collections::BTreeMap;

use super::Found;
use super::build::item_of;
use super::expression::{Argument, Expression, Parser, Step};
use super::name;
use super::token::{Part, Token, parts, tokens};
use crate::finding::Severity;
use crate::format::text;

/// Bytes of a folded text.
pub const FOLDED_BYTES_MAX: usize = 16 << 10;
/// Findings of one template.
const FOUND_MAX: usize = 20;
/// A number that no range and no repetition of a template needs.
const REPEATS_MAX: i64 = 10_000_000;
/// Variables that are remembered.
const VARIABLES_MAX: usize = 10_000;

/// What an expression is, as far as it can be told.
#[derive(Debug, Clone, PartialEq)]
pub enum Folded {
    Text(String),
    Number(i64),
    List(Vec<Folded>),
    /// What a message says.
    Content,
    Unknown,
}

use Folded::{Content, List, Number, Text, Unknown};

#[derive(Default)]
pub struct Judge {
    pub found: Vec<Found>,
    variables: BTreeMap<String, Folded>,
    /// The part that is looked at.
    part: String,
}

impl Judge {
    pub fn template(&mut self, template: &str) {
        for part in parts(template) {
            match part {
                Part::Data(data) => self.words(data),
                Part::Print(body) => {
                    self.enter(body);
                    let tokens = tokens(body);
                    let mut parser = Parser::new(&tokens);
                    match parser.tuple(true) {
                        Ok(expression) if parser.is_done() => {
                            self.fold(&expression);
                        }
                        _ => self.loose(&tokens),
                    }
                }
                Part::Statement(body) => {
                    self.enter(body);
                    let tokens = tokens(body);
                    if self.statement(&tokens).is_none() {
                        self.loose(&tokens);
                    }
                }
            }
        }
    }

    fn enter(&mut self, body: &str) {
        self.part = body.chars().take(400).collect();
    }

    fn report(&mut self, id: &'static str, severity: Severity, title: &'static str) {
        let found = Found { id, severity, title, expression: self.part.clone() };
        if self.found.len() < FOUND_MAX && !self.found.contains(&found) {
            self.found.push(found);
        }
    }

    /// One statement; `None` where it is none that is known, or malformed.
    fn statement(&mut self, tokens: &[Token]) -> Option<()> {
        let mut parser = Parser::new(tokens);
        let keyword = parser.name()?;
        match keyword.as_str() {
            "set" => {
                let mut target = parser.name()?;
                while parser.takes(".") {
                    target = format!("{target}.{}", parser.name()?);
                }
                let mut single = true;
                while parser.takes(",") {
                    parser.name()?;
                    single = false;
                }
                if parser.takes("=") {
                    let value = parser.tuple(true).ok()?;
                    let value = self.fold(&value);
                    self.assign(target, if single { value } else { Unknown });
                }
            }
            "for" => {
                let mut targets = vec![parser.name()?];
                while parser.takes(",") {
                    targets.extend(parser.name());
                }
                if !parser.takes_name("in") {
                    return None;
                }
                let over = parser.tuple(false).ok()?;
                let over = self.fold(&over);
                for target in targets {
                    let item = match &over {
                        List(items) => items.first().cloned().unwrap_or(Unknown),
                        _ => Unknown,
                    };
                    self.assign(target, item);
                }
                if parser.takes_name("if") {
                    let condition = parser.tuple(true).ok()?;
                    self.fold(&condition);
                }
                parser.takes_name("recursive");
            }
            "include" | "import" | "extends" | "from" => {
                let from = parser.expression().ok()?;
                let from = self.fold(&from);
                self.loads(&from);
                return Some(());
            }
            "macro" | "call" | "if" | "elif" | "print" | "filter" | "do" => {
                let expression = parser.tuple(true).ok()?;
                self.fold(&expression);
            }
            "with" => {
                while let Some(target) = parser.name() {
                    if !parser.takes("=") {
                        return None;
                    }
                    let value = parser.expression().ok()?;
                    let value = self.fold(&value);
                    self.assign(target, value);
                    parser.takes(",");
                }
            }
            _ => return None,
        }
        parser.is_done().then_some(())
    }

    fn assign(&mut self, target: String, value: Folded) {
        if self.variables.len() < VARIABLES_MAX || self.variables.contains_key(&target) {
            self.variables.insert(target, value);
        }
    }

    /// A template that loads another one by its name.
    fn loads(&mut self, from: &Folded) {
        match from {
            Text(path) if text::leaves(path).is_some() => {
                self.report("SNS-501", Severity::High, "the template loads a file outside its folder");
            }
            Text(_) => {}
            _ => self.report("SNS-501", Severity::Medium, "the template loads another one by a computed name"),
        }
    }

    /// Tokens that are no expression: what stands behind a dot, and every text, is looked at all the same.
    fn loose(&mut self, tokens: &[Token]) {
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

    fn attribute(&mut self, name: &str) {
        if name::is_internal(name) {
            self.walk();
        }
    }

    /// A constant text, wherever it stands.
    fn text(&mut self, text: &str) {
        if name::names_internal(text) {
            self.walk();
        } else if text::active(text).is_some_and(|what| !what.starts_with('<') && what != "import") {
            self.report("SNS-501", Severity::High, "a text in the template is code");
        } else {
            self.words(text);
        }
    }

    fn words(&mut self, text: &str) {
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
                self.variables.get(name).cloned().unwrap_or(Unknown)
            }
            Expression::List(items) => List(items.iter().map(|item| self.fold(item)).collect()),
            Expression::Dict(entries) => {
                for (key, value) in entries {
                    self.fold(key);
                    self.fold(value);
                }
                Unknown
            }
            Expression::Unary(operator, inner) => match (operator, self.fold(inner)) {
                (&"-", Number(number)) => Number(number.wrapping_neg()),
                _ => Unknown,
            },
            Expression::Choice { condition, then, otherwise } => {
                self.fold(condition);
                let then = self.fold(then);
                otherwise.as_ref().map(|otherwise| self.fold(otherwise));
                then
            }
            Expression::Operators(first, more) => {
                let mut left = self.fold(first);
                for (operator, right) in more {
                    let right = self.fold(right);
                    left = self.operator(left, operator, right);
                }
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
            ("%", Text(text), value) => self.format(&text, &[value]),
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
    fn condition(&mut self, word: &Folded) {
        if let Text(word) = word
            && name::is_plain_phrase(word)
        {
            self.report("SNS-502", Severity::Medium, "the template changes with a word that the user says");
        }
    }

    fn repeats(&mut self) {
        self.report("SNS-501", Severity::Medium, "the template repeats something more often than any reader bears");
    }

    /// A text that was put together: as suspicious as if it had been written.
    pub(super) fn built(&mut self, mut text: String) -> Folded {
        if name::is_internal(&text) || name::names_internal(&text) {
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
        match name {
            "content" => Content,
            // A part of what a message says is no text, but an object.
            _ if value == Content => Unknown,
            _ => self.variables.get(path).cloned().unwrap_or(Unknown),
        }
    }

    fn arguments(&mut self, arguments: &[Argument]) -> Vec<Folded> {
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
            if name == "dict" {
                let keys = arguments.iter().filter_map(|argument| argument.name.clone()).map(Text);
                return List(keys.collect());
            }
        }
        Unknown
    }

    fn method(&mut self, value: Folded, name: &str, arguments: &[Argument]) -> Folded {
        let values = self.arguments(arguments);
        match (name, value, values.as_slice()) {
            ("join", Text(separator), [List(items)]) => self.join(items, &separator),
            ("format", Text(text), values) => self.format(&text, values),
            ("replace", Text(text), [Text(from), Text(to), ..]) if !from.is_empty() => {
                self.built(text.chars().take(FOLDED_BYTES_MAX / 16).collect::<String>().replace(from, to))
            }
            ("lower", Text(text), _) => self.built(text.to_lowercase()),
            ("upper", Text(text), _) => self.built(text.to_uppercase()),
            ("strip" | "lstrip" | "rstrip", Text(text), []) => self.built(text.trim().to_owned()),
            ("startswith" | "endswith" | "find" | "count" | "index", Content, [word, ..]) => {
                self.condition(&word.clone());
                Unknown
            }
            ("lower" | "upper" | "strip" | "lstrip" | "rstrip" | "replace" | "title" | "split", Content, _) => Content,
            _ => Unknown,
        }
    }

    fn filter(&mut self, value: Folded, name: &str, arguments: &[Argument]) -> Folded {
        let values = self.arguments(arguments);
        match (name, value, values.as_slice()) {
            ("attr", _, [Text(attribute), ..]) => {
                self.attribute(&attribute.clone());
                Unknown
            }
            ("attr", ..) => {
                self.report("SNS-501", Severity::High, "the template reads an attribute by a computed name");
                Unknown
            }
            ("join", List(items), values) => {
                let separator = match values {
                    [Text(separator), ..] => separator.clone(),
                    _ => String::new(),
                };
                self.join(&items, &separator)
            }
            ("reverse", Text(text), _) => self.built(text.chars().rev().collect()),
            ("reverse", List(mut items), _) => {
                items.reverse();
                List(items)
            }
            ("lower", Text(text), _) => self.built(text.to_lowercase()),
            ("upper", Text(text), _) => self.built(text.to_uppercase()),
            ("replace", Text(text), [Text(from), Text(to), ..]) if !from.is_empty() => {
                self.built(text.chars().take(FOLDED_BYTES_MAX / 16).collect::<String>().replace(from, to))
            }
            ("format", Text(text), values) => self.format(&text, values),
            ("trim" | "string" | "safe" | "e" | "escape" | "forceescape", Text(text), _) => {
                self.built(text.trim().to_owned())
            }
            ("list", Text(text), _) => List(text.chars().take(1000).map(|char| Text(char.to_string())).collect()),
            ("list", list @ List(_), _) => list,
            ("first", List(items), _) => items.into_iter().next().unwrap_or(Unknown),
            ("last", List(items), _) => items.into_iter().next_back().unwrap_or(Unknown),
            ("first", Text(text), _) => text.chars().next().map_or(Unknown, |char| Text(char.to_string())),
            ("last", Text(text), _) => text.chars().next_back().map_or(Unknown, |char| Text(char.to_string())),
            ("urlize" | "length" | "count" | "tojson" | "select" | "map", ..) => Unknown,
            (_, Content, _) => Content,
            _ => Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
