//! MessagePack, as flax and orbax write checkpoints: maps of names to arrays. It is data; what is looked at are bytes that
//! are a pickle and texts that are code, which custom loaders take for more.
//!
//! Reference: the MessagePack specification; `flax.serialization` for the extension types 1 to 3.

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::{self, Seen, stream, text};
use crate::report::Content;
use crate::window::Window;

const SEEN: Seen = Seen { format: "msgpack", content: Content::Data };
/// Maps and arrays in each other.
const DEPTH_MAX: usize = 512;
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A map whose first key is a word.
pub fn claims(head: &[u8]) -> bool {
    let key = match head {
        [0x81..=0x8f, rest @ ..] | [0xde, _, _, rest @ ..] | [0xdf, _, _, _, _, rest @ ..] => rest,
        _ => return false,
    };
    let text = match key {
        [kind @ 0xa1..=0xbf, rest @ ..] => rest.get(..usize::from(kind & 0x1f)),
        [0xd9, len, rest @ ..] => rest.get(..usize::from(*len)),
        _ => None,
    };
    text.is_some_and(|text| {
        !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-./ :".contains(byte))
    })
}

pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    let window = Window::new(piece.source);
    let mut reader = Reader { window: &window, at: 0, items: 0 };
    match reader.document(piece, context) {
        Some(()) if reader.at < window.len() => format::tail(piece, reader.at, context),
        Some(()) => {}
        // Bytes that only begin like a map.
        None if reader.items < 3 => return None,
        None => {
            let finding = Finding::new("SNS-903", Severity::Low, "MessagePack that ends early or is malformed");
            context.report(finding.member(piece.member.as_deref()).at(reader.at));
        }
    }
    Some(SEEN)
}

struct Reader<'w, 's> {
    window: &'w Window<'s>,
    at: u64,
    items: u64,
}

impl Reader<'_, '_> {
    fn number(&mut self, bytes: u64) -> Option<u64> {
        let mut number = 0;
        for _ in 0..bytes {
            number = number << 8 | u64::from(self.window.u8(self.at)?);
            self.at += 1;
        }
        Some(number)
    }

    fn range(&mut self, bytes: u64) -> Option<(u64, u64)> {
        let start = self.at;
        let end = start.checked_add(bytes).filter(|end| *end <= self.window.len())?;
        self.at = end;
        Some((start, end))
    }

    fn document(&mut self, piece: &Piece<'_>, context: &mut Context<'_>) -> Option<()> {
        // Items that are still to come in each open map or array; keys count as items.
        let mut open: Vec<u64> = vec![1];
        let mut key = String::new();
        while let Some(left) = open.last_mut() {
            if *left == 0 {
                open.pop();
                continue;
            }
            *left -= 1;
            self.items += 1;
            if self.items.is_multiple_of(4096) && context.expired() {
                return Some(());
            }
            let kind = self.number(1)?;
            let nested = match kind {
                0x80..=0x8f => Some(2 * (kind & 0xf)),
                0x90..=0x9f => Some(kind & 0xf),
                0xdc => Some(self.number(2)?),
                0xdd => Some(self.number(4)?),
                0xde => Some(2 * self.number(2)?),
                0xdf => Some(2 * self.number(4)?),
                _ => None,
            };
            if let Some(items) = nested {
                if open.len() >= DEPTH_MAX || items > self.window.len() {
                    return None;
                }
                open.push(items);
                continue;
            }
            match kind {
                0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => {}
                0xa0..=0xbf => self.text(kind & 0x1f, &mut key, piece, context)?,
                0xd9..=0xdb => {
                    let length = self.number(1 << (kind - 0xd9))?;
                    self.text(length, &mut key, piece, context)?;
                }
                0xc4..=0xc6 => {
                    let length = self.number(1 << (kind - 0xc4))?;
                    self.bytes(length, &key, piece, context)?;
                }
                0xcc | 0xd0 => drop(self.range(1)?),
                0xcd | 0xd1 => drop(self.range(2)?),
                0xca | 0xce | 0xd2 => drop(self.range(4)?),
                0xcb | 0xcf | 0xd3 => drop(self.range(8)?),
                0xd4..=0xd8 => drop(self.range(1 + (1 << (kind - 0xd4)))?),
                // An extension: its type, then bytes; flax puts arrays into them.
                0xc7..=0xc9 => {
                    let length = self.number(1 << (kind - 0xc7))?;
                    self.number(1)?;
                    self.bytes(length, &key, piece, context)?;
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn text(&mut self, bytes: u64, key: &mut String, piece: &Piece<'_>, context: &mut Context<'_>) -> Option<()> {
        let (start, end) = self.range(bytes)?;
        let value = self.window.text(start, end, TEXT_BYTES_MAX);
        let function = key.ends_with("_fn") || key.ends_with("_function");
        if function && text::active(&value).is_some() {
            let finding = Finding::new("SNS-496", Severity::Medium, "checkpoint metadata with a function as text");
            context.report(finding.member(piece.member.as_deref()).at(start).text("key", &*key).text("value", &value));
        } else {
            text::scan(key, &value, piece.member.as_deref(), context);
        }
        key.clear();
        key.extend(value.chars().take(256));
        Some(())
    }

    fn bytes(&mut self, bytes: u64, key: &str, piece: &Piece<'_>, context: &mut Context<'_>) -> Option<()> {
        let (start, end) = self.range(bytes)?;
        let name = format::member(piece.member.as_deref(), key.as_bytes());
        let data = Piece { source: piece.source, start, end, member: Some(name) };
        if stream::looks_like_strictly(&data) {
            let (accepted, findings) = context.isolated(|context| context.nested(&data));
            let marked = matches!(self.window.array(start), Some([0x80, 2..=5]));
            let grave =
                findings.iter().any(|finding| finding.severity >= Severity::Medium && finding.id.starts_with("SNS-1"));
            if accepted && grave {
                findings.into_iter().for_each(|finding| context.report(finding));
            }
            if accepted && (grave || marked && bytes < 1 << 20 && self.window.u8(end - 1) == Some(b'.')) {
                let finding = Finding::new("SNS-496", Severity::Medium, "a pickle is hidden in a checkpoint's bytes");
                context.report(finding.member(data.member.as_deref()).at(start).loaders(&["custom loaders"]));
            }
        }
        Some(())
    }
}

#[cfg(test)]
pub mod tests {
    use crate::source::MemorySource;
    use crate::{Limits, Policy, Verdict, scan as scan_file};

    fn judged(bytes: &[u8]) -> (&'static str, Verdict) {
        let report = scan_file(&MemorySource::new(bytes, b"m.msgpack"), &Limits::default(), &Policy::standard());
        (report.format, report.verdict)
    }

    #[test]
    fn arrays_pickles_and_code() {
        let array = b"\x81\xa6params\x81\xa6kernel\xc7\x0f\x01\x93\x91\x02\xa7float32\xc4\x02\x01\x02";
        assert_eq!(judged(array), ("msgpack", Verdict::Clean));
        let pickle = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.";
        let bin = [b"\x81\xa6params\xc4".as_slice(), &[pickle.len() as u8], pickle].concat();
        assert_eq!(judged(&bin), ("msgpack", Verdict::Malicious));
        let ext = [b"\x81\xa6params\x92\x01\xc7".as_slice(), &[pickle.len() as u8, 9], pickle].concat();
        assert_eq!(judged(&ext), ("msgpack", Verdict::Malicious));
        let code = "__import__('os').system('id')";
        let text = [b"\x81\xaarestore_fn\xd9".as_slice(), &[code.len() as u8], code.as_bytes()].concat();
        assert_eq!(judged(&text), ("msgpack", Verdict::Suspicious));
        assert_eq!(judged(b"\x82\xa1a\x01\xa1b").1, Verdict::Unscannable);
        let deep = [b"\x81\xa1a\xa1b\x93".as_slice(), &[0x91; 100_000]].concat();
        assert_ne!(judged(&deep).1, Verdict::Clean);
    }

    /// Files that are not clean, for the properties that hold for every format.
    pub fn samples() -> Vec<Vec<u8>> {
        let pickle = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.";
        vec![[b"\x81\xa6params\x92\x01\xc4".as_slice(), &[pickle.len() as u8], pickle].concat()]
    }
}
