//! Shape `native`: one JSON object per line.
//!
//! Characters that a terminal obeys or that hide what is beside them are written as `\uXXXX`: the same JSON, safe to
//! show.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter};

use crate::alert::Alert;
use crate::escape;

/// The line, with its end.
pub fn render(alert: &Alert) -> Vec<u8> {
    let mut line = Vec::with_capacity(4096);
    // A Vec takes everything, and an alert has no map with keys that aren't text: this cannot fail. Were it to, the line
    // says so instead of being missing.
    if let Err(error) = alert.serialize(&mut Serializer::with_formatter(&mut line, Safe)) {
        line = format!("{{\"schema\":\"{}\",\"error\":\"{error}\"}}", crate::alert::SCHEMA).into_bytes();
    }
    line.push(b'\n');
    line
}

struct Safe;

impl Formatter for Safe {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|character| character == '\u{7f}' || escape::deceives(character)) {
            let (plain, tail) = rest.split_at(at);
            CompactFormatter.write_string_fragment(writer, plain)?;
            let Some(character) = tail.chars().next() else { break };
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &tail[character.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_stays_the_same_text() {
        let text = "a\u{9b}b\u{202e}c\u{e0001}d\u{7f}\x1b\n\"\\ é 模";
        let mut line = Vec::new();
        text.serialize(&mut Serializer::with_formatter(&mut line, Safe)).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(line.chars().all(|c| !c.is_control() && !escape::deceives(c)), "{line}");
        assert!(line.contains("é 模"));
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }
}
