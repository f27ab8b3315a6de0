//! Runs a template as far as its loops, blocks and macros are constant: names are put together in all of them.

use std::collections::BTreeMap;

use super::expression::{Argument, Parser, Step};
use super::judge::Folded::{self, List, Map, Text, Unknown};
use super::judge::{FOLDED_BYTES_MAX, Judge};
use super::token::{Part, Token, parts, tokens};

/// What running a part again may cost in all, bytes of template.
const AGAIN_BYTES_MAX: usize = 1 << 20;
/// Loops, blocks and macros in each other.
const DEPTH_MAX: u32 = 24;
/// Rounds of one loop.
const ROUNDS_MAX: usize = 64;

/// A template's parts, and where its blocks end.
#[derive(Default)]
pub struct Program<'t> {
    parts: Vec<Part<'t>>,
    /// By the index of the part that opens it: the index of the one that closes it.
    ends: BTreeMap<usize, usize>,
    macros: BTreeMap<String, Macro>,
    /// What the blocks that are run print, innermost last; `None` once something unknown was printed.
    printed: Vec<Option<String>>,
    again_bytes: usize,
    depth: u32,
}

#[derive(Clone)]
struct Macro {
    parameters: Vec<(String, Folded)>,
    start: usize,
    end: usize,
}

impl<'t> Judge<'t> {
    pub fn template(&mut self, template: &'t str) {
        self.program.parts = parts(template);
        self.program.ends = ends(&self.program.parts);
        self.run(0, self.program.parts.len(), false);
        self.put_together();
    }

    /// Runs parts; `again` where they were run before.
    fn run(&mut self, start: usize, end: usize, again: bool) {
        let mut at = start;
        while at < end {
            let Some(part) = self.program.parts.get(at).copied() else { return };
            if again {
                let (Part::Data(text) | Part::Print(text) | Part::Statement(text)) = part;
                self.program.again_bytes += text.len() + 64;
                if self.program.again_bytes > AGAIN_BYTES_MAX {
                    return;
                }
            }
            match part {
                Part::Data(data) => {
                    if !again {
                        self.words(data);
                    }
                    self.print(&Text(data.to_owned()));
                }
                Part::Print(body) => {
                    self.enter(body);
                    let tokens = tokens(body);
                    let mut parser = Parser::new(&tokens);
                    match parser.tuple(true) {
                        Ok(expression) if parser.is_done() => {
                            let value = self.fold(&expression);
                            self.print(&value);
                        }
                        _ => self.loose(&tokens),
                    }
                }
                Part::Statement(body) => {
                    self.enter(body);
                    let tokens = tokens(body);
                    match self.statement(&tokens, at, again) {
                        Some(next) => {
                            at = next;
                            continue;
                        }
                        None => self.loose(&tokens),
                    }
                }
            }
            at += 1;
        }
    }

    fn print(&mut self, value: &Folded) {
        let Some(printed) = self.program.printed.last_mut() else { return };
        match (&mut *printed, value) {
            (Some(so_far), Text(text)) if so_far.len() + text.len() <= FOLDED_BYTES_MAX => so_far.push_str(text),
            _ => *printed = None,
        }
    }

    /// Runs a block one level deeper; `None` where that is too deep.
    fn block(&mut self, start: usize, end: usize, again: bool) -> Option<()> {
        if self.program.depth >= DEPTH_MAX {
            return None;
        }
        self.program.depth += 1;
        self.run(start, end, again);
        self.program.depth -= 1;
        Some(())
    }

    /// What a block prints.
    fn captured(&mut self, start: usize, end: usize, again: bool) -> Option<Folded> {
        self.program.printed.push(Some(String::new()));
        let ran = self.block(start, end, again);
        let printed = self.program.printed.pop().flatten();
        ran?;
        Some(printed.map_or(Unknown, |text| self.built(text.trim().to_owned())))
    }

    /// One statement; the index of the part behind it, or `None` where it is none that is known, or malformed.
    fn statement(&mut self, tokens: &[Token], at: usize, again: bool) -> Option<usize> {
        let mut parser = Parser::new(tokens);
        let end = self.program.ends.get(&at).copied();
        let mut next = at + 1;
        match parser.name()?.as_str() {
            "set" => next = self.set(&mut parser, at, end, again)?,
            "for" => next = self.for_loop(&mut parser, at, end, again)?,
            "include" | "import" | "extends" | "from" => {
                let from = parser.expression().ok()?;
                let from = self.fold(&from);
                self.loads(&from);
                return Some(next);
            }
            "macro" => {
                let expression = parser.tuple(true).ok()?;
                self.fold(&expression);
                if let (super::expression::Expression::Chain(base, steps), Some(end)) = (&expression, end)
                    && let (super::expression::Expression::Name(name), [Step::Call(parameters)]) = (&**base, &steps[..])
                {
                    self.define(name, parameters, at + 1, end);
                }
            }
            "call" | "if" | "elif" | "print" | "filter" | "do" => {
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
        parser.is_done().then_some(next)
    }

    /// `set x = …`, or what the block up to `endset` prints.
    fn set(&mut self, parser: &mut Parser<'_>, at: usize, end: Option<usize>, again: bool) -> Option<usize> {
        let mut targets = vec![parser.name()?];
        while parser.takes(".") {
            let outer = targets.pop().unwrap_or_default();
            targets.push(format!("{outer}.{}", parser.name()?));
        }
        while parser.takes(",") {
            targets.push(parser.name()?);
        }
        if parser.takes("=") {
            let value = parser.tuple(true).ok()?;
            let value = self.fold(&value);
            self.unpack(targets, value);
            return Some(at + 1);
        }
        // Filters of a block: as if they stood behind a text.
        let mut filters = Vec::new();
        while let Some(step) = parser.filter() {
            filters.push(step.ok()?);
        }
        if let (Some(end), [target]) = (end, &targets[..])
            && let Some(mut value) = self.captured(at + 1, end, again)
        {
            for step in &filters {
                if let Step::Filter(name, arguments) = step {
                    value = self.filter(value, name, arguments);
                }
            }
            self.assign(target.clone(), value);
            return Some(end);
        }
        Some(at + 1)
    }

    fn for_loop(&mut self, parser: &mut Parser<'_>, at: usize, end: Option<usize>, again: bool) -> Option<usize> {
        let bracket = parser.takes("(");
        let mut targets = vec![parser.name()?];
        while parser.takes(",") {
            targets.extend(parser.name());
        }
        if bracket {
            parser.takes(")");
        }
        if !parser.takes_name("in") {
            return None;
        }
        let over = parser.tuple(false).ok()?;
        let over = self.fold(&over);
        let items = match over {
            List(items) => items,
            Map(entries) => entries.into_iter().map(|(key, _)| Text(key)).collect(),
            Text(text) => text.chars().map(|char| Text(char.to_string())).collect(),
            _ => Vec::new(),
        };
        let mut items = items.into_iter().take(ROUNDS_MAX);
        self.unpack(targets.clone(), items.next().unwrap_or(Unknown));
        if parser.takes_name("if") {
            let condition = parser.tuple(true).ok()?;
            self.fold(&condition);
        }
        parser.takes_name("recursive");
        let Some(end) = end else { return Some(at + 1) };
        if self.block(at + 1, end, again).is_none() {
            return Some(at + 1);
        }
        for item in items {
            self.unpack(targets.clone(), item);
            self.block(at + 1, end, true);
        }
        Some(end)
    }

    fn unpack(&mut self, targets: Vec<String>, value: Folded) {
        if let [_] = &targets[..] {
            return targets.into_iter().for_each(|target| self.assign(target, value.clone()));
        }
        let mut items = match value {
            List(items) => items,
            _ => Vec::new(),
        }
        .into_iter();
        for target in targets {
            self.assign(target, items.next().unwrap_or(Unknown));
        }
    }

    fn define(&mut self, name: &str, parameters: &[Argument], start: usize, end: usize) {
        use super::expression::Expression;
        let parameters: Vec<(String, Folded)> = parameters
            .iter()
            .filter_map(|parameter| match (&parameter.name, &parameter.value) {
                (Some(name), default) => Some((name.clone(), self.fold(default))),
                (None, Expression::Name(name)) => Some((name.clone(), Unknown)),
                _ => None,
            })
            .collect();
        // Its body runs once with what is known without a call.
        for (name, value) in &parameters {
            self.assign(name.clone(), value.clone());
        }
        self.program.macros.insert(name.to_owned(), Macro { parameters, start, end });
    }

    /// A call of a macro with what is known of its arguments: what it prints.
    pub(super) fn call_macro(&mut self, name: &str, arguments: &[Argument], values: &[Folded]) -> Folded {
        let Some(called) = self.program.macros.get(name).cloned() else { return Unknown };
        let known = |value: &Folded| matches!(value, Text(_) | List(_) | Map(_));
        if !values.iter().any(known) {
            return Unknown;
        }
        if called.parameters.iter().any(|(_, default)| !self.may_copy(default)) {
            return Unknown;
        }
        let mut plain = values.iter().zip(arguments).filter(|(_, argument)| argument.name.is_none());
        for (parameter, default) in called.parameters {
            let named = arguments.iter().position(|argument| argument.name.as_deref() == Some(parameter.as_str()));
            let value = named.and_then(|at| values.get(at)).or_else(|| plain.next().map(|(value, _)| value));
            self.assign(parameter, value.cloned().unwrap_or(default));
        }
        self.captured(called.start, called.end, true).unwrap_or(Unknown)
    }
}

/// Where the blocks end whose parts may run more than once, or print into a variable.
fn ends(parts: &[Part<'_>]) -> BTreeMap<usize, usize> {
    let (mut ends, mut open) = (BTreeMap::new(), [const { Vec::new() }; 3]);
    for (index, part) in parts.iter().enumerate() {
        let Part::Statement(body) = part else { continue };
        let word = body.split(|char: char| !char.is_alphanumeric()).next().unwrap_or_default();
        let kinds = [("for", "endfor"), ("macro", "endmacro"), ("set", "endset")];
        for ((opens, closes), open) in kinds.iter().zip(&mut open) {
            if word == *opens && (word != "set" || is_block(body)) {
                open.push(index);
            } else if word == *closes
                && let Some(start) = open.pop()
            {
                ends.insert(start, index);
            }
        }
    }
    ends
}

/// `set x` without a value.
fn is_block(body: &str) -> bool {
    let head = body.split(['|', '(']).next().unwrap_or(body);
    !head.contains('=')
}
