//! JSON as Python's `json` reads it, and a little more: NaN and infinities, lone surrogates, duplicate keys kept in
//! order. A strict parser would stop where the loader goes on.

use std::fmt;

/// Lists and objects in each other; deeper text is refused, as CPython does at its recursion limit.
const DEPTH_MAX: usize = 512;
/// What the values of one text may weigh, so that the tree stays within some 50 MB: a value 1, an object's entry 4.
/// Numbers and words in lists are not kept and weigh nothing.
const WEIGHT_MAX: usize = 1_000_000;
/// Longer texts are not parsed into a tree.
pub const TEXT_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    /// As written.
    Number(Box<str>),
    Text(Box<str>),
    List(Vec<Json>),
    Object(Vec<(Box<str>, Json)>),
}

/// Why a text is no JSON, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    pub at: usize,
    pub why: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.why, self.at)
    }
}

impl Json {
    /// Reads one value and white space around it.
    pub fn parse(text: &[u8]) -> Result<Self, Broken> {
        let plain = narrow(text);
        let text = plain.as_deref().unwrap_or(text);
        let (value, at) = Self::prefix(text)?;
        if at < text.len() { Err(Broken { at, why: "something stands behind the value" }) } else { Ok(value) }
    }

    /// Reads the first value; also says where it and the white space behind it end.
    ///
    /// UTF-16 and UTF-32 are told by their zeros, as Python does; the end is then that of the text as UTF-8.
    pub fn prefix(text: &[u8]) -> Result<(Self, usize), Broken> {
        let plain = narrow(text);
        let text = plain.as_deref().unwrap_or(text);
        let text_start = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let mut parser = Parser { text, at: text_start, weight: 0 };
        let value = parser.document()?;
        parser.space();
        Ok((value, parser.at))
    }

    /// The value that Python's dict would hold: the last one of that name.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.entries().iter().rev().find(|(name, _)| &**name == key).map(|(_, value)| value)
    }

    pub fn str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text under a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.str()
    }

    pub fn entries(&self) -> &[(Box<str>, Json)] {
        match self {
            Self::Object(entries) => entries,
            _ => &[],
        }
    }

    pub fn items(&self) -> &[Json] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// Calls `each` with every value in the order of the text, and with the key that it stands under (that of the list
    /// for the items of one).
    pub fn walk<'a>(&'a self, each: &mut impl FnMut(&'a str, &'a Json)) {
        let mut queue: Vec<(&str, &Json)> = vec![("", self)];
        while let Some((key, value)) = queue.pop() {
            each(key, value);
            match value {
                Self::List(items) => queue.extend(items.iter().rev().map(|item| (key, item))),
                Self::Object(entries) => queue.extend(entries.iter().rev().map(|(key, value)| (&**key, value))),
                _ => {}
            }
        }
    }
}

/// A text of two or four bytes a letter as UTF-8; `None`: it is UTF-8 already.
pub fn narrow(text: &[u8]) -> Option<Vec<u8>> {
    let (width, big) = match text {
        [0xff, 0xfe, 0, 0, ..] | [1..=255, 0, 0, 0, ..] => (4, false),
        [0, 0, 0xfe, 0xff, ..] | [0, 0, 0, 1..=255, ..] => (4, true),
        [0xff, 0xfe, ..] | [1..=255, 0, ..] => (2, false),
        [0xfe, 0xff, ..] | [0, 1..=255, ..] => (2, true),
        _ => return None,
    };
    let units = text.chunks_exact(width).map(|unit| {
        let number = |number: u32, byte: &u8| number << 8 | u32::from(*byte);
        if big { unit.iter().fold(0, number) } else { unit.iter().rev().fold(0, number) }
    });
    let plain: String = if width == 4 {
        units.map(|unit| char::from_u32(unit).unwrap_or('\u{fffd}')).collect()
    } else {
        let units = units.map(|unit| unit as u16);
        char::decode_utf16(units).map(|char| char.unwrap_or('\u{fffd}')).collect()
    };
    Some(plain.trim_start_matches('\u{feff}').as_bytes().to_vec())
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    weight: usize,
}

/// A list or an object that is not closed yet.
enum Open {
    List(Vec<Json>),
    Object(Vec<(Box<str>, Json)>, Box<str>),
}

impl Parser<'_> {
    fn fail<T>(&self, why: &'static str) -> Result<T, Broken> {
        Err(Broken { at: self.at, why })
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn takes(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn document(&mut self) -> Result<Json, Broken> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            self.space();
            let mut value = match self.peek() {
                Some(b'[') => {
                    self.at += 1;
                    self.space();
                    if !self.takes(b']') {
                        self.deeper(&mut open, Open::List(Vec::new()))?;
                        continue;
                    }
                    Json::List(Vec::new())
                }
                Some(b'{') => {
                    self.at += 1;
                    self.space();
                    if !self.takes(b'}') {
                        let key = self.key()?;
                        self.deeper(&mut open, Open::Object(Vec::new(), key))?;
                        continue;
                    }
                    Json::Object(Vec::new())
                }
                _ => self.scalar()?,
            };
            // The value is complete: hand it to whoever is open, and close what ends here.
            loop {
                match open.pop() {
                    None => return Ok(value),
                    Some(Open::List(mut items)) => {
                        if !matches!(value, Json::Number(_) | Json::Bool(_) | Json::Null) {
                            self.weigh(1)?;
                            items.push(value);
                        }
                        self.space();
                        if self.takes(b',') {
                            open.push(Open::List(items));
                            break;
                        }
                        if !self.takes(b']') {
                            return self.fail("no `,` or `]` after a value");
                        }
                        value = Json::List(items);
                    }
                    Some(Open::Object(mut entries, key)) => {
                        self.weigh(4)?;
                        entries.push((key, value));
                        self.space();
                        if self.takes(b',') {
                            self.space();
                            let key = self.key()?;
                            open.push(Open::Object(entries, key));
                            break;
                        }
                        if !self.takes(b'}') {
                            return self.fail("no `,` or `}` after a value");
                        }
                        value = Json::Object(entries);
                    }
                }
            }
        }
    }

    fn deeper(&mut self, open: &mut Vec<Open>, new: Open) -> Result<(), Broken> {
        if open.len() >= DEPTH_MAX {
            return self.fail("too deep");
        }
        open.push(new);
        Ok(())
    }

    fn weigh(&mut self, weight: usize) -> Result<(), Broken> {
        self.weight += weight;
        if self.weight > WEIGHT_MAX { self.fail("too many values") } else { Ok(()) }
    }

    fn key(&mut self) -> Result<Box<str>, Broken> {
        if self.peek() != Some(b'"') {
            return self.fail("no key");
        }
        let key = self.string()?;
        self.space();
        if self.takes(b':') { Ok(key) } else { self.fail("no `:` after a key") }
    }

    fn scalar(&mut self) -> Result<Json, Broken> {
        for (word, value) in [(&b"null"[..], Json::Null), (b"true", Json::Bool(true)), (b"false", Json::Bool(false))] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        match self.peek() {
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'+' | b'0'..=b'9' | b'N' | b'I' | b'n' | b'i') => {
                let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                let len = self.rest().iter().take_while(is_part).count();
                let word = &self.rest()[..len];
                let named = word.strip_prefix(b"-").unwrap_or(word);
                let number = word.iter().any(u8::is_ascii_digit)
                    || [&b"nan"[..], b"inf", b"infinity"].iter().any(|name| named.eq_ignore_ascii_case(name));
                if !number {
                    return self.fail("no value");
                }
                let text = String::from_utf8_lossy(&word[..len.min(64)]).into();
                self.at += len;
                Ok(Json::Number(text))
            }
            _ => self.fail("no value"),
        }
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn string(&mut self) -> Result<Box<str>, Broken> {
        self.at += 1;
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            let plain = self.rest().iter().take_while(|byte| !matches!(byte, b'"' | b'\\')).count();
            bytes.extend_from_slice(&self.rest()[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(String::from_utf8_lossy(&bytes).into());
                }
                Some(_) => {
                    let char = self.escape()?;
                    bytes.extend(char.encode_utf8(&mut [0; 4]).as_bytes());
                }
                None => return self.fail("a text without end"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Broken> {
        let Some(&letter) = self.rest().get(1) else { return self.fail("a text without end") };
        self.at += 2;
        Ok(match letter {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let high = self.unit()?;
                let low = if (0xd800..0xdc00).contains(&high) && self.rest().starts_with(b"\\u") {
                    self.at += 2;
                    let low = self.unit()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        self.at -= 6;
                    }
                    Some(low)
                } else {
                    None
                };
                match low {
                    Some(low @ 0xdc00..0xe000) => {
                        char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)).unwrap_or('\u{fffd}')
                    }
                    _ => char::from_u32(high).unwrap_or('\u{fffd}'),
                }
            }
            other => char::from(other),
        })
    }

    fn unit(&mut self) -> Result<u32, Broken> {
        let digits = self.rest().get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => self.fail("an escape without four digits"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        match Json::parse(json.as_bytes()).unwrap() {
            Json::Text(text) => text.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_python_reads_is_read() {
        assert_eq!(text(r#""a\u0041\n\ud83d\ude00\ud800x""#), "aA\n😀\u{fffd}x");
        assert_eq!(text(r#""\ud800\u0041""#), "\u{fffd}A");
        for json in ["[NaN, -Infinity, 1e5, -0.5, null]", "\u{feff}{}", " {\"a\" : [ ] } ", "\"tab\there\"", "1"] {
            assert!(Json::parse(json.as_bytes()).is_ok(), "{json}");
        }
        let json = Json::parse(br#"{"a": 1, "b": {"c": ["x", "y"]}, "a": "last"}"#).unwrap();
        assert_eq!(json.text("a"), Some("last"));
        let mut seen = Vec::new();
        json.walk(&mut |key, value| seen.extend(value.str().map(|text| format!("{key}={text}"))));
        assert_eq!(seen, ["c=x", "c=y", "a=last"]);
    }

    #[test]
    fn wide_texts_are_told_by_their_zeros() {
        let text = r#"{"a": "b\u00e9"}"#;
        let expected = Json::parse(text.as_bytes()).unwrap();
        for mark in ["", "\u{feff}"] {
            let text = format!("{mark}{text}");
            let units = || text.encode_utf16();
            let wide = || text.chars().map(u32::from);
            for bytes in [
                units().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(),
                units().flat_map(u16::to_be_bytes).collect(),
                wide().flat_map(u32::to_le_bytes).collect(),
                wide().flat_map(u32::to_be_bytes).collect(),
            ] {
                assert_eq!(Json::parse(&bytes).unwrap(), expected);
            }
        }
    }

    #[test]
    fn what_is_none_says_where() {
        for json in ["", "{", "[1,", "{\"a\"}", "{a: 1}", "\"a", "[1 2]", "nope", "{} x", "\"\\u12\"", "[,]"] {
            assert!(Json::parse(json.as_bytes()).is_err(), "{json}");
        }
        assert_eq!(Json::prefix(b"{}  tail").unwrap().1, 4);
        assert_eq!(Json::parse("[".repeat(100_000).as_bytes()).unwrap_err().why, "too deep");
    }
}
