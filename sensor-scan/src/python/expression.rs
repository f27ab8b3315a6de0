//! From tokens to expressions, going on behind what is not understood.

use super::token::{self, Kind, Part, Token};
use super::tree::{Arena, Argument, Comprehension, Id, Node};

/// Brackets and operators in each other. CPython refuses more than 200 brackets; nobody writes a third of that.
const DEPTH_MAX: u32 = 90;
/// Formatted strings in fields of formatted strings.
const FIELD_DEPTH_MAX: u32 = 4;

/// Reads expressions from tokens.
pub struct Parser<'a> {
    pub tokens: &'a [Token],
    pub at: usize,
    pub arena: &'a mut Arena,
    depth: u32,
    fields: u32,
    /// Something was nested deeper than is read.
    pub too_deep: bool,
}

impl<'a> Parser<'a> {
    pub fn new(tokens: &'a [Token], arena: &'a mut Arena) -> Self {
        Self { tokens, at: 0, arena, depth: 0, fields: 0, too_deep: false }
    }

    pub fn peek(&self) -> &Kind {
        self.tokens.get(self.at).map_or(&Kind::End, |token| &token.kind)
    }

    pub fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |token| token.line)
    }

    pub fn is(&self, operator: &str) -> bool {
        matches!(self.peek(), Kind::Operator(found) if *found == operator)
    }

    pub fn word(&self) -> Option<&str> {
        match self.peek() {
            Kind::Name(name) => Some(name),
            _ => None,
        }
    }

    pub fn takes(&mut self, operator: &str) -> bool {
        let there = self.is(operator);
        self.at += usize::from(there);
        there
    }

    pub fn takes_word(&mut self, word: &str) -> bool {
        let there = self.word() == Some(word);
        self.at += usize::from(there);
        there
    }

    /// Expressions between commas; one alone is itself.
    pub fn list(&mut self) -> Option<Id> {
        let first = self.starred()?;
        if !self.is(",") {
            return Some(first);
        }
        let mut items = vec![first];
        while self.takes(",") {
            match self.starred() {
                Some(item) => items.push(item),
                None => break,
            }
        }
        Some(self.arena.add(Node::List(items)))
    }

    fn starred(&mut self) -> Option<Id> {
        if self.takes("*") || self.takes("**") {
            let inner = self.expression()?;
            return Some(self.arena.add(Node::Other(inner)));
        }
        self.expression()
    }

    /// One expression, without commas. `None`, at the same place, where none starts.
    pub fn expression(&mut self) -> Option<Id> {
        if self.depth >= DEPTH_MAX {
            self.too_deep = true;
            return None;
        }
        self.depth += 1;
        let found = self.choice();
        self.depth -= 1;
        found
    }

    fn choice(&mut self) -> Option<Id> {
        match self.word() {
            Some("lambda") => return self.lambda(),
            Some("yield") => {
                self.at += 1;
                self.takes_word("from");
                let inner = self.list().unwrap_or_else(|| self.arena.add(Node::Nothing));
                return Some(self.arena.add(Node::Other(inner)));
            }
            _ => {}
        }
        let then = self.binary(0)?;
        if self.is(":=") {
            self.at += 1;
            let value = self.expression()?;
            return Some(self.arena.add(Node::Named(then, value)));
        }
        if self.word() != Some("if") {
            return Some(then);
        }
        let before = self.at;
        self.at += 1;
        let Some(condition) = self.binary(0) else {
            self.at = before;
            return Some(then);
        };
        if self.takes_word("else") {
            let otherwise = self.expression()?;
            return Some(self.arena.add(Node::Choice(then, condition, otherwise)));
        }
        // The condition of a comprehension.
        self.at = before;
        Some(then)
    }

    fn lambda(&mut self) -> Option<Id> {
        self.at += 1;
        let mut defaults = Vec::new();
        while !self.is(":") && !matches!(self.peek(), Kind::Newline | Kind::End) {
            self.at += 1;
            if self.takes("=") {
                defaults.extend(self.expression());
            }
        }
        self.takes(":");
        let body = self.expression()?;
        Some(self.arena.add(Node::Lambda(defaults, body)))
    }

    /// Operators of at least this precedence.
    fn binary(&mut self, least: u8) -> Option<Id> {
        let mut left = self.unary()?;
        loop {
            let before = self.at;
            let Some((operator, precedence)) = self.operator() else { return Some(left) };
            if precedence < least {
                self.at = before;
                return Some(left);
            }
            // Powers bind to the right.
            let next = if operator == "**" { precedence } else { precedence + 1 };
            if self.depth >= DEPTH_MAX {
                self.too_deep = true;
                return Some(left);
            }
            self.depth += 1;
            let right = self.binary(next);
            self.depth -= 1;
            let Some(right) = right else {
                self.at = before;
                return Some(left);
            };
            left = self.arena.add(Node::Binary(operator, left, right));
        }
    }

    /// Takes a binary operator.
    fn operator(&mut self) -> Option<(&'static str, u8)> {
        let found = match self.peek() {
            Kind::Name(name) => match name.as_str() {
                "or" => ("or", 1),
                "and" => ("and", 2),
                "in" => ("in", 4),
                "is" => {
                    self.at += 1;
                    self.takes_word("not");
                    return Some(("is", 4));
                }
                "not" if matches!(self.tokens.get(self.at + 1), Some(Token { kind: Kind::Name(name), .. }) if name == "in") =>
                {
                    self.at += 2;
                    return Some(("not in", 4));
                }
                _ => return None,
            },
            Kind::Operator(operator) => match *operator {
                "==" | "!=" | "<" | ">" | "<=" | ">=" => (*operator, 4),
                "|" => ("|", 5),
                "^" => ("^", 6),
                "&" => ("&", 7),
                "<<" | ">>" => (*operator, 8),
                "+" | "-" => (*operator, 9),
                "*" | "/" | "//" | "%" | "@" => (*operator, 10),
                "**" => ("**", 12),
                _ => return None,
            },
            _ => return None,
        };
        self.at += 1;
        Some(found)
    }

    fn unary(&mut self) -> Option<Id> {
        let (operator, precedence) = match self.peek() {
            Kind::Name(name) if name == "not" => ("not", 3),
            Kind::Name(name) if name == "await" => ("await", 12),
            Kind::Operator("-") => ("-", 11),
            Kind::Operator("+") => ("+", 11),
            Kind::Operator("~") => ("~", 11),
            _ => return self.primary(),
        };
        if self.depth >= DEPTH_MAX {
            self.too_deep = true;
            return None;
        }
        self.at += 1;
        self.depth += 1;
        let inner = self.binary(precedence);
        self.depth -= 1;
        inner.map(|inner| self.arena.add(Node::Unary(operator, inner)))
    }

    fn primary(&mut self) -> Option<Id> {
        let mut found = self.atom()?;
        loop {
            let before = self.at;
            if self.takes(".") {
                let Kind::Name(name) = self.peek() else {
                    self.at = before;
                    return Some(found);
                };
                let name = name.clone();
                self.at += 1;
                found = self.arena.add(Node::Attribute(found, name.into()));
            } else if self.takes("(") {
                let arguments = self.arguments();
                found = self.arena.add(Node::Call(found, arguments));
            } else if self.takes("[") {
                let index = self.index();
                self.close("]");
                found = self.arena.add(Node::Index(found, index));
            } else {
                return Some(found);
            }
        }
    }

    fn atom(&mut self) -> Option<Id> {
        let node = match self.peek().clone() {
            Kind::Name(name) => {
                if KEYWORDS.contains(&name.as_str()) {
                    return None;
                }
                Node::Name(name.into())
            }
            Kind::Number(number) => Node::Number(number.into()),
            Kind::Text(_) | Kind::Bytes(_) | Kind::Formatted(_) => return Some(self.strings()),
            Kind::Operator("...") => Node::Nothing,
            Kind::Operator("(") => return Some(self.bracketed(")")),
            Kind::Operator("[") => return Some(self.bracketed("]")),
            Kind::Operator("{") => return Some(self.braced()),
            _ => return None,
        };
        self.at += 1;
        Some(self.arena.add(node))
    }

    /// Strings one behind the other are one.
    fn strings(&mut self) -> Id {
        let mut pieces = Vec::new();
        loop {
            match self.peek().clone() {
                Kind::Text(text) => pieces.push(self.arena.add(Node::Text(text.into()))),
                Kind::Bytes(bytes) => pieces.push(self.arena.add(Node::Bytes(bytes.into()))),
                Kind::Formatted(parts) => {
                    for part in parts {
                        let piece = match part {
                            Part::Text(text) => self.arena.add(Node::Text(text.into())),
                            Part::Field(field) => self.field(&field),
                        };
                        pieces.push(piece);
                    }
                }
                _ => break,
            }
            self.at += 1;
        }
        match pieces[..] {
            [only] => only,
            _ => self.arena.add(Node::Joined(pieces)),
        }
    }

    fn field(&mut self, source: &str) -> Id {
        if self.fields >= FIELD_DEPTH_MAX {
            self.too_deep = true;
            return self.arena.add(Node::Nothing);
        }
        let (tokens, _) = token::tokens(&format!("({})", source.replace(['\n', '\r'], " ")), source.len() + 8);
        let mut inner = Parser {
            tokens: &tokens,
            at: 1,
            arena: self.arena,
            depth: self.depth,
            fields: self.fields + 1,
            too_deep: false,
        };
        let found = inner.list();
        self.too_deep |= inner.too_deep;
        found.unwrap_or_else(|| self.arena.add(Node::Nothing))
    }

    fn close(&mut self, bracket: &str) {
        // What can't be understood is left out, up to the bracket that ends it.
        let mut depth = 0_u32;
        loop {
            match self.peek() {
                Kind::Operator(found) if *found == bracket && depth == 0 => {
                    self.at += 1;
                    return;
                }
                Kind::Operator("(" | "[" | "{") => depth += 1,
                Kind::Operator(")" | "]" | "}") if depth == 0 => return,
                Kind::Operator(")" | "]" | "}") => depth -= 1,
                Kind::Newline | Kind::End => return,
                _ => {}
            }
            self.at += 1;
        }
    }

    fn bracketed(&mut self, end: &str) -> Id {
        self.at += 1;
        let mut items = Vec::new();
        let mut comma = end == "]";
        while !self.is(end) {
            let Some(item) = self.starred() else { break };
            items.push(item);
            if self.is_loop() {
                let made = self.comprehension(items);
                self.close(end);
                return made;
            }
            if !self.takes(",") {
                break;
            }
            comma = true;
        }
        self.close(end);
        match items[..] {
            [only] if !comma => only,
            _ => self.arena.add(Node::List(items)),
        }
    }

    fn braced(&mut self) -> Id {
        self.at += 1;
        let (mut entries, mut items) = (Vec::new(), Vec::new());
        while !self.is("}") {
            if self.takes("**") {
                let Some(value) = self.expression() else { break };
                entries.push((None, value));
            } else {
                let Some(key) = self.starred() else { break };
                if self.takes(":") {
                    let Some(value) = self.expression() else { break };
                    entries.push((Some(key), value));
                } else {
                    items.push(key);
                }
            }
            if self.is_loop() {
                let what = entries.iter().flat_map(|(key, value)| key.iter().chain([value])).copied().chain(items);
                let made = self.comprehension(what.collect());
                self.close("}");
                return made;
            }
            if !self.takes(",") {
                break;
            }
        }
        self.close("}");
        self.arena.add(if items.is_empty() { Node::Dict(entries) } else { Node::List(items) })
    }

    fn is_loop(&self) -> bool {
        matches!(self.word(), Some("for" | "async"))
    }

    fn comprehension(&mut self, what: Vec<Id>) -> Id {
        let (mut loops, mut conditions) = (Vec::new(), Vec::new());
        loop {
            self.takes_word("async");
            if self.takes_word("for") {
                let target = self.targets();
                self.takes_word("in");
                let Some(iterable) = self.binary_or_lambda() else { break };
                loops.push((target, iterable));
            } else if self.takes_word("if") {
                let Some(condition) = self.binary_or_lambda() else { break };
                conditions.push(condition);
            } else {
                break;
            }
        }
        self.arena.add(Node::Comprehension(Box::new(Comprehension { what, loops, conditions })))
    }

    fn binary_or_lambda(&mut self) -> Option<Id> {
        if self.word() == Some("lambda") { self.expression() } else { self.binary(1) }
    }

    /// What stands between `for` and `in`.
    pub fn targets(&mut self) -> Id {
        let mut items = Vec::new();
        while let Some(item) = {
            self.takes("*");
            self.binary(5)
        } {
            items.push(item);
            if !self.takes(",") {
                break;
            }
        }
        match items[..] {
            [only] => only,
            _ => self.arena.add(Node::List(items)),
        }
    }

    /// What stands behind `as`.
    pub fn target(&mut self) -> Id {
        self.binary(5).unwrap_or_else(|| self.arena.add(Node::Nothing))
    }

    /// Behind an opening parenthesis.
    pub fn arguments(&mut self) -> Vec<Argument> {
        let mut arguments = Vec::new();
        while !self.is(")") {
            let spread = self.takes("*") || self.takes("**");
            let name = match (self.peek(), self.tokens.get(self.at + 1)) {
                (Kind::Name(name), Some(Token { kind: Kind::Operator("="), .. })) => Some(name.clone()),
                _ => None,
            };
            if name.is_some() {
                self.at += 2;
            }
            let Some(mut value) = self.expression() else { break };
            if self.is_loop() {
                value = self.comprehension(vec![value]);
            }
            arguments.push(Argument { name, spread, value });
            if !self.takes(",") {
                break;
            }
        }
        self.close(")");
        arguments
    }

    fn index(&mut self) -> Id {
        let mut items = Vec::new();
        while !self.is("]") {
            let first = if self.is(":") { None } else { self.starred() };
            if self.takes(":") {
                let second = if self.is(":") || self.is("]") || self.is(",") { None } else { self.expression() };
                let third = if self.takes(":") && !self.is("]") && !self.is(",") { self.expression() } else { None };
                items.push(self.arena.add(Node::Slice(Box::new([first, second, third]))));
            } else if let Some(first) = first {
                items.push(first);
            } else {
                break;
            }
            if !self.takes(",") {
                break;
            }
        }
        match items[..] {
            [only] => only,
            _ => self.arena.add(Node::List(items)),
        }
    }
}

/// Words that are no names.
const KEYWORDS: &[&str] = &[
    "and", "as", "assert", "async", "break", "class", "continue", "def", "del", "elif", "else", "except", "finally",
    "for", "from", "global", "if", "import", "in", "is", "nonlocal", "or", "pass", "raise", "return", "try", "while",
    "with",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in brackets.
    fn tree(source: &str) -> String {
        let (tokens, _) = token::tokens(source, 100_000);
        let mut arena = Arena::default();
        let mut parser = Parser::new(&tokens, &mut arena);
        let found = parser.list();
        found.map_or("-".to_owned(), |id| show(&arena, id))
    }

    fn show(arena: &Arena, id: Id) -> String {
        let list = |ids: &[Id]| ids.iter().map(|id| show(arena, *id)).collect::<Vec<_>>().join(" ");
        match arena.node(id) {
            Node::Name(name) => name.to_string(),
            Node::Text(text) => format!("'{text}'"),
            Node::Bytes(bytes) => format!("{bytes:?}"),
            Node::Number(number) => number.to_string(),
            Node::Joined(ids) => format!("(join {})", list(ids)),
            Node::Attribute(of, name) => format!("{}.{name}", show(arena, *of)),
            Node::Index(of, index) => format!("{}[{}]", show(arena, *of), show(arena, *index)),
            Node::Slice(bounds) => bounds.map(|bound| bound.map_or(String::new(), |id| show(arena, id))).join(":"),
            Node::Call(of, arguments) => {
                let arguments: Vec<Id> = arguments.iter().map(|argument| argument.value).collect();
                format!("{}({})", show(arena, *of), list(&arguments))
            }
            Node::Binary(operator, a, b) => format!("({} {operator} {})", show(arena, *a), show(arena, *b)),
            Node::Unary(operator, a) => format!("({operator} {})", show(arena, *a)),
            Node::List(ids) => format!("[{}]", list(ids)),
            Node::Dict(entries) => format!("{{{}}}", entries.len()),
            Node::Lambda(_, body) => format!("(lambda {})", show(arena, *body)),
            Node::Comprehension(comprehension) => {
                let Comprehension { what, loops, conditions } = &**comprehension;
                format!("(for {} {} {})", list(what), loops.len(), conditions.len())
            }
            Node::Choice(a, b, _) => format!("({} if {})", show(arena, *a), show(arena, *b)),
            Node::Named(a, b) => format!("({} := {})", show(arena, *a), show(arena, *b)),
            Node::Other(a) => format!("*{}", show(arena, *a)),
            Node::Nothing => "...".to_owned(),
        }
    }

    #[test]
    fn trees_of_python() {
        for (source, expected) in [
            ("a.b(c, *d, e=f)[1:-1]", "a.b(c d f)[1:(- 1):]"),
            ("a + b * c ** d ** e", "(a + (b * (c ** (d ** e))))"),
            ("not a in b and c", "((not (a in b)) and c)"),
            ("x if y else lambda z: z(1)", "(x if y)"),
            ("[f(x) for x in y if x]", "(for f(x) 1 1)"),
            ("{a: b, **c}, {d}, ()", "[{2} [d] []]"),
            ("f'{a.b(1)!r}c' 'd'", "(join a.b(1) 'c' 'd')"),
            ("(x := f(1))", "(x := f(1))"),
            ("a is not b", "(a is b)"),
            ("f(x for x in y)(z)", "f((for x 1 0))(z)"),
            ("await a.b()", "(await a.b())"),
        ] {
            assert_eq!(tree(source), expected, "{source}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        for piece in ["(", "[", "-", "not ", "{a:", "f(", "lambda:", "a**", "x if y else ", "a+", "a.b(c)[d]", "f'{"] {
            let (tokens, _) = token::tokens(&piece.repeat(50_000), 1_000_000);
            let mut arena = Arena::default();
            Parser::new(&tokens, &mut arena).list();
        }
    }
}
