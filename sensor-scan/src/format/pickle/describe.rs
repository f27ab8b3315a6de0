//! Values as text: constants to look at, and anything for a person.

use super::machine::{Machine, NAME_BYTES_MAX};
use super::value::{Id, Kind, Node, Text, What};

/// Characters of a described value.
const DESCRIBE_CHARS_MAX: usize = 256;

impl Machine<'_, '_, '_> {
    pub(super) fn name_of(&self, callee: Id) -> String {
        self.describe(callee)
    }

    /// Text of a value, whole (up to [`NAME_BYTES_MAX`] bytes); `None` where it is no constant text.
    pub(super) fn text_of(&mut self, value: Id) -> Option<Vec<u8>> {
        match self.arena.node(value)? {
            Node::Text { len, .. } if len as usize > NAME_BYTES_MAX => None,
            _ => self.text_up_to(value, NAME_BYTES_MAX),
        }
    }

    pub(super) fn string_of(&mut self, value: Id) -> Option<String> {
        self.text_of(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The first bytes of a constant text.
    pub(super) fn text_up_to(&mut self, value: Id, max: usize) -> Option<Vec<u8>> {
        match self.arena.node(value)? {
            Node::Text { text, len, start } => {
                let range = super::cursor::Range { start, len: u64::from(len) };
                let bytes = self.cursor.bytes(range, max);
                Some(if text == Text::BytesAsUtf8 { super::fold::latin1(&bytes) } else { bytes })
            }
            Node::Owned { index, .. } => {
                let bytes = self.arena.owned(index);
                Some(bytes.get(..max.min(bytes.len())).unwrap_or_default().to_vec())
            }
            _ => None,
        }
    }

    /// A value for a person, cut.
    pub(super) fn describe(&self, value: Id) -> String {
        let mut out = String::new();
        self.describe_into(value, 0, &mut out);
        out
    }

    pub(super) fn describe_into(&self, value: Id, depth: u32, out: &mut String) {
        if out.len() > DESCRIBE_CHARS_MAX {
            if !out.ends_with('…') {
                out.push('…');
            }
            return;
        }
        match self.arena.node(value) {
            None => out.push_str(&match value {
                Id::NONE => "None".to_owned(),
                Id::TRUE => "True".to_owned(),
                Id::FALSE => "False".to_owned(),
                Id::DATA => "data".to_owned(),
                Id::BUFFER => "buffer".to_owned(),
                other => other.as_int().map_or_else(|| "?".to_owned(), |int| int.to_string()),
            }),
            Some(Node::Text { len, start, .. }) => {
                let range = super::cursor::Range { start, len: u64::from(len) };
                let bytes = self.cursor.bytes_apart(range, DESCRIBE_CHARS_MAX);
                out.push_str(&format!("{:?}", String::from_utf8_lossy(&bytes)));
            }
            Some(Node::Owned { index, .. }) => {
                let bytes = self.arena.owned(index);
                let bytes = bytes.get(..DESCRIBE_CHARS_MAX.min(bytes.len())).unwrap_or_default();
                out.push_str(&format!("{:?}", String::from_utf8_lossy(bytes)));
            }
            Some(Node::Global { index }) => match self.globals.get(index) {
                Some(global) => out.push_str(&global.name()),
                None => out.push('?'),
            },
            Some(Node::Tuple { .. } | Node::Box { .. }) => {
                let (open, close) = match self.arena.shared(value) {
                    None => ('(', ')'),
                    Some((Kind::List, _)) => ('[', ']'),
                    Some(_) => ('{', '}'),
                };
                out.push(open);
                if depth < 4 {
                    for (n, &child) in self.arena.children(value).iter().take(16).enumerate() {
                        if n > 0 {
                            out.push_str(", ");
                        }
                        self.describe_into(child, depth + 1, out);
                    }
                } else {
                    out.push('…');
                }
                out.push(close);
            }
            Some(Node::Object { .. }) => match self.arena.as_object(value) {
                Some(object) if depth < 4 => {
                    match object.what {
                        What::Module => out.push_str("module "),
                        What::Function => out.push_str("function "),
                        What::Code => out.push_str("code "),
                        What::Class => out.push_str("class "),
                        What::Persistent => out.push_str("persistent "),
                        What::Result if object.callee != Id::NONE => self.describe_into(object.callee, depth + 1, out),
                        What::Attr if object.callee != Id::NONE => {
                            self.describe_into(object.callee, depth + 1, out);
                            out.push('.');
                        }
                        What::Partial => {
                            out.push_str("partial ");
                            self.describe_into(object.callee, depth + 1, out);
                        }
                        What::AttrGetter => out.push_str("attrgetter"),
                        What::MethodCaller => out.push_str("methodcaller"),
                        _ => {}
                    }
                    self.describe_into(object.args, depth + 1, out);
                }
                _ => out.push('…'),
            },
        }
    }
}

/// The start of a text for evidence.
pub fn cut(bytes: &[u8]) -> String {
    let kept = bytes.get(..DESCRIBE_CHARS_MAX.min(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(kept).into_owned()
}
