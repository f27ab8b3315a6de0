//! UBJSON as XGBoost writes it: texts are judged, typed arrays stepped over.
//!
//! Reference: Universal Binary JSON, draft 12.

use super::judge;
use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::{self, Seen};
use crate::report::Content;
use crate::window::Window;

const SEEN: Seen = Seen { format: "xgboost", content: Content::Data };
/// Bytes of one text.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Objects and arrays in each other.
const DEPTH_MAX: usize = 512;

/// An object whose first key has a length of 8 bytes and is a word, as XGBoost writes it.
pub fn claims(head: &[u8]) -> bool {
    let Some(rest) = head.strip_prefix(b"{") else { return false };
    let (length, at) = match rest.first() {
        Some(b'L') => (rest.get(1..9).and_then(|bytes| bytes.first_chunk()).map(|bytes| u64::from_be_bytes(*bytes)), 9),
        Some(b'i' | b'U') => (rest.get(1).map(|byte| (*byte).into()), 2),
        Some(b'I') => (rest.get(1..3).map(|bytes| u64::from(bytes[0]) << 8 | u64::from(bytes[1])), 3),
        Some(b'l') => {
            (rest.get(1..5).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_be_bytes(*bytes).into()), 5)
        }
        _ => return false,
    };
    let Some(key) =
        length.filter(|length| (1..64).contains(length)).and_then(|length| rest.get(at..at + length as usize))
    else {
        return false;
    };
    key.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let window = Window::new(piece.source);
    let mut reader = Reader { window: &window, at: 0 };
    match reader.document(piece, context) {
        Some(()) if reader.at < window.len() => format::tail(piece, reader.at, context),
        Some(()) => {}
        None => {
            let finding = Finding::new("SNS-495", Severity::Medium, "booster whose UBJSON is malformed");
            context.report(finding.member(piece.member.as_deref()).at(reader.at));
        }
    }
    SEEN
}

struct Reader<'w, 's> {
    window: &'w Window<'s>,
    at: u64,
}

/// A container that is not closed yet.
struct Open {
    object: bool,
    /// Items that are still to come, where their number is given.
    left: Option<u64>,
    /// The type of every item, where it is given.
    kind: Option<u8>,
    key: String,
}

impl Reader<'_, '_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.window.u8(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn skip(&mut self, bytes: u64) -> Option<()> {
        let next = self.at.checked_add(bytes)?;
        (next <= self.window.len()).then(|| self.at = next)
    }

    fn number(&mut self, kind: u8) -> Option<u64> {
        let width = width(kind).filter(|_| b"iUIlL".contains(&kind))?;
        (0..width).try_fold(0, |number, _| Some(number << 8 | u64::from(self.byte()?)))
    }

    fn text(&mut self) -> Option<String> {
        let kind = self.byte()?;
        let length = self.number(kind)?;
        let start = self.at;
        self.skip(length)?;
        Some(self.window.text(start, self.at, TEXT_BYTES_MAX))
    }

    fn document(&mut self, piece: &Piece<'_>, context: &mut Context<'_>) -> Option<()> {
        let mut open: Vec<Open> = Vec::new();
        let mut steps = 0_u64;
        let mut key = String::new();
        let mut kind = self.byte()?;
        loop {
            steps += 1;
            if steps.is_multiple_of(4096) && context.expired() {
                return Some(());
            }
            match kind {
                b'{' | b'[' => {
                    if open.len() >= DEPTH_MAX {
                        return None;
                    }
                    let container = self.open(kind == b'{', std::mem::take(&mut key))?;
                    open.push(container);
                }
                b'S' | b'H' => {
                    let text = self.text()?;
                    judge(&key, &text, piece.member.as_deref(), context);
                }
                _ => self.skip(width(kind)?)?,
            }
            // What comes next: an item of the innermost container that is not at its end.
            loop {
                let Some(container) = open.last_mut() else { return Some(()) };
                let ended = match &mut container.left {
                    Some(0) => true,
                    Some(left) => {
                        *left -= 1;
                        false
                    }
                    None => {
                        let end = if container.object { b'}' } else { b']' };
                        while self.window.u8(self.at) == Some(b'N') {
                            self.at += 1;
                        }
                        let ended = self.window.u8(self.at)? == end;
                        self.at += u64::from(ended);
                        ended
                    }
                };
                if ended {
                    open.pop();
                    continue;
                }
                let (object, fixed) = (container.object, container.kind);
                key.clone_from(&container.key);
                if object {
                    key = self.text()?;
                }
                kind = match fixed {
                    Some(kind) => kind,
                    None => self.byte()?,
                };
                break;
            }
        }
    }

    /// Type and number of the items may stand first; an array of numbers is stepped over as a whole.
    fn open(&mut self, object: bool, key: String) -> Option<Open> {
        let mut container = Open { object, left: None, kind: None, key };
        if self.window.u8(self.at)? == b'$' {
            self.at += 1;
            container.kind = Some(self.byte()?);
        }
        if self.window.u8(self.at)? == b'#' {
            self.at += 1;
            let kind = self.byte()?;
            container.left = Some(self.number(kind)?);
        } else if container.kind.is_some() {
            return None;
        }
        if let (false, Some(width), Some(left)) = (object, container.kind.and_then(width), container.left) {
            self.skip(width.checked_mul(left)?)?;
            container.left = Some(0);
        }
        Some(container)
    }
}

fn width(kind: u8) -> Option<u64> {
    Some(match kind {
        b'Z' | b'N' | b'T' | b'F' => 0,
        b'i' | b'U' | b'C' | b'B' => 1,
        b'I' | b'h' | b'u' => 2,
        b'l' | b'd' | b'm' => 4,
        b'L' | b'D' | b'M' => 8,
        _ => return None,
    })
}
