//! Hostile text made safe to show: every path, argv, comm, member name and domain passes here before a terminal or a
//! log sees it.
//!
//! The result holds no control character, nothing that reorders or hides what is beside it, and says exactly which
//! bytes were there: the backslash is escaped too, so no two inputs look the same.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter};

/// Shows `bytes` on one line. Control characters (C0, DEL) and bytes that are not UTF-8 become `\xNN` (`\n`, `\r`,
/// `\t` by their letters), C1 controls and characters that are invisible or change the order of text `\u{…}`, a
/// backslash `\\`.
pub fn terminal(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push(&mut out, character);
        }
        for byte in chunk.invalid() {
            push_byte(&mut out, *byte);
        }
    }
    out
}

/// Serialises `value` as JSON whose strings hold nothing that deceives: it is written as `\uNNNN`, the same value, safe
/// to look at. (Control characters are escaped by every JSON writer but for DEL and C1.)
pub fn json<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(128);
    json_behind(&mut out, value)?;
    Ok(out)
}

/// [`json`], behind what is there already.
pub fn json_behind<T: Serialize>(out: &mut Vec<u8>, value: &T) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, SafeStrings))
}

struct SafeStrings;

impl Formatter for SafeStrings {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        // Almost all text is plain, and short: one look at its bytes. (Every character that deceives is longer than one.)
        if rest.bytes().fold(true, |plain, byte| plain & (byte < 0x7f)) {
            return CompactFormatter.write_string_fragment(writer, rest);
        }
        while let Some(at) = rest.find(|character| character == '\u{7f}' || deceives(character)) {
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

fn push(out: &mut String, character: char) {
    match character {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\x1f' | '\x7f' => push_byte(out, character as u8),
        character if deceives(character) => {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
        }
        character => out.push(character),
    }
}

fn push_byte(out: &mut String, byte: u8) {
    let _ = write!(out, "\\x{byte:02x}");
}

/// Characters that a terminal obeys, or that a reader doesn't see: C1 controls, bidirectional overrides and isolates,
/// zero-width ones, line and paragraph separators, fillers, interlinear annotation, tags.
///
/// Source: Unicode general categories Cc, Cf, Zl, Zp, and the blank letters of UTS 39.
pub fn deceives(character: char) -> bool {
    matches!(
        character,
        '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_of_any_script_stays_as_it_is() {
        assert_eq!(terminal("/models/größe 模型.pt".as_bytes()), "/models/größe 模型.pt");
        assert_eq!(terminal(b""), "");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_comes_through() {
        assert_eq!(terminal(b"\x1b[2J\x07\x7f"), "\\x1b[2J\\x07\\x7f");
        assert_eq!(terminal(b"a\nb\rc\td\0"), "a\\nb\\rc\\td\\x00");
        assert_eq!(terminal("\u{9b}31m".as_bytes()), "\\u{9b}31m");
        for byte in 0..=u8::MAX {
            let shown = terminal(&[byte]);
            assert!(shown.chars().all(|c| !c.is_control()), "{byte:#x} came through as {shown:?}");
        }
    }

    #[test]
    fn nothing_reorders_or_hides_text() {
        assert_eq!(terminal("model\u{202e}tp.exe".as_bytes()), "model\\u{202e}tp.exe");
        assert_eq!(
            terminal("a\u{200b}b\u{2066}c\u{feff}\u{2028}".as_bytes()),
            "a\\u{200b}b\\u{2066}c\\u{feff}\\u{2028}"
        );
    }

    #[test]
    fn bytes_that_are_not_text_are_written_in_hex() {
        assert_eq!(terminal(b"x\xff\xfey"), "x\\xff\\xfey");
        // A sequence that is cut, and an encoded surrogate.
        assert_eq!(terminal(b"\xe2\x82"), "\\xe2\\x82");
        assert_eq!(terminal(b"\xed\xa0\x80"), "\\xed\\xa0\\x80");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"a": "x\u{9b}\u{202e}\u{1b}é\u{7f}\u{e0041}\"\\"});
        let text = String::from_utf8(json(&value).unwrap()).unwrap();
        assert!(!text.chars().any(|c| c.is_control() || deceives(c)), "{text}");
        assert!(text.contains('é'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn no_two_inputs_look_the_same() {
        assert_ne!(terminal(b"\x1b"), terminal(b"\\x1b"));
        assert_eq!(terminal(b"\\x1b"), "\\\\x1b");
    }
}
