//! Methods and filters of constant values: the ways in which a template puts a name together.

use super::expression::Argument;
use super::judge::Folded::{self, Content, List, Map, Number, Text, Unknown};
use super::judge::{FOLDED_BYTES_MAX, Judge};
use crate::finding::Severity;

/// Items that a filter makes of a text.
const ITEMS_MAX: usize = 1000;

impl Judge<'_> {
    pub(super) fn method(&mut self, value: Folded, name: &str, arguments: &[Argument]) -> Folded {
        let values = self.arguments(arguments);
        match (name, value, values.as_slice()) {
            ("join", Text(separator), [items]) => self.join(&items_of(items), &separator),
            ("format", Text(text), values) => self.format(&text, values, arguments),
            ("startswith" | "endswith" | "find" | "count" | "index", Content, [word, ..]) => {
                self.condition(&word.clone());
                Unknown
            }
            ("lower" | "upper" | "strip" | "lstrip" | "rstrip" | "replace" | "title" | "split", Content, _) => Content,
            ("keys", Map(entries), _) => List(entries.into_iter().map(|(key, _)| Text(key)).collect()),
            ("values", Map(entries), _) => List(entries.into_iter().map(|(_, value)| value).collect()),
            ("items", Map(entries), _) => pairs(entries),
            ("get" | "pop" | "setdefault", Map(entries), [Text(wanted), ..]) => {
                entries.into_iter().find(|(key, _)| key == wanted).map_or(Unknown, |(_, value)| value)
            }
            ("copy", same @ (Map(_) | List(_)), _) => same,
            ("pop", List(items), []) => items.into_iter().next_back().unwrap_or(Unknown),
            (name, Text(text), values) => self.text_method(text, name, values),
            _ => Unknown,
        }
    }

    fn text_method(&mut self, text: String, name: &str, values: &[Folded]) -> Folded {
        let chars = match values {
            [Text(chars), ..] => Some(chars.as_str()),
            _ => None,
        };
        let bare = |char: char| chars.map_or(char.is_whitespace(), |chars| chars.contains(char));
        let changed = match (name, values) {
            ("strip", _) => text.trim_matches(bare).to_owned(),
            ("lstrip", _) => text.trim_start_matches(bare).to_owned(),
            ("rstrip", _) => text.trim_end_matches(bare).to_owned(),
            ("removeprefix", _) => text.strip_prefix(chars.unwrap_or_default()).unwrap_or(&text).to_owned(),
            ("removesuffix", _) => text.strip_suffix(chars.unwrap_or_default()).unwrap_or(&text).to_owned(),
            ("swapcase", _) => text
                .chars()
                .map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
                .collect(),
            ("encode" | "decode" | "expandtabs", _) => text,
            ("split" | "rsplit" | "partition" | "rpartition" | "splitlines", _) => {
                let parts: Vec<Folded> = match chars {
                    Some(separator) if !separator.is_empty() => {
                        text.split(separator).take(ITEMS_MAX).map(|part| Text(part.to_owned())).collect()
                    }
                    _ => text.split_whitespace().take(ITEMS_MAX).map(|part| Text(part.to_owned())).collect(),
                };
                return List(parts);
            }
            ("replace" | "lower" | "casefold" | "upper" | "title" | "capitalize" | "center", _) => {
                return self.text_filter(text, name, values);
            }
            _ => return Unknown,
        };
        self.built(changed)
    }

    pub(super) fn filter(&mut self, value: Folded, name: &str, arguments: &[Argument]) -> Folded {
        let values = self.arguments(arguments);
        if name == "format" {
            return match value {
                Text(text) => self.format(&text, &values, arguments),
                _ => Unknown,
            };
        }
        // `map('lower')`, and not `map(attribute=…)`.
        if let ("map", List(items), [Text(inner), rest @ ..], None) =
            (name, &value, values.as_slice(), arguments.first().and_then(|argument| argument.name.as_deref()))
            && !matches!(inner.as_str(), "map" | "attr")
        {
            return List(items.iter().map(|item| self.filtered(item.clone(), inner, rest)).collect());
        }
        self.filtered(value, name, &values)
    }

    fn filtered(&mut self, value: Folded, name: &str, values: &[Folded]) -> Folded {
        match (name, value, values) {
            ("attr", _, [Text(attribute), ..]) => {
                self.attribute(&attribute.clone());
                self.computed(attribute);
                Unknown
            }
            ("attr", ..) => {
                self.reads_computed();
                Unknown
            }
            ("join", items @ (List(_) | Map(_)), values) => {
                let separator = match values {
                    [Text(separator), ..] => separator.clone(),
                    _ => String::new(),
                };
                self.join(&items_of(&items), &separator)
            }
            ("reverse", Text(text), _) => self.built(text.chars().rev().collect()),
            ("reverse", List(mut items), _) => {
                items.reverse();
                List(items)
            }
            ("list", Text(text), _) => List(text.chars().take(ITEMS_MAX).map(|char| Text(char.to_string())).collect()),
            (
                "list" | "unique" | "select" | "reject" | "selectattr" | "rejectattr" | "sort" | "batch" | "slice",
                list @ List(_),
                _,
            ) => list,
            ("list" | "sort", map @ Map(_), _) => List(items_of(&map)),
            ("items" | "dictsort", Map(entries), _) => pairs(entries),
            ("first" | "min" | "random", List(items), _) => items.into_iter().next().unwrap_or(Unknown),
            ("last" | "max", List(items), _) => items.into_iter().next_back().unwrap_or(Unknown),
            ("first", Text(text), _) => text.chars().next().map_or(Unknown, |char| Text(char.to_string())),
            ("last", Text(text), _) => text.chars().next_back().map_or(Unknown, |char| Text(char.to_string())),
            ("default" | "d", Unknown, [other, ..]) => other.clone(),
            ("string", Number(number), _) => Text(number.to_string()),
            ("urlize" | "length" | "count" | "tojson" | "select" | "map", ..) => Unknown,
            (name, Text(text), values) => self.text_filter(text, name, values),
            (_, Content, _) => Content,
            _ => Unknown,
        }
    }

    fn text_filter(&mut self, text: String, name: &str, values: &[Folded]) -> Folded {
        let changed = match (name, values) {
            ("lower" | "casefold", _) => text.to_lowercase(),
            ("upper", _) => text.to_uppercase(),
            ("capitalize" | "title", _) => {
                let mut chars = text.chars();
                let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
                first + &chars.as_str().to_lowercase()
            }
            ("replace", [Text(from), Text(to), ..]) if !from.is_empty() => {
                text.chars().take(FOLDED_BYTES_MAX / 16).collect::<String>().replace(from, to)
            }
            ("trim", [Text(chars), ..]) => text.trim_matches(|char| chars.contains(char)).to_owned(),
            (
                "trim" | "string" | "safe" | "e" | "escape" | "forceescape" | "default" | "d" | "indent" | "striptags",
                _,
            ) => text.trim().to_owned(),
            ("center", [Number(width), ..]) => {
                let width = usize::try_from(*width).unwrap_or(0).min(FOLDED_BYTES_MAX);
                format!("{text:^width$}")
            }
            _ => return Unknown,
        };
        self.built(changed)
    }

    fn reads_computed(&mut self) {
        self.report("SNS-501", Severity::High, "the template reads an attribute by a computed name");
    }

    /// A name of which only a part is known is computed.
    fn computed(&mut self, name: &str) {
        if name.contains(super::name::HIDDEN) {
            self.reads_computed();
        }
    }
}

fn pairs(entries: Vec<(String, Folded)>) -> Folded {
    List(entries.into_iter().map(|(key, value)| List(vec![Text(key), value])).collect())
}

/// What iterating over a value gives.
fn items_of(value: &Folded) -> Vec<Folded> {
    match value {
        List(items) => items.clone(),
        Map(entries) => entries.iter().map(|(key, _)| Text(key.clone())).collect(),
        Text(text) => text.chars().take(ITEMS_MAX).map(|char| Text(char.to_string())).collect(),
        _ => vec![Unknown],
    }
}
