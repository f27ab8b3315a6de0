//! Formats that are searched for the names and signatures which call code, where a full reader would say no more.

use super::report;
use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::text;
use crate::slice::{for_each_piece, read};
use crate::window::Window;

/// Bytes that are searched.
const SEARCHED_BYTES_MAX: u64 = 256 << 20;
/// Longest word, so that none is lost between two pieces.
const OVERLAP_BYTES: usize = 256;

/// Calls `each` with overlapping pieces of the file.
fn pieces(piece: &Piece<'_>, context: &mut Context<'_>, mut each: impl FnMut(u64, &[u8])) {
    let end = piece.source.len().min(SEARCHED_BYTES_MAX);
    let mut kept: Vec<u8> = Vec::new();
    for_each_piece(piece.source, 0, end, |at, bytes| {
        let start = at - kept.len() as u64;
        kept.extend_from_slice(bytes);
        each(start, &kept);
        kept.drain(..kept.len().saturating_sub(OVERLAP_BYTES));
        !context.expired()
    });
    if end < piece.source.len() {
        context.limit_reached("searched_bytes", SEARCHED_BYTES_MAX, piece.member.as_deref(), Some(end));
    }
}

fn position(bytes: &[u8], word: &[u8]) -> Option<usize> {
    bytes.windows(word.len()).position(|window| window == word)
}

/// CNTK: functions of the user's in Python or in a native library; version 1 writes UTF-16, version 2 a protobuf.
pub fn cntk(piece: &Piece<'_>, context: &mut Context<'_>) {
    const WORDS: &[&str] = &[
        "NativeUserFunction",
        "UserFunction",
        "UserDefinedFunction",
        "native_user_function",
        ".so",
        ".dll",
        "__import__",
    ];
    let mut found = None;
    pieces(piece, context, |_, bytes| {
        let narrow: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
        if found.is_none() {
            found = WORDS.iter().find(|word| {
                position(&narrow, word.as_bytes()).is_some_and(|at| {
                    // A library's suffix ends a word.
                    !word.starts_with('.') || !narrow.get(at + word.len()).is_some_and(u8::is_ascii_alphanumeric)
                })
            });
        }
    });
    if let Some(word) = found {
        report(
            "SNS-624",
            Severity::Medium,
            "a function of the user's own, in Python or a native library",
            word,
            piece,
            context,
        );
    }
}

/// Torch7: Lua functions are dumped as bytecode.
pub fn torch7(piece: &Piece<'_>, context: &mut Context<'_>) {
    let mut found = false;
    pieces(piece, context, |_, bytes| {
        found |= position(bytes, b"\x1bLJ").is_some() || position(bytes, b"\x1bLua").is_some();
    });
    if found {
        report(
            "SNS-624",
            Severity::Medium,
            "a function of Lua as bytecode, which runs when it is called",
            "",
            piece,
            context,
        );
    }
}

/// Caffe's text form.
pub fn prototxt(piece: &Piece<'_>, context: &mut Context<'_>) {
    const TEXT_BYTES_MAX: usize = 16 << 20;
    let bytes = read(piece.source, 0, TEXT_BYTES_MAX);
    let compact: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if position(&compact, b"type:\"Python\"").or_else(|| position(&compact, b"type:'Python'")).is_some()
        || position(&compact, b"python_param").is_some()
    {
        report("SNS-624", Severity::Medium, "a layer of Python code", "Python", piece, context);
    }
    text::scan("prototxt", &String::from_utf8_lossy(&bytes), piece.member.as_deref(), context);
}

/// ExecuTorch: a flatbuffer, then segments of raw data.
pub fn executorch(piece: &Piece<'_>, window: &Window<'_>, context: &mut Context<'_>) {
    let root = window.u32(0).map_or(u64::MAX, u64::from);
    if root.saturating_add(4) > window.len() {
        let finding = Finding::new("SNS-903", Severity::Low, "ExecuTorch program whose first offset leads outside");
        context.report(finding.member(piece.member.as_deref()).at(0));
    }
    let mut found = None;
    pieces(piece, context, |start, bytes| {
        for word in [&b"PK\x03\x04"[..], b"\x7fELF\x02\x01\x01"] {
            if let (None, Some(at)) = (found, position(bytes, word)) {
                found = Some(start + at as u64);
            }
        }
    });
    if let Some(at) = found {
        let accepted = super::format::gap(piece, at, piece.source.len(), context);
        let title = "another format within an ExecuTorch program";
        let finding = Finding::new("SNS-307", Severity::Medium, title).member(piece.member.as_deref()).at(at);
        context.report(finding.number("accepted", accepted.into()));
    }
}
