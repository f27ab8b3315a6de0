//! Is it a pickle? Protocols 0 and 1 have no magic: the first opcodes have to make sense.

use super::opcode as op;

/// Opcodes that are decoded before a prefix is believed.
const OPCODES_MAX: usize = 256;

/// Could this be the start of a pickle?
///
/// A hint for whether to try [`super::scan_all`], which has the last word ([`super::Outcome::plausible`]). Never false for
/// the start of a stream that any unpickler would run up to a call.
pub fn looks_like(prefix: &[u8]) -> bool {
    if let [op::PROTO, version, ..] = prefix {
        return *version <= 5;
    }
    let mut at = 0;
    let mut depth: usize = 0;
    for step in 0..OPCODES_MAX {
        let Some(&opcode) = prefix.get(at) else { return step > 0 };
        at += 1;
        let Some(operand) = operand(opcode) else { return false };
        let rest = prefix.get(at..).unwrap_or_default();
        let line = |rest: &[u8]| rest.iter().position(|&byte| byte == b'\n');
        match operand {
            Operand::Bytes(len) => at += len,
            Operand::Counted(width) => {
                let Some(bytes) = rest.get(..width) else { return step > 0 };
                let len = bytes.iter().rev().fold(0u64, |len, &byte| (len << 8) | u64::from(byte));
                let Some(next) = usize::try_from(len).ok().and_then(|len| at.checked_add(width)?.checked_add(len))
                else {
                    return false;
                };
                at = next;
                // The rest is out of sight.
                if at >= prefix.len() {
                    return true;
                }
            }
            Operand::Number => {
                let Some(end) = line(rest) else { return false };
                let text = rest.get(..end).unwrap_or_default();
                let text = text.trim_ascii();
                let word = text.eq_ignore_ascii_case(b"nan") || text.eq_ignore_ascii_case(b"inf");
                let starts = word || text.first().is_some_and(|b| b.is_ascii_digit() || b"+-.".contains(b));
                if !starts || end > 4096 {
                    return false;
                }
                at += end + 1;
            }
            Operand::Line => match line(rest) {
                Some(end) => at += end + 1,
                None => return step > 0 && rest.len() > 64,
            },
            Operand::Names => {
                let Some(module) = line(rest) else { return false };
                let names = rest.get(module + 1..).unwrap_or_default();
                let end = line(names);
                let name = |text: &[u8]| {
                    !text.is_empty()
                        && text.len() < 1024
                        && text.iter().all(|&b| b.is_ascii_alphanumeric() || b"_.<> \r-".contains(&b) || b >= 0x80)
                };
                // An import is all that it takes.
                return name(rest.get(..module).unwrap_or_default())
                    && name(names.get(..end.unwrap_or(names.len())).unwrap_or_default());
            }
        }
        match opcode {
            op::STOP => return depth > 0,
            op::REDUCE | op::BUILD | op::NEWOBJ | op::APPEND | op::SETITEM if depth < 2 => return false,
            op::REDUCE | op::OBJ | op::STACK_GLOBAL => return depth > 0,
            op::EXT1 | op::EXT2 | op::EXT4 => return true,
            op::POP
            | op::POP_MARK
            | op::APPEND
            | op::APPENDS
            | op::BUILD
            | op::TUPLE
            | op::LIST
            | op::DICT
            | op::PUT
            | op::BINPUT
            | op::LONG_BINPUT
            | op::MEMOIZE
            | op::SETITEM
            | op::SETITEMS
            | op::DUP
            | op::TUPLE1
            | op::TUPLE2
            | op::TUPLE3
            | op::BINPERSID
                if depth == 0 =>
            {
                return false;
            }
            // Counting marks as values overestimates the stack: good enough for a hint.
            op::PUT
            | op::BINPUT
            | op::LONG_BINPUT
            | op::MEMOIZE
            | op::FRAME
            | op::PROTO
            | op::APPEND
            | op::SETITEM
            | op::POP
            | op::BUILD => {}
            _ => depth += 1,
        }
    }
    true
}

enum Operand {
    Bytes(usize),
    /// A length of that many bytes, little endian, then as many bytes.
    Counted(usize),
    Number,
    Line,
    /// Module and name.
    Names,
}

fn operand(opcode: u8) -> Option<Operand> {
    op::name(opcode)?;
    Some(match opcode {
        op::BININT1 | op::BINPUT | op::BINGET | op::EXT1 | op::PROTO => Operand::Bytes(1),
        op::BININT2 | op::EXT2 => Operand::Bytes(2),
        op::BININT | op::LONG_BINPUT | op::LONG_BINGET | op::EXT4 => Operand::Bytes(4),
        op::BINFLOAT | op::FRAME => Operand::Bytes(8),
        op::SHORT_BINUNICODE | op::SHORT_BINSTRING | op::SHORT_BINBYTES | op::LONG1 => Operand::Counted(1),
        op::BINUNICODE | op::BINSTRING | op::BINBYTES | op::LONG4 => Operand::Counted(4),
        op::BINUNICODE8 | op::BINBYTES8 | op::BYTEARRAY8 => Operand::Counted(8),
        op::INT | op::LONG | op::FLOAT | op::GET | op::PUT => Operand::Number,
        op::STRING | op::UNICODE | op::PERSID => Operand::Line,
        op::GLOBAL | op::INST => Operand::Names,
        _ => Operand::Bytes(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickles_without_magic() {
        for pickle in [
            &b"cos\nsystem\n(S'id'\ntR."[..],
            b"(cos\nsystem\nS'id'\no.",
            b"(S'id'\nios\nsystem\n.",
            b"(lp0\nI1\naI2\na.",
            b"I1\n.",
            b"X\x05\x00\x00\x00posixX\x06\x00\x00\x00system\x93X\x02\x00\x00\x00id\x85R.",
            b"U\x05posixU\x06system\x93U\x02id\x85R.",
            b"}q\x00(X\x01\x00\x00\x00aK\x01u.",
            b"I1\n0cos\nsystem\n",
        ] {
            assert!(looks_like(pickle), "{:?}", String::from_utf8_lossy(pickle));
        }
    }

    #[test]
    fn other_files() {
        for other in [
            &b"{\"a\": 1}"[..],
            b"In the beginning\n",
            b"# Title\n",
            b"PK\x03\x04\x14\x00",
            b"GGUF\x03\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00",
            b"\x93NUMPY\x01\x00",
            b"",
            b"import os\n",
            b"\x89HDF\r\n\x1a\n",
            b"<?xml version=\"1.0\"?>",
            b"\x80\x09",
        ] {
            assert!(!looks_like(other), "{:?}", String::from_utf8_lossy(other));
        }
    }
}
