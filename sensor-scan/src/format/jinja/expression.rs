//! Tokens → expressions, by the grammar of Jinja 3.

use super::token::Token;

/// Parentheses and the like in each other; Jinja itself gives up at Python's recursion limit, a little earlier.
const DEPTH_MAX: u32 = 96;

#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    Text(String),
    Number(String),
    Name(String),
    /// A list or a tuple.
    List(Vec<Expression>),
    Dict(Vec<(Expression, Expression)>),
    /// `base.a[b](c)|d is e`, from left to right.
    Chain(Box<Expression>, Vec<Step>),
    /// Operators of one precedence, from left to right.
    Operators(Box<Expression>, Vec<(&'static str, Expression)>),
    /// `not`, `-`, `+`.
    Unary(&'static str, Box<Expression>),
    Choice {
        condition: Box<Expression>,
        then: Box<Expression>,
        otherwise: Option<Box<Expression>>,
    },
    /// A part of a slice that is left out.
    Nothing,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Attribute(String),
    Item(Expression),
    Slice(Vec<Expression>),
    Call(Vec<Argument>),
    Filter(String, Vec<Argument>),
    /// `is name`; `is not name` has `not ` before it.
    Test(String, Vec<Argument>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    pub name: Option<String>,
    pub value: Expression,
}

/// The tokens are no expression of Jinja.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

type Parsed = Result<Expression, Malformed>;

/// Precedences from loose to tight.
const LEVELS: &[&[&str]] = &[
    &["or"],
    &["and"],
    &["==", "!=", "<", "<=", ">", ">=", "in", "not in"],
    &["+", "-"],
    &["~"],
    &["*", "/", "//", "%"],
    &["**"],
];
/// The level of comparisons, above which `not` stands.
const COMPARISONS: usize = 2;

pub struct Parser<'a> {
    tokens: &'a [Token],
    pub at: usize,
    depth: u32,
}

impl<'a> Parser<'a> {
    pub fn new(tokens: &'a [Token]) -> Self {
        Self { tokens, at: 0, depth: 0 }
    }

    pub fn is_done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    pub fn takes(&mut self, operator: &str) -> bool {
        let there = matches!(self.peek(), Some(Token::Operator(other)) if *other == operator);
        self.at += usize::from(there);
        there
    }

    pub fn takes_name(&mut self, name: &str) -> bool {
        let there = matches!(self.peek(), Some(Token::Name(other)) if other == name);
        self.at += usize::from(there);
        there
    }

    pub fn name(&mut self) -> Option<String> {
        let Some(Token::Name(name)) = self.peek() else { return None };
        self.at += 1;
        Some(name.clone())
    }

    fn needs(&mut self, operator: &str) -> Result<(), Malformed> {
        if self.takes(operator) { Ok(()) } else { Err(Malformed) }
    }

    /// Expressions separated by commas: one, or a tuple.
    pub fn tuple(&mut self, conditional: bool) -> Parsed {
        let first = if conditional { self.expression() } else { self.level(0) }?;
        if !matches!(self.peek(), Some(Token::Operator(","))) {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.takes(",") {
            match self.peek() {
                None | Some(Token::Operator(")" | "]" | "}" | "=")) => break,
                _ => items.push(if conditional { self.expression() } else { self.level(0) }?),
            }
        }
        Ok(Expression::List(items))
    }

    pub fn expression(&mut self) -> Parsed {
        if self.depth >= DEPTH_MAX {
            return Err(Malformed);
        }
        self.depth += 1;
        let parsed = self.choice();
        self.depth -= 1;
        parsed
    }

    fn choice(&mut self) -> Parsed {
        let then = self.level(0)?;
        if !self.takes_name("if") {
            return Ok(then);
        }
        let condition = self.level(0)?;
        let otherwise = if self.takes_name("else") { Some(Box::new(self.expression()?)) } else { None };
        Ok(Expression::Choice { condition: Box::new(condition), then: Box::new(then), otherwise })
    }

    fn operator(&mut self, level: &[&'static str]) -> Option<&'static str> {
        if level.contains(&"not in")
            && matches!(self.tokens.get(self.at..self.at + 2), Some([Token::Name(not), Token::Name(word)]) if not == "not" && word == "in")
        {
            self.at += 2;
            return Some("not in");
        }
        let found = match self.peek()? {
            Token::Name(name) => level.iter().find(|operator| *operator == name),
            Token::Operator(operator) => level.iter().find(|other| *other == operator),
            _ => None,
        };
        self.at += usize::from(found.is_some());
        found.copied()
    }

    fn level(&mut self, index: usize) -> Parsed {
        let Some(level) = LEVELS.get(index) else { return self.unary() };
        if index == COMPARISONS && self.takes_name("not") {
            if self.depth >= DEPTH_MAX {
                return Err(Malformed);
            }
            self.depth += 1;
            let inner = self.level(index);
            self.depth -= 1;
            return Ok(Expression::Unary("not", Box::new(inner?)));
        }
        let first = self.level(index + 1)?;
        let mut more = Vec::new();
        while let Some(operator) = self.operator(level) {
            more.push((operator, self.level(index + 1)?));
        }
        Ok(if more.is_empty() { first } else { Expression::Operators(Box::new(first), more) })
    }

    fn unary(&mut self) -> Parsed {
        let mut signs = 0_u32;
        while self.takes("-") || self.takes("+") {
            signs += 1;
        }
        let base = self.primary()?;
        let chain = self.chain(base)?;
        Ok(if signs > 0 { Expression::Unary("-", Box::new(chain)) } else { chain })
    }

    fn primary(&mut self) -> Parsed {
        let token = self.peek().ok_or(Malformed)?;
        self.at += 1;
        Ok(match token {
            Token::Name(name) => Expression::Name(name.clone()),
            Token::Number(number) => Expression::Number(number.clone()),
            Token::Text(text) => {
                let mut text = text.clone();
                // Neighbouring literals are one, as in Python.
                while let Some(Token::Text(more)) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                Expression::Text(text)
            }
            Token::Operator("(") => {
                if self.takes(")") {
                    return Ok(Expression::List(Vec::new()));
                }
                let inner = self.nested_tuple()?;
                self.needs(")")?;
                inner
            }
            Token::Operator("[") => {
                if self.takes("]") {
                    return Ok(Expression::List(Vec::new()));
                }
                let inner = self.nested_tuple()?;
                self.needs("]")?;
                match inner {
                    list @ Expression::List(_) => list,
                    one => Expression::List(vec![one]),
                }
            }
            Token::Operator("{") => {
                let mut entries = Vec::new();
                while !self.takes("}") {
                    let key = self.expression()?;
                    self.needs(":")?;
                    entries.push((key, self.expression()?));
                    if !self.takes(",") {
                        self.needs("}")?;
                        break;
                    }
                }
                Expression::Dict(entries)
            }
            Token::Operator(_) => return Err(Malformed),
        })
    }

    fn nested_tuple(&mut self) -> Parsed {
        if self.depth >= DEPTH_MAX {
            return Err(Malformed);
        }
        self.depth += 1;
        let parsed = self.tuple(true);
        self.depth -= 1;
        parsed
    }

    fn chain(&mut self, base: Expression) -> Parsed {
        let mut steps = Vec::new();
        loop {
            if self.takes(".") {
                match self.peek() {
                    Some(Token::Name(name)) => steps.push(Step::Attribute(name.clone())),
                    Some(Token::Number(number)) => steps.push(Step::Item(Expression::Number(number.clone()))),
                    _ => return Err(Malformed),
                }
                self.at += 1;
            } else if self.takes("[") {
                steps.push(self.subscript()?);
            } else if self.takes("(") {
                steps.push(Step::Call(self.arguments()?));
            } else if let Some(filter) = self.filter() {
                steps.push(filter?);
            } else if self.takes_name("is") {
                let not = if self.takes_name("not") { "not " } else { "" };
                let name = format!("{not}{}", self.dotted()?);
                steps.push(Step::Test(name, self.test_arguments()?));
            } else {
                break;
            }
        }
        Ok(if steps.is_empty() { base } else { Expression::Chain(Box::new(base), steps) })
    }

    /// One filter with its arguments; `None` where none follows.
    pub fn filter(&mut self) -> Option<Result<Step, Malformed>> {
        self.takes("|").then(|| {
            let name = self.dotted()?;
            let arguments = if self.takes("(") { self.arguments()? } else { Vec::new() };
            Ok(Step::Filter(name, arguments))
        })
    }

    fn dotted(&mut self) -> Result<String, Malformed> {
        let mut name = self.name().ok_or(Malformed)?;
        while self.takes(".") {
            name = format!("{name}.{}", self.name().ok_or(Malformed)?);
        }
        Ok(name)
    }

    /// A test's operand may stand without parentheses.
    fn test_arguments(&mut self) -> Result<Vec<Argument>, Malformed> {
        if self.takes("(") {
            return self.arguments();
        }
        let operand = match self.peek() {
            Some(Token::Name(name)) => !["else", "or", "and", "if", "is", "not", "in"].contains(&name.as_str()),
            Some(Token::Text(_) | Token::Number(_) | Token::Operator("[" | "{")) => true,
            _ => false,
        };
        if !operand {
            return Ok(Vec::new());
        }
        let value = self.primary()?;
        Ok(vec![Argument { name: None, value }])
    }

    fn subscript(&mut self) -> Result<Step, Malformed> {
        let mut parts = Vec::new();
        let mut slice = false;
        // Between two colons, what is left out counts as well.
        let mut nothing_yet = true;
        loop {
            match self.peek() {
                Some(Token::Operator(":")) => {
                    self.at += 1;
                    if nothing_yet {
                        parts.push(Expression::Nothing);
                    }
                    slice = true;
                    nothing_yet = true;
                }
                Some(Token::Operator(",")) => self.at += 1,
                Some(Token::Operator("]")) => {
                    self.at += 1;
                    if slice && nothing_yet {
                        parts.push(Expression::Nothing);
                    }
                    break;
                }
                _ => {
                    parts.push(self.expression()?);
                    nothing_yet = false;
                }
            }
        }
        Ok(match (slice, parts.len()) {
            (false, 1) => Step::Item(parts.remove(0)),
            _ => Step::Slice(parts),
        })
    }

    fn arguments(&mut self) -> Result<Vec<Argument>, Malformed> {
        let mut arguments = Vec::new();
        while !self.takes(")") {
            while self.takes("*") || self.takes("**") {}
            let name = match self.tokens.get(self.at..self.at + 2) {
                Some([Token::Name(name), Token::Operator("=")]) => {
                    self.at += 2;
                    Some(name.clone())
                }
                _ => None,
            };
            arguments.push(Argument { name, value: self.expression()? });
            if !self.takes(",") {
                self.needs(")")?;
                break;
            }
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::tokens;
    use super::*;

    fn parses(text: &str) -> bool {
        let tokens = tokens(text);
        let mut parser = Parser::new(&tokens);
        parser.tuple(true).is_ok() && parser.is_done()
    }

    #[test]
    fn expressions_of_real_templates() {
        for text in [
            "message['role'] == 'user' and not loop.last",
            "messages[::-1]",
            "messages[1:]",
            "x if y else z",
            "tool | tojson(indent=2)",
            "content.split('</think>')[-1].lstrip('\\n')",
            "namespace(a=1, b=[1, 2], c={'d': 'e'})",
            "not (message.role == 'user') is true",
            "x is defined and x is not none",
            "a ~ b ~ c | trim",
            "loop.index0 % 2 == 0 != (x in [1,2])",
            "x not in y",
            "range(0, n)[-1]",
            "message.content is string",
            "(messages | map(attribute='role') | list)[0]",
            "a, b",
            "f(*args, **kwargs)",
            "x is divisibleby 3",
            "{}.a",
        ] {
            assert!(parses(text), "{text}");
        }
        for text in ["", "a b", "a.", "(a", "a[", "f(a"] {
            assert!(!parses(text), "{text}");
        }
    }

    #[test]
    fn depth_and_length_are_no_danger() {
        for text in ["(".repeat(100_000), "not ".repeat(100_000), "[{'a':".repeat(50_000), "-".repeat(100_000)] {
            assert!(!parses(&text));
        }
        assert!(parses(&format!("a{}", ".b".repeat(100_000))));
        assert!(parses(&format!("a{}", "+b".repeat(100_000))));
    }
}
