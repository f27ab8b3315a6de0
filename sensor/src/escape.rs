//! Hostile text made safe to look at: for terminals and logs (human output), and inside JSON.

use std::fmt::{self, Write as _};

/// Bytes of unknown origin, printed so that a terminal shows them and never obeys them: control characters, characters
/// that are invisible or change the direction of writing, and bytes that are no UTF-8 become `\xNN` or `\u{…}`.
pub struct Safe<'a>(pub &'a [u8]);

impl fmt::Display for Safe<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    char if !is_unsafe(char) => formatter.write_char(char)?,
                    char if char.is_ascii() => write!(formatter, "\\x{:02x}", u32::from(char))?,
                    char => write!(formatter, "\\u{{{:x}}}", u32::from(char))?,
                }
            }
            for byte in chunk.invalid() {
                write!(formatter, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Replaces unsafe characters in serialised JSON, where they can only stand within strings, by `\uNNNN`.
pub fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        if char != '\n' && is_unsafe(char) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                // Writing to a string doesn't fail.
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(char);
        }
    }
    safe
}

/// Control characters (C0, DEL, C1), and those of Unicode that hide or reorder text.
fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_nothing_to_obey() {
        let text = Safe(b"a\x1b[31mb\nc\x7f\xff\xc2\x9b d\xe2\x80\xae\xc3\xa9\\").to_string();
        assert_eq!(text, "a\\x1b[31mb\\x0ac\\x7f\\xff\\u{9b} d\\u{202e}é\\");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"a": "x\u{9b}\u{202e}\u{1b}é\u{7f}\u{e0041}"});
        let text = json(&value.to_string());
        assert!(!text.chars().any(is_unsafe));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
