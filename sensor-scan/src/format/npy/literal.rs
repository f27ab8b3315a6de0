//! The Python literal of an npy header, in the subset that `ast.literal_eval` accepts and numpy writes.

/// numpy writes a flat dict; structured types nest a few levels.
const DEPTH_MAX: u32 = 64;

#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Text(String),
    Integer(i128),
    Bool(bool),
    None,
    /// A list or a tuple.
    Sequence(Vec<Literal>),
    Dict(Vec<(Literal, Literal)>),
}

impl Literal {
    /// Value of a text key, the last one where it stands twice, as Python has it.
    pub fn get(&self, key: &str) -> Option<&Literal> {
        let Self::Dict(entries) = self else { return None };
        entries.iter().rev().find(|(name, _)| matches!(name, Self::Text(name) if name == key)).map(|(_, value)| value)
    }
}

/// Parses the whole of `text`; `None` where it is anything else than one literal and blanks.
pub fn parse(text: &[u8]) -> Option<Literal> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    parser.blanks();
    (parser.at == text.len()).then_some(value)
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r' | 0x0c)) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.blanks();
        let eaten = self.peek() == Some(byte);
        self.at += usize::from(eaten);
        eaten
    }

    fn value(&mut self, depth: u32) -> Option<Literal> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.blanks();
        match self.peek()? {
            b'{' => self.dict(depth),
            b'(' => self.sequence(b'(', b')', depth),
            b'[' => self.sequence(b'[', b']', depth),
            b'-' | b'+' | b'0'..=b'9' => self.integer(),
            b'\'' | b'"' => self.text(),
            _ => self.word(),
        }
    }

    fn dict(&mut self, depth: u32) -> Option<Literal> {
        let mut entries = Vec::new();
        self.eat(b'{');
        loop {
            if self.eat(b'}') {
                return Some(Literal::Dict(entries));
            }
            let key = self.value(depth + 1)?;
            if !self.eat(b':') {
                return None;
            }
            entries.push((key, self.value(depth + 1)?));
            if !self.eat(b',') {
                return self.eat(b'}').then_some(Literal::Dict(entries));
            }
        }
    }

    fn sequence(&mut self, open: u8, close: u8, depth: u32) -> Option<Literal> {
        let (mut items, mut comma) = (Vec::new(), false);
        self.eat(open);
        loop {
            if self.eat(close) {
                break;
            }
            items.push(self.value(depth + 1)?);
            if !self.eat(b',') {
                if !self.eat(close) {
                    return None;
                }
                break;
            }
            comma = true;
        }
        // `(x)` is x itself.
        match (open, comma, items.len()) {
            (b'(', false, 1) => items.pop(),
            _ => Some(Literal::Sequence(items)),
        }
    }

    fn integer(&mut self) -> Option<Literal> {
        let start = self.at;
        self.at += 1;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'_')) {
            self.at += 1;
        }
        // Python 2 wrote long integers with an `L`; numpy filters it out.
        let digits: String =
            self.text[start..self.at].iter().filter(|byte| **byte != b'_').map(|byte| char::from(*byte)).collect();
        if self.peek() == Some(b'L') {
            self.at += 1;
        }
        digits.parse().ok().map(Literal::Integer)
    }

    fn word(&mut self) -> Option<Literal> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            self.at += 1;
        }
        match &self.text[start..self.at] {
            b"True" => Some(Literal::Bool(true)),
            b"False" => Some(Literal::Bool(false)),
            b"None" => Some(Literal::None),
            prefix if matches!(self.peek(), Some(b'\'' | b'"')) && is_text_prefix(prefix) => self.text(),
            _ => None,
        }
    }

    /// Adjacent pieces are one text, as in Python.
    fn text(&mut self) -> Option<Literal> {
        let mut bytes = Vec::new();
        loop {
            let quote = self.peek()?;
            self.at += 1;
            while self.peek()? != quote {
                let byte = self.peek()?;
                self.at += 1;
                match byte {
                    b'\\' => self.escape(&mut bytes)?,
                    b'\n' => return None,
                    _ => bytes.push(byte),
                }
            }
            self.at += 1;
            self.blanks();
            if !matches!(self.peek(), Some(b'\'' | b'"')) {
                return Some(Literal::Text(String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        let byte = self.peek()?;
        self.at += 1;
        let code = match byte {
            b'x' => self.hex(2)?,
            b'u' => self.hex(4)?,
            b'U' => self.hex(8)?,
            b'0'..=b'7' => self.octal(byte),
            b'n' => u32::from(b'\n'),
            b't' => u32::from(b'\t'),
            b'r' => u32::from(b'\r'),
            b'\\' | b'\'' | b'"' => u32::from(byte),
            b'\n' => return Some(()),
            _ => {
                bytes.extend([b'\\', byte]);
                return Some(());
            }
        };
        let mut buffer = [0; 4];
        bytes.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
        Some(())
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let text = std::str::from_utf8(self.text.get(self.at..self.at + digits)?).ok()?;
        self.at += digits;
        u32::from_str_radix(text, 16).ok()
    }

    /// Up to three digits, the first of which was read.
    fn octal(&mut self, first: u8) -> u32 {
        let mut code = u32::from(first - b'0');
        for _ in 0..2 {
            let Some(digit @ b'0'..=b'7') = self.peek() else { break };
            code = code * 8 + u32::from(digit - b'0');
            self.at += 1;
        }
        code
    }
}

fn is_text_prefix(prefix: &[u8]) -> bool {
    matches!(prefix, b"u" | b"U" | b"b" | b"B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_numpy_writes() {
        let header = parse(
            b"{'descr': [('a', '<f8'), ('b', [('c', '|O')], (2,))], 'fortran_order': False, 'shape': (3, 4), }  \n",
        );
        let header = header.unwrap();
        assert_eq!(header.get("fortran_order"), Some(&Literal::Bool(false)));
        assert_eq!(header.get("shape"), Some(&Literal::Sequence(vec![Literal::Integer(3), Literal::Integer(4)])));
        assert!(matches!(header.get("descr"), Some(Literal::Sequence(fields)) if fields.len() == 2));
    }

    #[test]
    fn what_python_accepts_too() {
        assert_eq!(parse(b"(3)"), Some(Literal::Integer(3)));
        assert_eq!(parse(b"(3,)"), Some(Literal::Sequence(vec![Literal::Integer(3)])));
        assert_eq!(parse(b"()"), Some(Literal::Sequence(vec![])));
        assert_eq!(parse(b"(10L, )"), Some(Literal::Sequence(vec![Literal::Integer(10)])));
        assert_eq!(parse(br#"'|' "\x4f" u'\117'"#), None);
        assert_eq!(parse(br#"'|' "\x4f" '\117'"#), Some(Literal::Text("|OO".into())));
        assert_eq!(parse(b"{'a': 1, 'a': 2}").unwrap().get("a"), Some(&Literal::Integer(2)));
    }

    #[test]
    fn what_is_no_literal() {
        for text in [&b""[..], b"{", b"{'a'}", b"f()", b"{'a': 1} x", b"'a", b"'\\x4'", b"(1,,2)", b"1 2", b"{1:}"] {
            assert_eq!(parse(text), None, "{}", String::from_utf8_lossy(text));
        }
        assert_eq!(parse(&b"[".repeat(100_000)), None);
    }
}
