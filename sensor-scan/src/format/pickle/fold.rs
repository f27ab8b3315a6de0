//! Constants: numbers and texts as the readers parse them, and pure functions whose result can be computed.

use std::io::Read as _;

use super::machine::Machine;
use super::value::{Id, Kind, Node, Text};
use crate::rule::globals::Does;

/// Bytes of a folded text.
const FOLDED_BYTES_MAX: usize = 16 << 20;

/// INT, LONG and memo indices as the most generous reader parses them: blanks, sign, base prefix, underscores, a trailing
/// `L`, and whatever follows a NUL.
pub fn integer(text: &[u8]) -> Option<i64> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(text).ok()?.trim();
    let text = text.strip_suffix('L').unwrap_or(text);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.replace('_', "");
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else {
        (10, lower.as_str())
    };
    let value = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { value.wrapping_neg() } else { value })
}

/// STRING: quotes off, escapes resolved.
pub fn unquote(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.trim_ascii();
    let (&quote, rest) = line.split_first()?;
    if quote != b'\'' && quote != b'"' {
        return None;
    }
    let inner = rest.strip_suffix(&[quote])?;
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next()? {
            b'\n' => {}
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'v' => out.push(11),
            b'x' => {
                let (high, low) = (bytes.next()?, bytes.next()?);
                out.push((hex(high)? << 4) | hex(low)?);
            }
            first @ b'0'..=b'7' => {
                let mut value = u32::from(first - b'0');
                for _ in 0..2 {
                    let Some(digit @ b'0'..=b'7') = bytes.clone().next() else { break };
                    bytes.next();
                    value = value * 8 + u32::from(digit - b'0');
                }
                out.push(value as u8);
            }
            other @ (b'\\' | b'\'' | b'"') => out.push(other),
            other => out.extend_from_slice(&[b'\\', other]),
        }
    }
    Some(out)
}

/// UNICODE: `\uXXXX` and `\UXXXXXXXX`, the rest Latin-1. `None` where nothing has to be changed.
pub fn raw_unicode_escape(line: &[u8]) -> Option<Vec<u8>> {
    if line.is_ascii() && !line.contains(&b'\\') {
        return None;
    }
    let mut out = String::with_capacity(line.len());
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        let digits = match (byte, line.get(at + 1)) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => 0,
        };
        let code = line
            .get(at + 2..at + 2 + digits)
            .filter(|text| digits > 0 && text.iter().all(u8::is_ascii_hexdigit))
            .and_then(|text| std::str::from_utf8(text).ok())
            .and_then(|text| u32::from_str_radix(text, 16).ok());
        match code {
            Some(code) => {
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                at += 2 + digits;
            }
            None => {
                out.push(char::from(byte));
                at += 1;
            }
        }
    }
    Some(out.into_bytes())
}

/// UTF-8 of Latin-1 text to its bytes.
pub fn latin1(bytes: &[u8]) -> Vec<u8> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // Cut in the middle of a character.
        Err(error) => std::str::from_utf8(bytes.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default(),
    };
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Base64 of either alphabet; blanks and missing padding are accepted, as Python's decoders accept junk.
pub fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut buffer, mut bits) = (0u32, 0);
    for &byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ if byte.is_ascii_whitespace() => continue,
            _ => return None,
        };
        buffer = (buffer << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((buffer >> bits) as u8);
            buffer &= (1 << bits) - 1;
        }
    }
    Some(out)
}

/// Does a regular expression repeat something that repeats (`(a+)+`)?
pub fn explodes(pattern: &str) -> bool {
    let bytes = pattern.as_bytes();
    // For each open group: did a repetition without bound occur inside?
    let mut groups: Vec<bool> = Vec::new();
    let mut opened = 0;
    let mut at = 0;
    let mut in_class = false;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'[' if !in_class => in_class = true,
            b']' if in_class => in_class = false,
            _ if in_class => {}
            b'(' => {
                if groups.len() > 256 {
                    return true;
                }
                groups.push(false);
                opened = at + 1;
            }
            b')' => {
                let inner = groups.pop().unwrap_or(false);
                let repeated = matches!(bytes.get(at + 1), Some(b'+' | b'*'))
                    || (bytes.get(at + 1) == Some(&b'{')
                        && bytes.get(at + 2..).unwrap_or_default().iter().take(8).any(|&b| b == b','));
                let body = bytes.get(opened..at).unwrap_or_default();
                if repeated && (inner || ambiguous(body)) {
                    return true;
                }
                if let Some(outer) = groups.last_mut() {
                    *outer |= inner || repeated;
                }
            }
            b'+' | b'*' => {
                if let Some(group) = groups.last_mut() {
                    *group = true;
                }
            }
            _ => {}
        }
        at += 1;
    }
    false
}

/// Do two alternatives of a group start alike? Repeated, each of them doubles the ways to match.
fn ambiguous(group: &[u8]) -> bool {
    let group = group.strip_prefix(b"?:").unwrap_or(group);
    if !group.contains(&b'|') || group.contains(&b'(') {
        return false;
    }
    let firsts: Vec<&[u8]> = group
        .split(|&byte| byte == b'|')
        .map(|alternative| {
            alternative.get(..if alternative.first() == Some(&b'\\') { 2 } else { 1 }).unwrap_or_default()
        })
        .collect();
    firsts.iter().enumerate().any(|(index, first)| {
        firsts.iter().skip(index + 1).any(|other| first == other || first == b"." || *other == b".")
    })
}

impl Machine<'_, '_, '_> {
    /// Result of a pure function; [`Id::UNKNOWN`] where it cannot be computed.
    pub(super) fn fold(&mut self, does: Does, args: Id) -> Id {
        self.try_fold(does, args).unwrap_or(Id::UNKNOWN)
    }

    fn try_fold(&mut self, does: Does, args: Id) -> Option<Id> {
        let arguments: Vec<Id> = self.arena.children(args).iter().take(4).copied().collect();
        let first = *arguments.first()?;
        match does {
            Does::Encode => {
                let codec = match arguments.get(1) {
                    Some(&codec) => self.string_of(codec)?,
                    None => "utf-8".to_owned(),
                };
                match normal(&codec).as_str() {
                    // The common case, of any size: nothing is copied.
                    "latin1" | "iso88591" | "latin" | "l1" | "8859" | "cp819" => match self.arena.node(first)? {
                        Node::Text { len, start, .. } => {
                            let range = super::cursor::Range { start, len: u64::from(len) };
                            Some(self.arena.text(Text::BytesAsUtf8, range))
                        }
                        _ => {
                            let bytes = latin1(&self.whole(first)?);
                            Some(self.arena.owned_text(Text::Bytes, bytes))
                        }
                    },
                    codec => {
                        let bytes = self.whole(first)?;
                        let bytes = match codec {
                            "utf8" | "ascii" | "u8" | "utf" | "usascii" => bytes,
                            "rot13" | "rot" => rot13(&bytes),
                            _ => return None,
                        };
                        Some(self.arena.owned_text(Text::Bytes, bytes))
                    }
                }
            }
            Does::Decode => {
                let codec = match arguments.get(1) {
                    Some(&codec) => self.string_of(codec)?,
                    None => "utf-8".to_owned(),
                };
                let bytes = self.whole(first)?;
                let out = match normal(&codec).as_str() {
                    "utf8" | "ascii" | "u8" | "utf" | "usascii" => bytes,
                    "latin1" | "iso88591" | "latin" | "l1" => {
                        bytes.iter().map(|&byte| char::from(byte)).collect::<String>().into_bytes()
                    }
                    "rot13" | "rot" => rot13(&bytes),
                    "hex" | "hexcodec" => from_hex(&bytes)?,
                    "base64" | "base64codec" => base64(&bytes)?,
                    "zlib" | "zlibcodec" | "zip" => self.inflate(&bytes)?,
                    "unicodeescape" | "rawunicodeescape" => raw_unicode_escape(&bytes).unwrap_or(bytes),
                    _ => return None,
                };
                Some(self.arena.owned_text(Text::Str, out))
            }
            Does::FromBase64 => {
                let bytes = base64(&self.whole(first)?)?;
                Some(self.arena.owned_text(Text::Bytes, bytes))
            }
            Does::FromHex => {
                let text = arguments.iter().rev().find_map(|&argument| self.whole(argument))?;
                Some(self.arena.owned_text(Text::Bytes, from_hex(&text)?))
            }
            Does::Decompress => {
                let bytes = self.whole(first)?;
                let bytes = self.inflate(&bytes)?;
                Some(self.arena.owned_text(Text::Bytes, bytes))
            }
            Does::Join => {
                let parts = *arguments.get(1)?;
                let separator = self.whole(first)?;
                if self.arena.shared(parts).is_some_and(|(kind, shared)| kind == Kind::Dict || !shared.is_whole()) {
                    return None;
                }
                let parts = self.arena.children(parts).to_vec();
                let mut out = Vec::new();
                for (n, &part) in parts.iter().enumerate() {
                    if n > 0 {
                        out.extend_from_slice(&separator);
                    }
                    out.extend_from_slice(&self.whole(part)?);
                    if out.len() > FOLDED_BYTES_MAX {
                        return None;
                    }
                }
                Some(self.arena.owned_text(Text::Str, out))
            }
            Does::Concatenate => {
                let mut out = self.whole(first)?;
                out.extend_from_slice(&self.whole(*arguments.get(1)?)?);
                Some(self.arena.owned_text(Text::Str, out))
            }
            Does::Identity => self.arena.node(first).map(|_| first),
            _ => None,
        }
    }

    /// The whole of a constant text, where that is of a reasonable size.
    pub(super) fn whole(&mut self, value: Id) -> Option<Vec<u8>> {
        if let Some(Node::Text { len, .. }) = self.arena.node(value)
            && len as usize > FOLDED_BYTES_MAX
        {
            return None;
        }
        self.text_up_to(value, FOLDED_BYTES_MAX)
    }

    /// zlib or gzip, within the budget for decoded bytes.
    fn inflate(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let max = self.context.decoded_bytes_left.min(FOLDED_BYTES_MAX as u64);
        let mut out = Vec::new();
        let read = if bytes.starts_with(&[0x1f, 0x8b]) {
            flate2::read::GzDecoder::new(bytes).take(max + 1).read_to_end(&mut out)
        } else {
            flate2::read::ZlibDecoder::new(bytes).take(max + 1).read_to_end(&mut out)
        };
        self.context.decoded_bytes_left = self.context.decoded_bytes_left.saturating_sub(out.len() as u64);
        if out.len() as u64 > max {
            let member = self.stream.member.clone();
            self.context.limit_reached("decoded_bytes_max", max, member.as_deref(), Some(self.at));
            return None;
        }
        read.ok().map(|_| out)
    }
}

fn normal(codec: &str) -> String {
    codec.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn rot13(bytes: &[u8]) -> Vec<u8> {
    let turn = |byte: u8, base: u8| (byte - base + 13) % 26 + base;
    bytes
        .iter()
        .map(|&byte| match byte {
            b'a'..=b'z' => turn(byte, b'a'),
            b'A'..=b'Z' => turn(byte, b'A'),
            other => other,
        })
        .collect()
}

pub fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => Some((hex(high)? << 4) | hex(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_any_reader_takes_them() {
        for (text, value) in [
            ("7", 7),
            (" 1", 1),
            ("+1", 1),
            ("-3", -3),
            ("0x10", 16),
            ("0x10L", 16),
            ("010", 10),
            ("1_0", 10),
            ("1\0junk", 1),
            ("0 ", 0),
        ] {
            assert_eq!(integer(text.as_bytes()), Some(value), "{text:?}");
        }
        assert_eq!(integer(b"x"), None);
    }

    #[test]
    fn texts() {
        assert_eq!(unquote(b"'posix'").as_deref(), Some(&b"posix"[..]));
        assert_eq!(unquote(br#""\x70osix""#).as_deref(), Some(&b"posix"[..]));
        assert_eq!(unquote(br"'\160osix'").as_deref(), Some(&b"posix"[..]));
        assert_eq!(unquote(b"posix"), None);
        assert_eq!(raw_unicode_escape(br"\u0070osix").as_deref(), Some(&b"posix"[..]));
        assert_eq!(raw_unicode_escape(b"posix"), None);
        assert_eq!(base64(b"cG9z\naXg="), Some(b"posix".to_vec()));
        assert_eq!(from_hex(b"70 6f"), Some(b"po".to_vec()));
        assert_eq!(rot13(b"cbfvk"), b"posix");
        assert_eq!(latin1("é".as_bytes()), [0xe9]);
    }

    #[test]
    fn nested_repetition() {
        assert!(explodes("(a+)+$"));
        assert!(explodes("((ab)*c)*"));
        assert!(explodes("(x+x+)+y"));
        assert!(explodes("(a|a)*$"));
        assert!(explodes("(?:.|x)+$"));
        for fine in [r"(?u)\b\w\w+\b", "[a-z]+(foo)?", r"(\d+)-(\d+)", "(abc)+", "[(a+)+]"] {
            assert!(!explodes(fine), "{fine}");
        }
    }
}
