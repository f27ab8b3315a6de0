//! Pickles where a container or a file says that one is, or where the bytes look like one.

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::Seen;
use crate::format::pickle::{self, Dialect, Outcome, Stream};
use crate::report::Content;
use crate::slice::read;

/// Bytes that tell a pickle of protocol 0 or 1, which has no magic number.
const PREFIX_BYTES: usize = 64 << 10;
/// Bytes that tell whether numbers are a pickle by accident.
const STRICT_BYTES: usize = 4 << 10;
const PROTO: u8 = 0x80;
/// Opcodes whose operand is a line of text, however long.
const LINE_OPCODES: &[u8] = b"SVFILcip";

/// A pickle that a loader would start to execute may begin here; the reader has the last word.
pub fn looks_like(piece: &Piece<'_>) -> bool {
    let prefix = read_prefix(piece, PREFIX_BYTES);
    let endless = prefix.len() == PREFIX_BYTES
        && prefix.first().is_some_and(|opcode| LINE_OPCODES.contains(opcode))
        && !prefix.contains(&b'\n');
    endless || pickle::looks_like(&prefix)
}

/// The same where any bytes may stand: a protocol number alone does not convince, opcodes have to follow it.
pub fn looks_like_strictly(piece: &Piece<'_>) -> bool {
    let prefix = read_prefix(piece, STRICT_BYTES);
    let body = match prefix.as_slice() {
        [PROTO, 0..=5, body @ ..] => body,
        other => other,
    };
    !body.is_empty() && pickle::looks_like(body)
}

fn read_prefix(piece: &Piece<'_>, bytes: usize) -> Vec<u8> {
    let len = piece.end.saturating_sub(piece.start).min(bytes as u64);
    read(piece.source, piece.start, len as usize)
}

/// A file of one pickle or several, perhaps with joblib's arrays between opcodes; `None`: not a pickle after all.
pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    let traced = context.traced().len();
    let outcome = pickle::scan_all(&Stream::of(piece, Dialect::Plain), context);
    let joblib = context.traced().iter().skip(traced).any(|global| global.module.starts_with("joblib."));
    outcome.plausible.then_some(Seen { format: if joblib { "joblib" } else { "pickle" }, content: Content::Code })
}

/// The data of an object array.
pub fn object_array(piece: &Piece<'_>, context: &mut Context<'_>) {
    forced(piece, Dialect::NumpyObject, context);
}

/// A member that torch unpickles whatever it looks like.
pub fn torch(piece: &Piece<'_>, context: &mut Context<'_>) {
    forced(piece, Dialect::TorchZip, context);
}

/// A member of torch's first format: pickles one behind the other, with raw data between them.
pub fn torch_streams(piece: &Piece<'_>, context: &mut Context<'_>) {
    forced(piece, Dialect::TorchLegacy, context);
}

fn forced(piece: &Piece<'_>, dialect: Dialect, context: &mut Context<'_>) {
    let outcome: Outcome = pickle::scan_all(&Stream::of(piece, dialect), context);
    if !outcome.plausible {
        let finding = Finding::new("SNS-903", Severity::Low, "no pickle where a loader would unpickle");
        context.report(finding.member(piece.member.as_deref()).at(piece.start).loaders(dialect.loaders()));
    }
}
