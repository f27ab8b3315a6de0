//! Bytes in a stream that are a stream themselves: handed to a deserialiser, or lying there inert.

use super::cursor::Range;
use super::machine::Machine;
use super::value::{Flags, Id, Node, Text, What};
use crate::context::{Context, Piece};
use crate::finding::{Evidence, Finding, Severity};
use crate::rule::globals::{Does, Effect, Rule};
use crate::source::MemorySource;

/// A shorter text holds no pickle worth looking for.
pub const INERT_BYTES_MIN: u64 = 16;
/// Inert texts of one machine that are looked into.
const INERT_MAX: usize = 1_000;
/// Bytes that are decoded to look into an inert text.
const INERT_DECODED_MAX: u64 = 4 << 20;

/// A text that may be a nested pickle.
#[derive(Debug, Clone, Copy)]
pub struct Inert {
    range: Range,
    encoding: Encoding,
    at: u64,
    opcode: u8,
}

/// How a pickle stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    None,
    Base64,
    Hex,
}

impl Machine<'_, '_, '_> {
    /// A text or bytes operand: does it look like a nested pickle? If so, it is scanned at the end, unless it was loaded.
    #[inline]
    pub(super) fn note_inert(&mut self, text: Text, range: Range) {
        let encoding = match self.cursor.head(range.start) {
            [0x80, 2..=5, _] if text == Text::Bytes => Encoding::None,
            [b'g', b'A', b'I' | b'J' | b'K' | b'M' | b'N' | b'Q' | b'R' | b'S' | b'U' | b'V' | b'W'] => {
                Encoding::Base64
            }
            [b'8', b'0', b'0'] => Encoding::Hex,
            _ => return,
        };
        if self.inert.len() >= INERT_MAX || (encoding != Encoding::None && range.len > INERT_DECODED_MAX) {
            let member = self.stream.member.as_deref();
            self.context.limit_reached("inert_texts_max", INERT_MAX as u64, member, Some(self.at));
            return;
        }
        self.inert.push(Inert { range, encoding, at: self.at, opcode: self.opcode });
    }

    /// Looks into the texts that nothing loaded.
    pub(super) fn look_at_inert(&mut self) {
        for inert in std::mem::take(&mut self.inert) {
            if self.loaded.contains(&inert.range.start) {
                continue;
            }
            (self.at, self.opcode) = (inert.at, inert.opcode);
            let Range { start, len } = inert.range;
            let safe = self.context.all_globals_safe;
            let findings = if inert.encoding == Encoding::None {
                let (source, member) = (self.stream.source, self.stream.member.clone());
                isolated(self.context, &Piece { source, start, end: start + len, member })
            } else {
                let bytes = self.cursor.bytes(inert.range, INERT_DECODED_MAX as usize);
                let (how, bytes) = match inert.encoding {
                    Encoding::Hex => ("hex", super::fold::from_hex(&bytes)),
                    _ => ("base64", super::fold::base64(&bytes)),
                };
                let Some(bytes) = bytes else { continue };
                let source = MemorySource::new(&bytes, b"");
                let member = self.member_with(how, inert.at);
                isolated(self.context, &Piece { source: &source, start: 0, end: bytes.len() as u64, member })
            };
            self.context.all_globals_safe = safe;
            let worst = findings.iter().filter(|finding| !finding.is_coverage()).max_by_key(|finding| finding.severity);
            let Some(worst) = worst.filter(|worst| worst.severity >= Severity::Medium) else { continue };
            let text = "a text holds a pickle that does something; nothing here loads it";
            let mut finding = self.finding("SNS-110", Severity::Medium, text);
            finding.evidence.insert("inner", Evidence::Text(format!("{}: {}", worst.id, worst.title)));
            self.context.report(finding);
        }
    }

    /// A deserialiser is called: what it is given is scanned, where it is constant.
    pub(super) fn loads(&mut self, callee: Id, index: u32, rule: &'static Rule, args: Id) -> Id {
        let mut given = self.arena.children(args).first().copied();
        // A file made of constant bytes, as far as it can be followed.
        for _ in 0..4 {
            match given.and_then(|given| self.arena.as_object(given)) {
                Some(object) if object.what == What::File => given = Some(object.args),
                Some(object) if object.what == What::Result => {
                    given = self.arena.children(object.args).first().copied();
                }
                _ => break,
            }
        }
        let own = rule.does == Does::LoadsOwn;
        let accepted = given.and_then(|given| self.scan_constant(given));
        let constant =
            matches!(given.and_then(|given| self.arena.node(given)), Some(Node::Text { .. } | Node::Owned { .. }));
        let severity = match accepted {
            // What is inside was scanned and speaks for itself.
            Some(true) if own => Severity::Info,
            Some(true) => Severity::Medium,
            _ if own && constant => Severity::Medium,
            _ => Severity::Critical,
        };
        self.report_effect_as(callee, index, rule, args, severity, Effect::Deserialise);
        let flags = if severity >= Severity::Medium { Flags::UNKNOWN } else { Flags::NONE };
        self.arena.object(What::Result, callee, args, flags)
    }

    /// Bytes that an unknown function is given may be a pickle that it loads.
    pub(super) fn look_at_bytes(&mut self, args: Id) {
        for value in self.arena.children(args).iter().take(8).copied().collect::<Vec<_>>() {
            if let Some(Node::Text { text: Text::Bytes, .. } | Node::Owned { text: Text::Bytes, .. }) =
                self.arena.node(value)
                && matches!(self.text_up_to(value, 2).as_deref(), Some([0x80, 2..=5]))
            {
                self.scan_constant(value);
            }
        }
    }

    /// Scans constant bytes by content; `None` where they are not constant, else whether any reader accepted them.
    fn scan_constant(&mut self, value: Id) -> Option<bool> {
        match self.arena.node(value)? {
            Node::Text { text: Text::Str | Text::Bytes, len, start } => {
                let (source, member) = (self.stream.source, self.stream.member.clone());
                self.loaded.insert(start);
                Some(self.context.nested(&Piece { source, start, end: start + u64::from(len), member }))
            }
            Node::Text { .. } | Node::Owned { .. } => {
                let bytes = self.whole(value)?;
                let source = MemorySource::new(&bytes, b"");
                let member = self.member_with("loads", self.at);
                Some(self.context.nested(&Piece { source: &source, start: 0, end: bytes.len() as u64, member }))
            }
            _ => None,
        }
    }
}

fn isolated(context: &mut Context<'_>, piece: &Piece<'_>) -> Vec<Finding> {
    context.isolated(|context| context.nested(piece)).1
}
