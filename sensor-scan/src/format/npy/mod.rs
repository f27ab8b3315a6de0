//! numpy's array file: a magic number, a Python literal that names the dtype, then raw data or one pickle.
//!
//! Reference: numpy's `numpy/lib/format.py` (NEP 1), versions 1.0 to 3.0.

mod dtype;
mod literal;

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::{self, Seen, stream};
use crate::report::Content;
use crate::slice::read;
use dtype::Dtype;

pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// numpy refuses longer headers unless pickles are allowed; then `ast.literal_eval` runs on all of it.
const HEADER_BYTES_USUAL: u64 = 10_000;
/// Longer headers are not parsed, but reported.
const HEADER_BYTES_MAX: u64 = 1 << 20;
const LOADERS: &[&str] = &["numpy.load(allow_pickle=True)"];

/// The fixed part and the header of a file.
struct Preamble {
    version: u8,
    /// First byte of the data.
    data_at: u64,
    header_bytes: u64,
    /// `None`: not a literal that numpy accepts, or too long.
    header: Option<literal::Literal>,
}

fn preamble(piece: &Piece<'_>) -> Option<Preamble> {
    let fixed = read(piece.source, 0, 12);
    let version = *fixed.get(6)?;
    // From version 2.0 on the length has four bytes.
    let (at, header_bytes) = match version {
        1 => (10, u64::from(u16::from_le_bytes(fixed.get(8..10)?.try_into().ok()?))),
        _ => (12, u64::from(u32::from_le_bytes(fixed.get(8..12)?.try_into().ok()?))),
    };
    let header = (header_bytes <= HEADER_BYTES_MAX)
        .then(|| read(piece.source, at, header_bytes as usize))
        .filter(|text| text.len() as u64 == header_bytes)
        .and_then(|text| literal::parse(&text));
    Some(Preamble { version, data_at: at + header_bytes, header_bytes, header })
}

/// What the header says of the data, for a quick look.
pub fn content(piece: &Piece<'_>) -> Content {
    let header = preamble(piece).and_then(|preamble| preamble.header);
    match header.as_ref().and_then(|header| header.get("descr")).map(dtype::of) {
        Some(Dtype::Plain(_)) => Content::Data,
        _ => Content::Code,
    }
}

pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let seen = |content| Seen { format: "npy", content };
    let member = piece.member.as_deref();
    let len = piece.source.len();
    let Some(preamble) = preamble(piece) else {
        context.report(Finding::new("SNS-903", Severity::Low, "npy file ends within its header").member(member));
        return seen(Content::Code);
    };
    if !(1..=3).contains(&preamble.version) {
        let finding = Finding::new("SNS-902", Severity::Low, "version of the npy format is not known");
        context.report(finding.member(member).number("version", preamble.version.into()));
    }
    if preamble.header_bytes > HEADER_BYTES_USUAL {
        let finding = Finding::new("SNS-208", Severity::Medium, "npy header is longer than numpy accepts by default");
        context.report(finding.member(member).number("bytes", preamble.header_bytes).loaders(LOADERS));
    }
    if preamble.data_at > len {
        let finding = Finding::new("SNS-903", Severity::Low, "npy header is longer than the file");
        context.report(finding.member(member).number("bytes", preamble.header_bytes));
        return seen(Content::Code);
    }
    if preamble.header.is_none() {
        let finding = Finding::new("SNS-208", Severity::Medium, "npy header is not a literal that numpy writes");
        context.report(finding.member(member).at(piece.source.len().min(10)));
    }

    let field = |name| preamble.header.as_ref().and_then(|header| header.get(name));
    let elements = field("shape").and_then(dtype::product);
    match (field("descr").map_or(Dtype::Unknown, dtype::of), elements) {
        (Dtype::Plain(bytes), Some(elements)) => {
            plain(piece, context, &preamble, u128::from(bytes) * u128::from(elements));
            seen(Content::Data)
        }
        (dtype, _) => {
            let data = Piece { start: preamble.data_at, ..piece.clone() };
            // Where the dtype is in doubt, numpy decides; a pickle may or may not follow.
            if dtype == Dtype::Object || stream::looks_like(&data) {
                stream::object_array(&data, context);
            } else {
                let finding = Finding::new("SNS-902", Severity::Low, "dtype of the npy file is not known");
                context.report(finding.member(member).at(preamble.data_at));
            }
            seen(Content::Code)
        }
    }
}

/// Raw data: too little of it is a truncated file, and what follows is looked at.
fn plain(piece: &Piece<'_>, context: &mut Context<'_>, preamble: &Preamble, data_bytes: u128) {
    let member = piece.member.as_deref();
    let left = u128::from(piece.source.len() - preamble.data_at);
    if data_bytes > left {
        let finding = Finding::new("SNS-903", Severity::Low, "npy file is shorter than its header says");
        context.report(finding.member(member).number("bytes_missing", (data_bytes - left).min(u64::MAX.into()) as u64));
    } else if data_bytes < left {
        // numpy.load on an open file reads one array per call, so further arrays are ordinary.
        let tail = preamble.data_at + data_bytes as u64;
        format::tail(piece, tail, context);
    }
}
