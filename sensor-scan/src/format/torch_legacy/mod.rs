//! torch files from before 1.6: five pickles one behind the other, then raw storages. All five are unpickled.
//!
//! Reference: `_legacy_load` of `torch/serialization.py`.

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::pickle::{self, Dialect, Stream};
use crate::format::{Seen, stream};
use crate::report::Content;
use crate::slice::read;

/// The result of the first pickle, and how it is written.
const MAGIC_NUMBER: u128 = 0x1950_a86a_20f9_469c_fc6c;
const MAGIC: &[u8; 10] = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
/// The second pickle: protocol version 1001.
const VERSION: &[u8; 7] = b".\x80\x02M\xe9\x03.";
/// The magic number may be what a call returns: then the version that follows tells.
const SEARCH_BYTES: usize = 4 << 10;
/// Bytes at the end that are looked at for a stream that was appended.
const TAIL_BYTES: u64 = 1 << 20;
/// Magic number, version, system information, object, keys of the storages.
const STREAMS: u32 = 5;

pub fn claims(head: &[u8]) -> bool {
    let head = &head[..head.len().min(SEARCH_BYTES)];
    head.first() == Some(&0x80)
        && (head.get(..32.min(head.len())).is_some_and(|start| start.windows(10).any(|window| window == MAGIC))
            || head.windows(VERSION.len()).any(|window| window == VERSION))
}

/// `None`: nor is it any other pickle.
pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    let (first, findings) = context.isolated(|context| pickle::scan(&stream_at(piece, piece.start), context));
    let version = read(piece.source, first.end, VERSION.len() - 1);
    if !first.stopped || (first.long != Some(MAGIC_NUMBER) && version != VERSION[1..]) {
        return stream::scan(piece, context);
    }
    findings.into_iter().for_each(|finding| context.report(finding));
    let mut at = first.end;
    for index in 1..STREAMS {
        let outcome = pickle::scan(&stream_at(piece, at), context);
        if !outcome.stopped {
            let finding = Finding::new("SNS-903", Severity::Low, "torch file ends within its pickles");
            context.report(finding.member(piece.member.as_deref()).at(outcome.end).number("pickle", index.into()));
            return Some(SEEN);
        }
        at = outcome.end;
    }
    // Storages start with a count; another pickle in their place is read by nobody but a loop around pickle.load.
    let rest = Piece { start: at, ..piece.clone() };
    if at < piece.end && stream::looks_like_strictly(&rest) {
        let plain = Stream::of(&rest, Dialect::Plain);
        let (outcome, findings) = context.isolated(|context| pickle::scan(&plain, context));
        if outcome.stopped || outcome.imports > 0 {
            findings.into_iter().for_each(|finding| context.report(finding));
            let finding =
                Finding::new("SNS-203", Severity::Medium, "a sixth pickle where a torch file has its storages");
            context.report(finding.member(piece.member.as_deref()).at(at));
        }
    }
    // What hides behind the storages is no storage; where they end only their types would tell.
    let tail = at.max(piece.end.saturating_sub(TAIL_BYTES));
    pickle::sweep(&Stream { start: tail, ..Stream::of(piece, Dialect::Plain) }, context);
    Some(SEEN)
}

fn stream_at<'a>(piece: &Piece<'a>, start: u64) -> Stream<'a> {
    Stream { start, ..Stream::of(piece, Dialect::TorchLegacy) }
}

const SEEN: Seen = Seen { format: "torch-legacy", content: Content::Code };
