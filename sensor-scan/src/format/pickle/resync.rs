//! Behind a break: what no reader reaches today, but what somebody put there, is looked for at every spelled-out import.

use super::cursor::{Cursor, Frames, Range};
use super::machine::{Machine, Mode};
use super::opcode as op;
use super::{Stream, TORCH_LEGACY_MAGIC};
use crate::context::Context;
use crate::finding::{Evidence, Finding, Severity};

/// Bytes behind the break that are swept.
const SWEPT_BYTES_MAX: u64 = 16 << 20;
/// Bytes that are looked at together, and how far two blocks overlap: an import is shorter.
const BLOCK_BYTES: usize = 256 << 10;
const OVERLAP_BYTES: usize = 1 << 10;
/// Bytes before the break that are swept too.
const BEFORE_BYTES: u64 = 256;
/// Places that are interpreted.
const TRIES_MAX: u32 = 256;
/// Bytes that are interpreted at one place.
const TRY_BYTES: u64 = 64 << 10;

/// Sweeps what follows a break; a payload there is SNS-204, and the answer true.
pub fn sweep(stream: &Stream<'_>, context: &mut Context<'_>, from: u64) -> bool {
    let end = stream.end.min(stream.source.len()).min(from.saturating_add(SWEPT_BYTES_MAX));
    let mut cursor = Cursor::new(stream.source, from, end, Frames::Ignored);
    // An operand of the wrong length may have swallowed the start.
    let mut start = from.saturating_sub(BEFORE_BYTES).max(stream.start);
    let mut tries = 0;
    while start < end && tries < TRIES_MAX && !context.expired() {
        let block = cursor.bytes(Range { start, len: end - start }, BLOCK_BYTES);
        let mut skip = 0;
        for at in 0..block.len() {
            if at < skip || !starts_import(block.get(at..).unwrap_or_default()) {
                continue;
            }
            tries += 1;
            if tries > TRIES_MAX {
                break;
            }
            let place = start + at as u64;
            if let Some(worst) = interpret(stream, context, place) {
                let mut finding =
                    Finding::new("SNS-204", Severity::High, "a payload lies in bytes that belong to no stream");
                finding.member.clone_from(&stream.member);
                finding.offset = Some(place);
                finding.loaders = stream.dialect.loaders().to_vec();
                finding.evidence.insert("inner", Evidence::Text(format!("{}: {}", worst.id, worst.title)));
                context.report(finding);
                context.bytes_read += cursor.bytes_read;
                return true;
            }
            skip = at + 2;
            if matches!(block.get(at), Some(&(op::GLOBAL | op::INST))) {
                // Any two lines of text behind a `c` or an `i` spell an import: the next letter may be the real one.
                skip = at + 1;
            }
        }
        if block.len() < BLOCK_BYTES {
            break;
        }
        start += (BLOCK_BYTES - OVERLAP_BYTES) as u64;
    }
    context.bytes_read += cursor.bytes_read;
    false
}

/// The worst finding of a stream that starts at `place`, where it is an effect.
fn interpret(stream: &Stream<'_>, context: &mut Context<'_>, place: u64) -> Option<Finding> {
    let inner = Stream { start: place, end: stream.end.min(place + TRY_BYTES), ..stream.clone() };
    let mode = Mode { frames: Frames::Ignored, arrays: false, all: false };
    let safe = context.all_globals_safe;
    let run = |context: &mut Context<'_>| context.deeper(None, |context| Machine::new(&inner, context, mode).run());
    let (_, findings) = context.isolated(run);
    context.all_globals_safe = safe;
    let effect = |finding: &Finding| {
        finding.severity == Severity::Critical && matches!(finding.id, "SNS-101" | "SNS-107" | "SNS-110")
    };
    findings.into_iter().find(effect)
}

/// Do these bytes spell an import: two short texts and STACK_GLOBAL, GLOBAL's two lines, or the start of a stream?
fn starts_import(bytes: &[u8]) -> bool {
    let is_name = |text: &[u8]| {
        !text.is_empty()
            && text.len() < 200
            && text.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
    };
    match bytes {
        [op::PROTO, 2..=5, next, ..] => op::name(*next).is_some() && !bytes.starts_with(TORCH_LEGACY_MAGIC),
        [op::SHORT_BINUNICODE | op::SHORT_BINSTRING, len, rest @ ..] => {
            rest.split_at_checked(usize::from(*len)).is_some_and(|(name, rest)| {
                is_name(name)
                    && matches!(rest, [op::SHORT_BINUNICODE | op::SHORT_BINSTRING | op::MEMOIZE | op::BINPUT, ..])
            })
        }
        [op::GLOBAL | op::INST, rest @ ..] => {
            let mut lines = rest.get(..rest.len().min(400)).unwrap_or_default().split(|&byte| byte == b'\n');
            let both = lines.next().is_some_and(is_name) && lines.next().is_some_and(is_name);
            both && lines.next().is_some()
        }
        _ => false,
    }
}
