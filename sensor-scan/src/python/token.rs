//! Python source as tokens (CPython's `Lib/tokenize.py`, the language reference chapter 2): lines joined in brackets,
//! indentation as tokens of its own, strings decoded.

/// Spaces to which a tab rounds up.
const TAB_COLUMNS: usize = 8;
/// Strings in the fields of formatted strings.
const NESTED_STRINGS_MAX: u32 = 12;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Name(String),
    /// As written.
    Number(String),
    Text(String),
    Bytes(Vec<u8>),
    /// A formatted string: constant parts, and the source of each field.
    Formatted(Vec<Part>),
    Operator(&'static str),
    Newline,
    Indent,
    Dedent,
    /// A byte that belongs to no token.
    Stray,
    End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Field(String),
}

#[derive(Debug, Clone)]
pub struct Token {
    pub kind: Kind,
    /// Counted from 1.
    pub line: u32,
}

/// Longest first.
const OPERATORS: &[&str] = &[
    "**=", "//=", ">>=", "<<=", "...", "!=", "->", ":=", "==", "<=", ">=", "<<", ">>", "**", "//", "+=", "-=", "*=",
    "/=", "%=", "&=", "|=", "^=", "@=", "+", "-", "*", "/", "%", "&", "|", "^", "~", "@", "<", ">", "(", ")", "[", "]",
    "{", "}", ",", ":", ".", ";", "=", "!", "$", "?", "`",
];

/// All tokens of a source, at most `tokens_max`; says whether that was all.
pub fn tokens(source: &str, tokens_max: usize) -> (Vec<Token>, bool) {
    let mut lexer = Lexer { source, at: 0, line: 1, brackets: 0, indents: vec![0], tokens: Vec::new(), fresh: true };
    while lexer.step() {
        if lexer.tokens.len() > tokens_max {
            lexer.end();
            return (lexer.tokens, false);
        }
    }
    lexer.end();
    (lexer.tokens, true)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: u32,
    brackets: usize,
    indents: Vec<usize>,
    tokens: Vec<Token>,
    /// At the start of a logical line.
    fresh: bool,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, line: self.line });
    }

    fn end(&mut self) {
        if !self.fresh {
            self.push(Kind::Newline);
        }
        for _ in 1..self.indents.len() {
            self.push(Kind::Dedent);
        }
        self.push(Kind::End);
    }

    fn step(&mut self) -> bool {
        if self.fresh && self.brackets == 0 && !self.indentation() {
            return !self.rest().is_empty();
        }
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return false };
        match first {
            '\n' | '\r' => {
                self.at += if rest.starts_with("\r\n") { 2 } else { 1 };
                if self.brackets == 0 {
                    self.push(Kind::Newline);
                    self.fresh = true;
                }
                self.line += 1;
            }
            '\\' if rest[1..].starts_with(['\n', '\r']) => {
                self.at += if rest[1..].starts_with("\r\n") { 3 } else { 2 };
                self.line += 1;
            }
            ' ' | '\t' | '\x0c' | '\u{feff}' => self.at += first.len_utf8(),
            '#' => self.at += rest.find(['\n', '\r']).unwrap_or(rest.len()),
            '0'..='9' => self.number(),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            '"' | '\'' => self.string(0),
            _ if first == '_' || first.is_alphabetic() || !first.is_ascii() => self.name(),
            _ => self.operator(first),
        }
        true
    }

    /// Reads the blanks of a line that starts; `false` where the line is empty.
    fn indentation(&mut self) -> bool {
        let (mut column, mut at) = (0, 0);
        let rest = self.rest();
        for char in rest.chars() {
            match char {
                ' ' => column += 1,
                '\t' => column = (column / TAB_COLUMNS + 1) * TAB_COLUMNS,
                '\x0c' => column = 0,
                '\u{feff}' if self.at == 0 => {}
                _ => break,
            }
            at += char.len_utf8();
        }
        let behind = &rest[at..];
        if behind.starts_with(['#', '\n', '\r']) || behind.is_empty() {
            let line = behind.find(['\n', '\r']).map_or(behind.len(), |end| end + 1);
            let carriage = behind[..line].ends_with('\r') && behind[line..].starts_with('\n');
            self.line += u32::from(line > 0);
            self.at += at + line + usize::from(carriage);
            return false;
        }
        self.at += at;
        self.fresh = false;
        let now = self.indents.last().copied().unwrap_or_default();
        if column > now {
            self.indents.push(column);
            self.push(Kind::Indent);
        } else {
            while self.indents.len() > 1 && self.indents.last().is_some_and(|indent| *indent > column) {
                self.indents.pop();
                self.push(Kind::Dedent);
            }
        }
        true
    }

    fn number(&mut self) {
        let rest = self.rest();
        let mut before = ' ';
        let mut end = rest.len();
        for (at, char) in rest.char_indices() {
            let next = rest[at + char.len_utf8()..].chars().next().unwrap_or(' ');
            let part = match char {
                '+' | '-' => matches!(before, 'e' | 'E') && !rest.starts_with("0x"),
                '.' => !(next == '_' || next.is_alphabetic()) || matches!(next, 'e' | 'E' | 'j'),
                _ => char.is_ascii_alphanumeric() || char == '_',
            };
            if !part {
                end = at;
                break;
            }
            before = char;
        }
        let text = rest[..end].replace('_', "");
        self.at += end;
        self.push(Kind::Number(text));
    }

    fn name(&mut self) {
        let rest = self.rest();
        let end = rest
            .char_indices()
            .find(|(_, char)| !(*char == '_' || char.is_alphanumeric() || !char.is_ascii()))
            .map_or(rest.len(), |(at, _)| at);
        let word = &rest[..end];
        let prefix = word.len() <= 2 && word.bytes().all(|byte| b"rRbBuUfFtT".contains(&byte));
        if prefix && rest[end..].starts_with(['"', '\'']) {
            self.string(end);
            return;
        }
        let name: String = word.chars().map(compatible).collect();
        self.at += end;
        self.push(Kind::Name(name));
    }

    fn operator(&mut self, first: char) {
        let Some(operator) = OPERATORS.iter().find(|operator| self.rest().starts_with(**operator)) else {
            self.at += first.len_utf8();
            self.push(Kind::Stray);
            return;
        };
        match *operator {
            "(" | "[" | "{" => self.brackets += 1,
            ")" | "]" | "}" => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.at += operator.len();
        self.push(Kind::Operator(operator));
    }

    /// A string whose prefix takes `prefix` bytes.
    fn string(&mut self, prefix: usize) {
        let rest = self.rest();
        let (letters, quoted) = rest.split_at(prefix);
        let letters = letters.to_ascii_lowercase();
        let fields = letters.contains(['f', 't']);
        let (inner, len) = extent(quoted, fields, 0);
        let (raw, bytes) = (letters.contains('r'), letters.contains('b'));
        let kind = if fields {
            Kind::Formatted(parts(inner, raw))
        } else if bytes {
            Kind::Bytes(if raw { inner.as_bytes().to_vec() } else { unescaped(inner, true) })
        } else if raw {
            Kind::Text(inner.to_owned())
        } else {
            Kind::Text(text(inner))
        };
        let lines = quoted[..len].matches('\n').count();
        self.push(kind);
        self.at += prefix + len;
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
    }
}

/// What stands between the quotes at the start of `quoted`, and the length with them. A string without an end takes the
/// line, or all.
fn extent(quoted: &str, fields: bool, depth: u32) -> (&str, usize) {
    let quote = &quoted[..1];
    let triple = quoted.len() >= 6 && quoted.starts_with(&quote.repeat(3)) || quoted.starts_with(&quote.repeat(3));
    let width = if triple { 3 } else { 1 };
    let end = &quoted[..width];
    let bytes = quoted.as_bytes();
    let (mut at, mut braces) = (width, 0_u32);
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest[0] == b'\\' {
            at += 1 + rest.get(1).map_or(0, |_| quoted[at + 1..].chars().next().map_or(1, char::len_utf8));
        } else if fields && braces > 0 && matches!(rest[0], b'"' | b'\'') && depth < NESTED_STRINGS_MAX {
            // Since Python 3.12 a field may hold strings in the same quotes; before, that was no source at all.
            if rest.starts_with(end.as_bytes()) && triple {
                return (&quoted[width..at], at + width);
            }
            at += extent(&quoted[at..], false, depth + 1).1;
        } else if rest.starts_with(end.as_bytes()) {
            return (&quoted[width..at], at + width);
        } else if rest[0] == b'\n' && !triple {
            return (&quoted[width..at], at);
        } else {
            if fields {
                let doubled = rest.len() > 1 && rest[0] == rest[1] && matches!(rest[0], b'{' | b'}') && braces == 0;
                match rest[0] {
                    _ if doubled => at += 1,
                    b'{' => braces += 1,
                    b'}' => braces = braces.saturating_sub(1),
                    _ => {}
                }
            }
            at += 1;
        }
    }
    (quoted.get(width..).unwrap_or_default(), quoted.len())
}

/// Splits the inside of a formatted string.
fn parts(inner: &str, raw: bool) -> Vec<Part> {
    let constant = |piece: &str| Part::Text(if raw { piece.to_owned() } else { text(piece) });
    let (mut parts, mut plain) = (Vec::new(), String::new());
    let mut rest = inner;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        if rest[at + 1..].starts_with(brace) {
            plain.push_str(brace);
            rest = &rest[at + 2..];
            continue;
        }
        if brace == "}" {
            rest = &rest[at + 1..];
            continue;
        }
        if !plain.is_empty() {
            parts.push(constant(&std::mem::take(&mut plain)));
        }
        let field = &rest[at + 1..];
        let end = field_end(field);
        parts.push(Part::Field(field[..end].to_owned()));
        rest = field.get(end + 1..).unwrap_or_default();
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(constant(&plain));
    }
    parts
}

/// Where the field that starts `field` ends: at its brace.
fn field_end(field: &str) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(byte) = field.as_bytes().get(at) {
        match byte {
            b'"' | b'\'' => {
                at += extent(&field[at..], false, 0).1;
                continue;
            }
            b'{' | b'[' | b'(' => depth += 1,
            b'}' if depth == 0 => return at,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    field.len()
}

fn text(inner: &str) -> String {
    if inner.contains('\\') { String::from_utf8_lossy(&unescaped(inner, false)).into_owned() } else { inner.to_owned() }
}

/// Escapes of a string decoded: to UTF-8, or to bytes where `bytes`.
fn unescaped(inner: &str, bytes: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let Some(letter) = escape.chars().next() else {
            out.push(b'\\');
            return out;
        };
        let mut number = |radix: u32, skip: usize, digits_max: usize| -> Option<usize> {
            let digits = escape.get(skip..)?;
            let len = digits.bytes().take(digits_max).take_while(|byte| char::from(*byte).is_digit(radix)).count();
            let value = u32::from_str_radix(digits.get(..len)?, radix).ok()?;
            if bytes {
                out.push(value as u8);
            } else {
                let char = char::from_u32(value).unwrap_or('\u{fffd}');
                out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Some(skip + len)
        };
        let used = match letter {
            'n' | 't' | 'r' | 'a' | 'b' | 'f' | 'v' | '\\' | '\'' | '"' => {
                out.push(match letter {
                    'n' => b'\n',
                    't' => b'\t',
                    'r' => b'\r',
                    'a' => 7,
                    'b' => 8,
                    'f' => 12,
                    'v' => 11,
                    other => other as u8,
                });
                1
            }
            '\n' => 1,
            '\r' => 1 + usize::from(escape.starts_with("\r\n")),
            'x' => number(16, 1, 2).unwrap_or(1),
            'u' if !bytes => number(16, 1, 4).unwrap_or(1),
            'U' if !bytes => number(16, 1, 8).unwrap_or(1),
            '0'..='7' => number(8, 0, 3).unwrap_or(1),
            other => {
                out.push(b'\\');
                out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                other.len_utf8()
            }
        };
        rest = escape.get(used..).unwrap_or_default();
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// A letter as identifiers hold it: compatibility forms (NFKC) of ASCII letters are the letters themselves, as in
/// `ｅｖａｌ` or `𝘦𝘷𝘢𝘭`.
fn compatible(char: char) -> char {
    let code = u32::from(char);
    let letter = |index: u32| {
        let index = index % 52;
        let base = if index < 26 { u32::from('A') + index } else { u32::from('a') + index - 26 };
        char::from_u32(base).unwrap_or(char)
    };
    match code {
        0xff10..=0xff19 | 0xff21..=0xff3a | 0xff3f | 0xff41..=0xff5a => char::from_u32(code - 0xfee0).unwrap_or(char),
        0x1d400..=0x1d6a3 => letter(code - 0x1d400),
        0x1d7ce..=0x1d7ff => char::from_u32(u32::from('0') + (code - 0x1d7ce) % 10).unwrap_or(char),
        _ => COMPATIBLE.iter().find(|(from, _)| *from == char).map_or(char, |(_, to)| *to),
    }
}

/// Letter-like symbols, raised and lowered letters.
const COMPATIBLE: &[(char, char)] = &[
    ('ª', 'a'),
    ('º', 'o'),
    ('ſ', 's'),
    ('ⁱ', 'i'),
    ('ⁿ', 'n'),
    ('ᵢ', 'i'),
    ('ᵣ', 'r'),
    ('ᵤ', 'u'),
    ('ᵥ', 'v'),
    ('ₐ', 'a'),
    ('ₑ', 'e'),
    ('ₒ', 'o'),
    ('ₓ', 'x'),
    ('ₕ', 'h'),
    ('ₖ', 'k'),
    ('ₗ', 'l'),
    ('ₘ', 'm'),
    ('ₙ', 'n'),
    ('ₚ', 'p'),
    ('ₛ', 's'),
    ('ₜ', 't'),
    ('ℊ', 'g'),
    ('ℎ', 'h'),
    ('ℓ', 'l'),
    ('ℯ', 'e'),
    ('ℴ', 'o'),
    ('ℹ', 'i'),
    ('ⅰ', 'i'),
    ('ⅴ', 'v'),
    ('ⅹ', 'x'),
    ('ⅼ', 'l'),
    ('ⅽ', 'c'),
    ('ⅾ', 'd'),
    ('ⅿ', 'm'),
    ('ᵃ', 'a'),
    ('ᵇ', 'b'),
    ('ᶜ', 'c'),
    ('ᵈ', 'd'),
    ('ᵉ', 'e'),
    ('ᶠ', 'f'),
    ('ᵍ', 'g'),
    ('ʰ', 'h'),
    ('ʲ', 'j'),
    ('ᵏ', 'k'),
    ('ˡ', 'l'),
    ('ᵐ', 'm'),
    ('ᵒ', 'o'),
    ('ᵖ', 'p'),
    ('ʳ', 'r'),
    ('ˢ', 's'),
    ('ᵗ', 't'),
    ('ᵘ', 'u'),
    ('ᵛ', 'v'),
    ('ʷ', 'w'),
    ('ˣ', 'x'),
    ('ʸ', 'y'),
    ('ᶻ', 'z'),
    ('ℌ', 'H'),
    ('ℍ', 'H'),
    ('ℐ', 'I'),
    ('ℑ', 'I'),
    ('ℒ', 'L'),
    ('ℕ', 'N'),
    ('ℙ', 'P'),
    ('ℚ', 'Q'),
    ('ℛ', 'R'),
    ('ℝ', 'R'),
    ('ℤ', 'Z'),
    ('ℬ', 'B'),
    ('ℰ', 'E'),
    ('ℱ', 'F'),
    ('ℳ', 'M'),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<Kind> {
        let (tokens, whole) = tokens(source, 10_000);
        assert!(whole);
        tokens.into_iter().map(|token| token.kind).collect()
    }

    fn name(text: &str) -> Kind {
        Kind::Name(text.to_owned())
    }

    #[test]
    fn lines_blocks_and_brackets() {
        let found = kinds("if a:\n\n    # note\n    b(\n  c)\nd");
        let expected = [
            name("if"),
            name("a"),
            Kind::Operator(":"),
            Kind::Newline,
            Kind::Indent,
            name("b"),
            Kind::Operator("("),
            name("c"),
            Kind::Operator(")"),
            Kind::Newline,
            Kind::Dedent,
            name("d"),
            Kind::Newline,
            Kind::End,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn strings_of_every_kind() {
        assert_eq!(
            kinds(r#"'a\x41\n' r'\n' b'\xff' """q"q""" 'x"#)[..5],
            [
                Kind::Text("aA\n".into()),
                Kind::Text("\\n".into()),
                Kind::Bytes(vec![255]),
                Kind::Text("q\"q".into()),
                Kind::Text("x".into()),
            ]
        );
        let Kind::Formatted(parts) = &kinds(r#"f'a{b["x"]!r:>{w}}c{{d'"#)[0] else { panic!() };
        assert_eq!(parts, &[Part::Text("a".into()), Part::Field("b[\"x\"]!r:>{w}".into()), Part::Text("c{d".into()),]);
        assert_eq!(kinds("f'{f'{x}'}' y")[1], name("y"));
        assert_eq!(kinds("''")[0], Kind::Text(String::new()));
    }

    #[test]
    fn names_that_only_look_different() {
        assert_eq!(kinds("ｅｖａｌ")[0], name("eval"));
        assert_eq!(kinds("𝘦𝘹𝘦𝘤")[0], name("exec"));
        assert_eq!(kinds("größe")[0], name("größe"));
    }

    #[test]
    fn whatever_stands_there_ends() {
        for source in ["\\", "'", "\"\"\"", "f'{", "f'{{{", "b", "\u{0}\u{1}", "1e", "  \t\n \r", "f'''{'''", "'\\"] {
            kinds(source);
        }
    }
}
