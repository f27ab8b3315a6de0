//! From tokens to statements in the order of the source, each with the scope in which it runs.

use super::expression::Parser;
use super::module::{Action, From, MODULE, Module, Scope, ScopeInfo, ScopeKind, Statement};
use super::token::{self, Kind};
use super::tree::{Arena, Argument, Id, Node};

/// Tokens of one source.
const TOKENS_MAX: usize = 250_000;
/// Tokens that are looked at to tell a header from something else.
const HEADER_TOKENS_MAX: usize = 2_000;

impl Module {
    pub fn parse(source: &str) -> Self {
        let (tokens, whole) = token::tokens(source, TOKENS_MAX);
        let mut arena = Arena::default();
        let module = ScopeInfo { kind: ScopeKind::Module, name: String::new(), parent: MODULE, parameters: Vec::new() };
        let mut reader = Reader {
            parser: Parser::new(&tokens, &mut arena),
            scopes: vec![module],
            statements: Vec::new(),
            blocks: vec![MODULE],
            next: None,
            odd_lines: 0,
            odd_line: 0,
        };
        reader.all();
        let Reader { scopes, statements, odd_lines, odd_line, parser, .. } = reader;
        let cut = !whole || parser.too_deep;
        Self { arena, scopes, statements, odd_lines, odd_line, cut }
    }
}

struct Reader<'a> {
    parser: Parser<'a>,
    scopes: Vec<ScopeInfo>,
    statements: Vec<Statement>,
    /// Scope of each open block.
    blocks: Vec<Scope>,
    /// Scope of the block that a header announces.
    next: Option<Scope>,
    odd_lines: u32,
    odd_line: u32,
}

impl Reader<'_> {
    fn scope(&self) -> Scope {
        self.blocks.last().copied().unwrap_or(MODULE)
    }

    fn all(&mut self) {
        loop {
            match self.parser.peek() {
                Kind::End => return,
                Kind::Newline => self.parser.at += 1,
                Kind::Indent => {
                    let scope = self.next.take().unwrap_or_else(|| self.scope());
                    self.blocks.push(scope);
                    self.parser.at += 1;
                }
                Kind::Dedent => {
                    if self.blocks.len() > 1 {
                        self.blocks.pop();
                    }
                    self.parser.at += 1;
                }
                _ => {
                    self.next = None;
                    let scope = self.scope();
                    self.line(scope);
                }
            }
        }
    }

    fn push(&mut self, scope: Scope, line: u32, action: Action) {
        self.statements.push(Statement { scope, line, action });
    }

    fn at_end(&self) -> bool {
        matches!(self.parser.peek(), Kind::Newline | Kind::End)
    }

    /// Simple statements between semicolons, or the header of a compound one, to the end of the line.
    fn line(&mut self, scope: Scope) {
        let mut odd = false;
        let mut scope = scope;
        while !self.at_end() {
            if self.parser.takes(";") {
                continue;
            }
            let (before, line) = (self.parser.at, self.parser.line());
            scope = self.statement(scope);
            if self.at_end() || self.parser.is(";") {
                continue;
            }
            if self.parser.takes(":") {
                continue; // the rest of the line is the block
            }
            // Not understood: whatever an expression can be read from is looked at.
            odd = true;
            if self.parser.at == before || !self.next_expression(scope, line) {
                self.parser.at += 1;
            }
        }
        if odd {
            self.odd_lines += 1;
            if self.odd_line == 0 {
                self.odd_line = self.parser.line();
            }
        }
    }

    fn next_expression(&mut self, scope: Scope, line: u32) -> bool {
        let before = self.parser.at;
        if let Some(id) = self.parser.list() {
            self.push(scope, line, Action::Evaluate(id));
        }
        self.parser.at > before
    }

    /// One statement; returns the scope in which the rest of the line runs.
    fn statement(&mut self, scope: Scope) -> Scope {
        let line = self.parser.line();
        self.parser.takes_word("async");
        let word = self.parser.word().unwrap_or_default().to_owned();
        match word.as_str() {
            "import" => self.import(scope, line),
            "from" => self.from(scope, line),
            "def" => return self.function(scope, line),
            "class" => return self.class(scope, line),
            "if" | "elif" | "while" => {
                self.parser.at += 1;
                let Some(condition) = self.parser.expression() else { return scope };
                self.push(scope, line, Action::Evaluate(condition));
                if word != "while" && self.is_main(condition) {
                    let script = self.open(ScopeKind::Script, String::new(), scope, Vec::new());
                    self.next = Some(script);
                    return script;
                }
            }
            "for" => {
                self.parser.at += 1;
                let target = self.parser.targets();
                self.parser.takes_word("in");
                if let Some(iterable) = self.parser.list() {
                    self.push(scope, line, Action::Loop { target, iterable });
                }
            }
            "with" => self.with(scope, line),
            "else" | "try" | "finally" | "pass" | "break" | "continue" => self.parser.at += 1,
            "except" => {
                self.parser.at += 1;
                self.parser.takes("*");
                self.evaluate(scope, line);
                if self.parser.takes_word("as") {
                    self.parser.at += 1;
                }
            }
            "return" => {
                self.parser.at += 1;
                if let Some(id) = self.parser.list() {
                    self.push(scope, line, Action::Return(id));
                }
            }
            "raise" | "assert" | "del" | "global" | "nonlocal" => {
                self.parser.at += 1;
                self.evaluate(scope, line);
                if self.parser.takes_word("from") {
                    self.evaluate(scope, line);
                }
            }
            "match" | "case" if self.is_header() => {
                self.parser.at += 1;
                if word == "match" {
                    self.evaluate(scope, line);
                } else {
                    self.pattern(scope, line);
                }
            }
            _ if self.parser.takes("@") => {
                if let Some(id) = self.parser.expression() {
                    self.push(scope, line, Action::Decorate(id));
                }
            }
            _ => self.simple(scope, line),
        }
        scope
    }

    fn evaluate(&mut self, scope: Scope, line: u32) {
        if let Some(id) = self.parser.list() {
            self.push(scope, line, Action::Evaluate(id));
        }
    }

    fn open(&mut self, kind: ScopeKind, name: String, parent: Scope, parameters: Vec<String>) -> Scope {
        self.scopes.push(ScopeInfo { kind, name, parent, parameters });
        self.scopes.len() - 1
    }

    /// `__name__ == "__main__"`, either way round, perhaps with more conditions.
    fn is_main(&self, condition: Id) -> bool {
        let (mut name, mut main) = (false, false);
        self.parser.arena.walk(condition, false, &mut |_, node| match node {
            Node::Name(found) if &**found == "__name__" => name = true,
            Node::Text(text) if &**text == "__main__" => main = true,
            _ => {}
        });
        let equal = match self.parser.arena.node(condition) {
            Node::Binary(operator, _, _) => matches!(*operator, "==" | "and"),
            _ => false,
        };
        name && main && equal
    }

    fn import(&mut self, scope: Scope, line: u32) {
        self.parser.at += 1;
        loop {
            let module = self.dotted();
            let name = if self.parser.takes_word("as") { self.name() } else { None };
            if module.is_empty() {
                return;
            }
            self.push(scope, line, Action::Import { module: module.into(), name: name.map(Into::into) });
            if !self.parser.takes(",") {
                return;
            }
        }
    }

    fn from(&mut self, scope: Scope, line: u32) {
        self.parser.at += 1;
        let mut module = String::new();
        loop {
            if self.parser.takes(".") {
                module.push('.');
            } else if self.parser.takes("...") {
                module.push_str("...");
            } else {
                break;
            }
        }
        module.push_str(&self.dotted());
        if !self.parser.takes_word("import") {
            return;
        }
        let bracket = self.parser.takes("(");
        loop {
            let what = if self.parser.takes("*") { "*".to_owned() } else { self.name().unwrap_or_default() };
            if what.is_empty() {
                break;
            }
            let name = if self.parser.takes_word("as") { self.name() } else { None };
            let name = name.unwrap_or_else(|| what.clone());
            self.push(scope, line, Action::From(Box::new(From { module: module.clone(), what, name })));
            if !self.parser.takes(",") {
                break;
            }
        }
        if bracket {
            self.parser.takes(")");
        }
    }

    fn dotted(&mut self) -> String {
        let mut path = String::new();
        while let Some(word) = self.parser.word() {
            if word == "import" || word == "as" {
                break;
            }
            path.push_str(word);
            self.parser.at += 1;
            if !self.parser.takes(".") {
                break;
            }
            path.push('.');
        }
        path
    }

    fn name(&mut self) -> Option<String> {
        let name = self.parser.word()?.to_owned();
        self.parser.at += 1;
        Some(name)
    }

    /// `[T: bound = default]` behind a name.
    fn type_parameters(&mut self, scope: Scope, line: u32) {
        if self.parser.is("[") {
            self.evaluate(scope, line);
        }
    }

    fn function(&mut self, scope: Scope, line: u32) -> Scope {
        self.parser.at += 1;
        let name = self.name().unwrap_or_default();
        self.type_parameters(scope, line);
        let mut parameters = Vec::new();
        if self.parser.takes("(") {
            while !self.parser.is(")") && !self.at_end() {
                let before = self.parser.at;
                let _ = self.parser.takes("*") || self.parser.takes("**") || self.parser.takes("/");
                if let Some(parameter) = self.name() {
                    parameters.push(parameter);
                    for mark in [":", "="] {
                        if self.parser.takes(mark)
                            && let Some(id) = self.parser.expression()
                        {
                            self.push(scope, line, Action::Evaluate(id));
                        }
                    }
                }
                self.parser.takes(",");
                if self.parser.at == before {
                    self.parser.at += 1;
                }
            }
            self.parser.takes(")");
        }
        if self.parser.takes("->") {
            self.evaluate(scope, line);
        }
        let inner = self.open(ScopeKind::Function, name, scope, parameters);
        self.push(scope, line, Action::Define { scope: inner });
        self.next = Some(inner);
        inner
    }

    fn class(&mut self, scope: Scope, line: u32) -> Scope {
        self.parser.at += 1;
        let name = self.name().unwrap_or_default();
        self.type_parameters(scope, line);
        if self.parser.takes("(") {
            let bases = self.parser.arguments();
            for Argument { value, .. } in bases {
                self.push(scope, line, Action::Evaluate(value));
            }
        }
        let inner = self.open(ScopeKind::Class, name, scope, Vec::new());
        self.push(scope, line, Action::Define { scope: inner });
        self.next = Some(inner);
        inner
    }

    fn with(&mut self, scope: Scope, line: u32) {
        self.parser.at += 1;
        let before = self.parser.at;
        // `with (a as b, c as d):` or an expression in brackets.
        let bracket = self.parser.is("(") && {
            let mut depth = 0_i32;
            let mut found = false;
            for token in self.parser.tokens.iter().skip(before).take(HEADER_TOKENS_MAX) {
                match &token.kind {
                    Kind::Operator("(" | "[" | "{") => depth += 1,
                    Kind::Operator(")" | "]" | "}") => depth -= 1,
                    Kind::Name(name) if name == "as" && depth == 1 => found = true,
                    Kind::Newline | Kind::End => break,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            found
        };
        self.parser.at += usize::from(bracket);
        while let Some(value) = self.parser.expression() {
            if self.parser.takes_word("as") {
                let target = self.parser.target();
                self.push(scope, line, Action::Assign { targets: vec![target], value });
            } else {
                self.push(scope, line, Action::Evaluate(value));
            }
            if !self.parser.takes(",") {
                break;
            }
        }
        if bracket {
            self.parser.takes(")");
        }
    }

    /// `match` and `case` are names unless the line is a header.
    fn is_header(&self) -> bool {
        let behind = self.parser.tokens.get(self.parser.at + 1).map(|token| &token.kind);
        if matches!(behind, Some(Kind::Operator("=" | "." | "," | ")" | ":" | ";")) | None) {
            return false;
        }
        let mut depth = 0_i32;
        for token in self.parser.tokens.iter().skip(self.parser.at).take(HEADER_TOKENS_MAX) {
            match &token.kind {
                Kind::Operator("(" | "[" | "{") => depth += 1,
                Kind::Operator(")" | "]" | "}") => depth -= 1,
                Kind::Operator(":") if depth == 0 => return true,
                Kind::Newline | Kind::End => return false,
                _ => {}
            }
        }
        false
    }

    fn pattern(&mut self, scope: Scope, line: u32) {
        let mut depth = 0_i32;
        while !self.at_end() {
            match self.parser.peek() {
                Kind::Operator("(" | "[" | "{") => depth += 1,
                Kind::Operator(")" | "]" | "}") => depth -= 1,
                Kind::Operator(":") if depth == 0 => return,
                Kind::Name(name) if name == "if" && depth == 0 => {
                    self.parser.at += 1;
                    self.evaluate(scope, line);
                    return;
                }
                _ => {}
            }
            self.parser.at += 1;
        }
    }

    /// An assignment or an expression.
    fn simple(&mut self, scope: Scope, line: u32) {
        let Some(first) = self.parser.list() else { return };
        if self.parser.takes(":") {
            // An annotated name, which may get a value.
            let compound = self.at_end();
            if compound {
                self.push(scope, line, Action::Evaluate(first));
                return;
            }
            self.evaluate(scope, line);
        }
        let mut chain = vec![first];
        loop {
            if self.parser.takes("=") {
                match self.parser.list() {
                    Some(next) => chain.push(next),
                    None => break,
                }
            } else if let Some(operator) = AUGMENTED.iter().find(|operator| self.parser.is(operator)) {
                self.parser.at += 1;
                let Some(value) = self.parser.list() else { break };
                let plain = operator.trim_end_matches('=');
                let binary = if plain == "+" { "+" } else { "?" };
                let sum = self.parser.arena.add(Node::Binary(binary, first, value));
                self.push(scope, line, Action::Assign { targets: vec![first], value: sum });
                return;
            } else {
                break;
            }
        }
        match chain.pop() {
            Some(value) if chain.is_empty() => self.push(scope, line, Action::Evaluate(value)),
            Some(value) => self.push(scope, line, Action::Assign { targets: chain, value }),
            None => {}
        }
    }
}

const AUGMENTED: &[&str] = &["+=", "-=", "*=", "/=", "//=", "%=", "@=", "&=", "|=", "^=", ">>=", "<<=", "**="];

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(source: &str) -> Vec<String> {
        let module = Module::parse(source);
        assert_eq!(module.odd_lines, 0, "{source}");
        module
            .statements
            .iter()
            .map(|statement| {
                let what = match &statement.action {
                    Action::Import { module, name } => format!("import {module} {name:?}"),
                    Action::From(from) => format!("from {} {} {}", from.module, from.what, from.name),
                    Action::Assign { targets, .. } => format!("assign {}", targets.len()),
                    Action::Loop { .. } => "loop".to_owned(),
                    Action::Evaluate(_) => "evaluate".to_owned(),
                    Action::Return(_) => "return".to_owned(),
                    Action::Decorate(_) => "decorate".to_owned(),
                    Action::Define { scope } => format!("define {}", module.scopes[*scope].name),
                };
                format!("{}:{} {what}", statement.scope, statement.line)
            })
            .collect()
    }

    #[test]
    fn statements_run_in_their_scope() {
        let source = "import a.b as c, d\nfrom ..e import (f as g, h,)\n@deco(1)\nclass K(B, metaclass=M):\n  x: int = f()\n  \
                      def m(self, a=g(), *b: T, **k) -> R:\n    return a; b\n  y = 1\nif __name__ == '__main__': main()\n\
                      async def n(): pass\nz = w = 1\nz += 2\nwith open(p) as q, r: s\nfor i, j in k: l\n";
        let expected = [
            "0:1 import a.b Some(\"c\")",
            "0:1 import d None",
            "0:2 from ..e f g",
            "0:2 from ..e h h",
            "0:3 decorate",
            "0:4 evaluate",
            "0:4 evaluate",
            "0:4 define K",
            "1:5 evaluate",
            "1:5 assign 1",
            "1:6 evaluate",
            "1:6 evaluate",
            "1:6 evaluate",
            "1:6 define m",
            "2:7 return",
            "2:7 evaluate",
            "1:8 assign 1",
            "0:9 evaluate",
            "3:9 evaluate",
            "0:10 define n",
            "0:11 assign 2",
            "0:12 assign 1",
            "0:13 assign 1",
            "0:13 evaluate",
            "0:13 evaluate",
            "0:14 loop",
            "0:14 evaluate",
        ];
        assert_eq!(actions(source), expected);
    }

    #[test]
    fn blocks_end_where_they_end() {
        let module =
            Module::parse("def f():\n  if a:\n    b()\n  c()\nd()\nif __name__ == '__main__':\n  e()\nelse:\n  g()\n");
        let scopes: Vec<Scope> = module.statements.iter().map(|statement| statement.scope).collect();
        assert_eq!(scopes, [0, 1, 1, 1, 0, 0, 2, 0]);
        assert!(module.is_script(2) && !module.is_script(0));
        assert_eq!((module.function(1), module.function(2)), (Some(1), None));
    }

    #[test]
    fn newer_and_odder_things_are_understood() {
        actions("match x:\n  case {'a': b} if c(b): d()\n  case _: pass\nmatch = 1\nmatch.x(1)\ncase[0] = 2\n");
        actions("try:\n  a()\nexcept (B, C) as e: raise D from e\nfinally: pass\nexcept_ = 1\n");
        actions(
            "with (a as b, c as d):\n  pass\ndel x, y\nglobal z\nassert a, 'b'\nlambda: 0\nx = yield\nprint(*a, sep='')\n",
        );
        actions("type_ = 1\nx: int\nclass A[T: int](B): ...\ndef f[T](x: T, /, *, y=1): ...\n");
    }

    #[test]
    fn what_is_no_python_is_still_looked_at() {
        let module = Module::parse("print 'a' % os.system('x')\nexec 'y'\n");
        assert_eq!(module.odd_lines, 2);
        assert!(module.statements.len() >= 4);
        for source in [
            "def",
            "class",
            "from",
            "import",
            "@",
            "with",
            "for",
            "if",
            ":",
            "def f(",
            "x = ",
            "\n  \n x\n y",
            "))",
            "1 = = 2",
        ] {
            Module::parse(source);
        }
    }
}
