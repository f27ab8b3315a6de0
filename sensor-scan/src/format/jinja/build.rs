//! Texts that a template puts together: joined, formatted, cut.

use super::expression::Argument;
use super::judge::Folded::{self, Content, List, Map, Number, Text, Unknown};
use super::judge::{FOLDED_BYTES_MAX, Judge};

impl Judge<'_> {
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

    /// `%s`, `%(key)s`, `%c`, `{}`, `{1}` and `{key}` filled in; good enough for names that are put together.
    pub(super) fn format(&mut self, text: &str, values: &[Folded], arguments: &[Argument]) -> Folded {
        let values: Vec<Folded> = match values {
            [List(items)] => items.clone(),
            other => other.to_vec(),
        };
        let by_key = |key: &str| -> Option<Folded> {
            if let Some(Map(entries)) = values.first() {
                return entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
            }
            let at = arguments.iter().position(|argument| argument.name.as_deref() == Some(key))?;
            values.get(at).cloned()
        };
        let mut built = String::new();
        let mut next = values.iter();
        let mut rest = text;
        while let Some(at) = rest.find(['%', '{']) {
            built.push_str(&rest[..at]);
            let field = &rest[at..];
            let percent = field.starts_with('%');
            let open = if field.starts_with("%(") { field.find(')').unwrap_or(1) } else { 1 };
            let len = if percent {
                field[open..].find(|c: char| c.is_ascii_alphabetic()).map_or(field.len(), |end| open + end + 1)
            } else {
                field.find('}').map_or(field.len(), |end| end + 1)
            };
            let key = if percent { field.get(2..open) } else { field.get(1..len - 1) };
            let key = key.unwrap_or_default().split(['.', '[', ':', '!']).next().unwrap_or_default();
            let value = match key.parse::<usize>() {
                _ if key.is_empty() => next.next().cloned(),
                Ok(index) => values.get(index).cloned(),
                Err(_) => by_key(key),
            };
            let as_char = field[..len].ends_with('c') || field[..len].ends_with("c}");
            match value {
                Some(Text(text)) => built.push_str(&text),
                Some(Number(number)) if as_char => {
                    built.extend(u32::try_from(number).ok().and_then(char::from_u32));
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
        match value {
            Text(text) => {
                let chars: Vec<char> = text.chars().collect();
                match indices(chars.len(), parts) {
                    Some(at) => self.built(at.into_iter().filter_map(|at| chars.get(at)).collect()),
                    None => Unknown,
                }
            }
            list @ List(_) if !self.may_copy(&list) => Unknown,
            List(items) => match indices(items.len(), parts) {
                Some(at) => List(at.into_iter().filter_map(|at| items.get(at).cloned()).collect()),
                None => List(items),
            },
            Content => Content,
            _ => Unknown,
        }
    }
}

/// Which of `len` items `start:stop:step` takes, as Python does; `None` where a bound is not known.
fn indices(len: usize, parts: &[Folded]) -> Option<Vec<usize>> {
    let len = i64::try_from(len).ok()?;
    let bound = |at: usize| match parts.get(at) {
        Some(Number(number)) => Some(*number),
        _ => None,
    };
    let step = bound(2).unwrap_or(1);
    if step == 0 {
        return Some(Vec::new());
    }
    let within = |bound: i64| {
        let bound = if bound < 0 { bound.saturating_add(len) } else { bound };
        if step > 0 { bound.clamp(0, len) } else { bound.clamp(-1, len - 1) }
    };
    let start = bound(0).map_or(if step > 0 { 0 } else { len - 1 }, within);
    let stop = bound(1).map_or(if step > 0 { len } else { -1 }, within);
    let mut taken = Vec::new();
    let mut at = start;
    while if step > 0 { at < stop } else { at > stop } {
        taken.push(usize::try_from(at).ok()?);
        at = at.saturating_add(step);
    }
    Some(taken)
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
        Number(_) | Map(_) | Unknown => Unknown,
    }
}
