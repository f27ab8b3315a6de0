//! Compressed files: decoded within limits, then looked at like any other. joblib and pandas open them by themselves.

pub mod codec;
pub mod filter;

use crate::context::{Context, Piece};
use crate::decoded::{Allowance, Decoded, End};
use crate::finding::{Finding, Severity};
use crate::format::{self, Seen, pickle, stream};
use crate::report::Content;
use crate::slice::{Slice, is_zero, read};
use crate::source::Source;
use codec::Codec;

const READ_AHEAD_BYTES: u64 = 128 << 10;
pub const OLD_JOBLIB_MAGIC: &[u8] = b"ZF0x";

/// What may still be decoded.
pub fn allowance(context: &Context<'_>) -> Allowance {
    Allowance {
        decoded_bytes: context.decoded_bytes_left,
        window_bytes: context.limits.window_bytes_max,
        ratio: context.limits.ratio_max,
    }
}

/// Charges what was decoded, and reports why decoding ended early.
pub fn report_end(decoded: &Decoded<'_>, member: &[u8], context: &mut Context<'_>) {
    context.decoded_bytes_left = context.decoded_bytes_left.saturating_sub(decoded.len());
    match &decoded.end {
        End::Complete => {}
        End::Limit => {
            context.limit_reached("decoded_bytes_max", context.limits.decoded_bytes_max, Some(member), None);
        }
        End::Ratio(ratio) => {
            let finding =
                Finding::new("SNS-309", Severity::Medium, "data that decodes to a suspicious multiple of its size");
            context.report(finding.member(Some(member)).number("ratio", *ratio).number("decoded_bytes", decoded.len()));
            context.incomplete();
        }
        End::Window => {
            context.limit_reached("decoder_window_bytes", codec::WINDOW_BYTES_MAX, Some(member), None);
        }
        End::Broken(reason) => {
            let finding = Finding::new("SNS-903", Severity::Low, "compressed data is broken or truncated");
            context.report(finding.member(Some(member)).at(decoded.len()).text("reason", reason));
        }
    }
}

/// `None`: the magic number was an accident.
pub fn scan(piece: &Piece<'_>, codec: Codec, context: &mut Context<'_>) -> Option<Seen> {
    let inner_name = inner_name(piece.source.name(), codec);
    let mut decoded = Decoded::new(codec, piece.source, inner_name, allowance(context));
    if matches!(decoded.end, End::Broken(_)) && zero_from(piece, decoded.taken) {
        decoded.end = End::Complete; // gzip and others may be padded with zeros
    }
    if codec.is_weak() && matches!(decoded.end, End::Broken(_)) && decoded.is_empty() {
        return None;
    }
    let member = format::member(piece.member.as_deref(), inner_name);
    let inner = Piece { source: &decoded, start: 0, end: decoded.len(), member: Some(member.clone()) };
    if codec.is_weak() && decoded.end != End::Complete && !stream::looks_like(&inner) {
        return None;
    }
    report_end(&decoded, &member, context);
    if matches!(decoded.end, End::Broken(_)) && !decoded.is_empty() {
        // What stands behind the last whole stream is not compressed; readers may have run ahead by a buffer.
        let from = decoded.taken.saturating_sub(READ_AHEAD_BYTES).max(piece.start);
        let rest = Piece { start: from, ..piece.clone() };
        pickle::sweep(&pickle::Stream::of(&rest, pickle::Dialect::Plain), context);
    }
    let seen = context.deeper(Some(&member), |context| format::content(&inner, context));
    if decoded.end == End::Complete && decoded.taken < piece.source.len() {
        format::tail(piece, decoded.taken, context);
    }
    Some(match seen {
        Some(seen) if seen != Seen::OTHER => seen,
        _ => Seen { format: codec.name(), content: Content::NotModel },
    })
}

/// `read_zfile` of joblib's `numpy_pickle_compat`: the magic, the length in hexadecimal in a field of 19 bytes, zlib. Python
/// 2 may have written one byte more.
pub fn scan_old_joblib(piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    const HEADER_BYTES: u64 = 2 + 19;
    let name = piece.member.as_deref().map_or(piece.source.name(), format::file_name);
    let zlib = [HEADER_BYTES, HEADER_BYTES + 1].into_iter().find_map(|start| {
        let slice = Slice::new(piece.source, start, piece.source.len().saturating_sub(start), name);
        (read(&slice, 0, 2).first() == Some(&b'x')).then_some(slice)
    })?;
    let inner = Piece { source: &zlib, start: 0, end: zlib.len(), member: piece.member.clone() };
    scan(&inner, Codec::Zlib, context)
}

fn zero_from(piece: &Piece<'_>, start: u64) -> bool {
    const PADDING_BYTES_MAX: u64 = 1 << 20;
    let end = piece.source.len();
    start < end && end - start <= PADDING_BYTES_MAX && is_zero(piece.source, start, end)
}

/// The name without the suffix of the compression; the name of the codec where nothing is left.
fn inner_name(name: &[u8], codec: Codec) -> &[u8] {
    const SUFFIXES: [&[u8]; 9] = [b".gz", b".bz2", b".xz", b".lzma", b".lz4", b".zst", b".zlib", b".z", b".zstd"];
    let lower = name.to_ascii_lowercase();
    let stem = SUFFIXES.iter().find(|suffix| lower.ends_with(suffix)).map(|suffix| &name[..name.len() - suffix.len()]);
    match (stem, lower.ends_with(b".tgz")) {
        (Some(stem), _) if !stem.is_empty() => stem,
        (_, true) => b"tar",
        _ => codec.name().as_bytes(),
    }
}
