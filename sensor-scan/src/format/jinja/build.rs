//! Texts that a template puts together: joined, formatted, cut.

use super::judge::Folded::{self, Content, List, Number, Text, Unknown};
use super::judge::{FOLDED_BYTES_MAX, Judge};

impl Judge {
    pub(super) fn join(&mut self, items: &[Folded], separator: &str) -> Folded {
        let mut joined = String::new();
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                joined.push_str(separator);
            }
            match item {
                Text(text) => joined.push_str(text),
                Number(number) => joined.push_str(&number.to_string()),
                _ => return Unknown,
            }
            if joined.len() > FOLDED_BYTES_MAX {
                break;
            }
        }
        self.built(joined)
    }

    /// `%s`, `%c` and `{}` filled in from left to right; good enough for names that are put together.
    pub(super) fn format(&mut self, text: &str, values: &[Folded]) -> Folded {
        let values: Vec<Folded> = match values {
            [List(items)] => items.clone(),
            other => other.to_vec(),
        };
        let mut built = String::new();
        let mut next = values.iter();
        let mut rest = text;
        while let Some(at) = rest.find(['%', '{']) {
            built.push_str(&rest[..at]);
            let field = &rest[at..];
            let len = if field.starts_with('%') {
                field.find(|c: char| c.is_ascii_alphabetic()).map_or(field.len(), |end| end + 1)
            } else {
                field.find('}').map_or(field.len(), |end| end + 1)
            };
            let as_char = field[..len].ends_with('c') || field[..len].ends_with("c}");
            match next.next() {
                Some(Text(text)) => built.push_str(text),
                Some(Number(number)) if as_char => {
                    built.extend(u32::try_from(*number).ok().and_then(char::from_u32));
                }
                Some(Number(number)) => built.push_str(&number.to_string()),
                _ => return Unknown,
            }
            if built.len() > FOLDED_BYTES_MAX {
                break;
            }
            rest = &field[len..];
        }
        built.push_str(rest);
        self.built(built)
    }

    pub(super) fn slice(&mut self, value: Folded, parts: &[Folded]) -> Folded {
        let backwards = parts.last() == Some(&Number(-1)) && parts.len() >= 3;
        match value {
            Text(text) if backwards => self.built(text.chars().rev().collect()),
            Content => Content,
            List(items) => List(items),
            _ => Unknown,
        }
    }
}

/// One character or one item.
pub fn item_of(value: Folded, index: i64) -> Folded {
    let position = |len: usize| {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        usize::try_from(if index < 0 { index.saturating_add(len) } else { index }).ok()
    };
    match value {
        Text(text) => {
            let at = position(text.chars().count());
            at.and_then(|at| text.chars().nth(at)).map_or(Unknown, |char| Text(char.to_string()))
        }
        List(mut items) => {
            let at = position(items.len()).filter(|at| *at < items.len());
            at.map_or(Unknown, |at| items.swap_remove(at))
        }
        // A part of the content, or what `split` made of it.
        Content => Content,
        Number(_) | Unknown => Unknown,
    }
}
