//! The list of tensors and where their data lies.

use std::collections::BTreeSet;

use super::value::Reader;
use super::{Malformed, report};
use crate::context::{Context, Piece};
use crate::format;
use crate::slice::read;

/// ggml's limit on dimensions.
const DIMENSIONS_MAX: u32 = 4;
/// Tensors that are looked at; the largest known models have a few thousand.
const TENSORS_MAX: u64 = 200_000;
/// Tensors whose first bytes are looked at.
const TENSORS_LOOKED_AT: usize = 10_000;
/// Pickles from protocol 2 on, and ELF.
const STARTS: [&[u8]; 5] = [b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x7fELF"];

/// Elements and bytes of a block, by ggml's number of the type; retired types are not known.
fn block(kind: u32) -> Option<(u64, u64)> {
    Some(match kind {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        24 => (1, 1),
        27 | 28 => (1, 8),
        2 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        10 => (256, 84),
        11 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        16 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        20 => (32, 18),
        21 => (256, 110),
        22 => (256, 82),
        23 => (256, 136),
        29 => (256, 56),
        34 => (256, 54),
        35 => (256, 66),
        39 => (32, 17),
        _ => return None,
    })
}

/// Reads the list and returns where the data of the last tensor ends; where a type is not known, the end of the file.
pub fn scan(
    piece: &Piece<'_>,
    reader: &mut Reader<'_, '_>,
    count: u64,
    alignment: u64,
    context: &mut Context<'_>,
) -> Result<u64, Malformed> {
    let mut ranges: Vec<(u64, Option<u64>)> = Vec::new();
    let mut names = BTreeSet::new();
    for index in 0..count {
        if index % 1024 == 0 && context.expired() {
            return Ok(piece.source.len());
        }
        if index >= TENSORS_MAX {
            context.limit_reached("tensors_max", TENSORS_MAX, piece.member.as_deref(), Some(reader.at));
            return Ok(piece.source.len());
        }
        let at = reader.at;
        let name = reader.text()?;
        let dimensions = reader.u32()?;
        if dimensions > DIMENSIONS_MAX {
            return Err(Malformed::new(at, "GGUF tensor has more than four dimensions"));
        }
        let mut elements = Some(1_u64);
        for _ in 0..dimensions {
            let size = reader.count()?;
            elements = elements.and_then(|elements| elements.checked_mul(size)).filter(|_| size <= i64::MAX as u64);
        }
        let kind = reader.u32()?;
        let offset = reader.u64()?;
        let Some(elements) = elements.filter(|elements| *elements <= i64::MAX as u64) else {
            report(piece, at, "GGUF tensor whose number of elements overflows", &name, context);
            continue;
        };
        if offset % alignment != 0 {
            report(piece, at, "GGUF tensor that is not aligned", &name, context);
        }
        let bytes = match block(kind) {
            Some((per_block, bytes)) if elements % per_block == 0 => (elements / per_block).checked_mul(bytes),
            Some(_) => {
                report(piece, at, "GGUF tensor of a part of a block", &name, context);
                None
            }
            None => None,
        };
        ranges.push((offset, bytes));
        if !names.insert(name.clone()) {
            report(piece, at, "GGUF has a tensor twice, which llama.cpp refuses", &name, context);
        }
    }
    let data = reader.at.checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
    check(piece, ranges, data, context)
}

fn check(
    piece: &Piece<'_>,
    mut ranges: Vec<(u64, Option<u64>)>,
    data: u64,
    context: &mut Context<'_>,
) -> Result<u64, Malformed> {
    ranges.sort_unstable();
    let len = piece.source.len();
    let known = ranges.iter().all(|(_, bytes)| bytes.is_some());
    let mut end = data.min(len);
    for (index, (offset, bytes)) in ranges.iter().enumerate() {
        let start = data.saturating_add(*offset);
        let behind = start.saturating_add(bytes.unwrap_or(0));
        if behind > len {
            report(piece, start.min(len), "GGUF tensor beyond the end of the file", &offset.to_string(), context);
            context.incomplete();
            return Ok(len);
        }
        if ranges.get(index + 1).is_some_and(|(next, _)| data.saturating_add(*next) < behind) {
            report(piece, start, "GGUF tensors overlap", &offset.to_string(), context);
        }
        if index < TENSORS_LOOKED_AT && STARTS.iter().any(|magic| read(piece.source, start, magic.len()) == *magic) {
            let member = format::member(piece.member.as_deref(), format!("tensor at {start}").as_bytes());
            format::storage(&Piece { source: piece.source, start, end: behind, member: Some(member) }, context);
        }
        end = end.max(behind);
    }
    Ok(if known { end } else { len })
}
