//! CatBoost's `.cbm`: magic, a length, a flatbuffer core with texts of its own.

use super::judge;
use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::{self, Seen};
use crate::report::Content;
use crate::slice::for_each_piece;
use crate::window::Window;

pub const MAGIC: &[u8] = b"CBM1";

/// Bytes of one text.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// Bytes that are searched for texts: metadata stand at the start of the core.
const SEARCHED_BYTES_MAX: u64 = 64 << 20;

pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let window = Window::new(piece.source);
    let member = piece.member.as_deref();
    let core = window.u32(4).map_or(0, u64::from);
    let end = 8 + core;
    let rooted = window.u32(8).is_some_and(|root| u64::from(root) + 4 <= core);
    if end > window.len() || !rooted {
        let finding =
            Finding::new("SNS-495", Severity::Medium, "CatBoost model whose core is not what its header says");
        context.report(finding.member(member).at(4).number("core_bytes", core));
    }
    let mut text: Vec<u8> = Vec::new();
    let searched = window.len().min(SEARCHED_BYTES_MAX);
    for_each_piece(piece.source, 0, searched, |_, bytes| {
        for byte in bytes {
            if matches!(byte, b' '..=b'~' | b'\n' | b'\t' | 0x80..) {
                if text.len() < TEXT_BYTES_MAX {
                    text.push(*byte);
                }
            } else {
                one(&text, member, context);
                text.clear();
            }
        }
        !context.expired()
    });
    one(&text, member, context);
    // Behind the core there may be more parts, which the core names; what starts like another format is looked at.
    if end < window.len() {
        format::gap(piece, end, window.len(), context);
    }
    Seen { format: "catboost", content: Content::Data }
}

fn one(text: &[u8], member: Option<&[u8]>, context: &mut Context<'_>) {
    if text.len() >= 12 {
        judge("text", &String::from_utf8_lossy(text), member, context);
    }
}
