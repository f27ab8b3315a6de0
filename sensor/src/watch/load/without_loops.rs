//! The kernel object for a kernel that knows no `bpf_loop`.
//!
//! The programs never get to that call there (`repeat` in the kernel half), but a verifier before 5.13 refuses a program
//! that holds a function's address anywhere, in code that never runs too (kernel/bpf/verifier.c: resolve_pseudo_ldimm64).
//! So the addresses become zeros before the loader sees the object. Source of the layout: ELF-64 Object File Format.

const SECTION_HEADERS_AT: usize = 0x28;
const SECTION_HEADER_BYTES: usize = 64;
const SECTIONS_LEN_AT: usize = 0x3c;
const SHT_REL: u64 = 9;
const SHF_EXECINSTR: u64 = 4;
const RELOCATION_BYTES: usize = 16;
const SYMBOL_BYTES: usize = 24;
/// `BPF_LD | BPF_DW | BPF_IMM`: two slots of eight bytes, opcode, registers, offset and half of the number in each.
const LD_IMM64: u8 = 0x18;

/// The object without the addresses of functions; `None` where it isn't an object as our linker writes them.
pub fn without_loops(object: &[u8]) -> Option<Vec<u8>> {
    let mut out = object.to_vec();
    let headers = number(object, SECTION_HEADERS_AT, 8)?;
    let sections_len = number(object, SECTIONS_LEN_AT, 2)?;
    let section = |index: usize| object.get(headers + index * SECTION_HEADER_BYTES..)?.get(..SECTION_HEADER_BYTES);
    for index in 0..sections_len {
        let relocations = section(index)?;
        if number(relocations, 4, 4)? as u64 != SHT_REL {
            continue;
        }
        let (at, len) = (number(relocations, 24, 8)?, number(relocations, 32, 8)?);
        let (symbols, code) = (section(number(relocations, 40, 4)?)?, section(number(relocations, 44, 4)?)?);
        if !is_code(code)? {
            continue;
        }
        let mut kept = None;
        let mut dropped = Vec::new();
        for entry in (at..at + len).step_by(RELOCATION_BYTES) {
            let instruction = number(code, 24, 8)? + number(object, entry, 8)?;
            let symbol = number(symbols, 24, 8)? + number(object, entry + 12, 4)? * SYMBOL_BYTES;
            let target = section(number(object, symbol + 6, 2)?);
            if *object.get(instruction)? != LD_IMM64 || !target.and_then(is_code).unwrap_or(false) {
                kept = Some(entry);
                continue;
            }
            for half in [instruction + 4, instruction + 12] {
                out.get_mut(half..half + 4)?.fill(0);
            }
            dropped.push(entry);
        }
        // An entry can't be taken out of its table; one that stands there twice counts once.
        for entry in dropped {
            let instead = object.get(kept?..)?.get(..RELOCATION_BYTES)?;
            out.get_mut(entry..)?.get_mut(..RELOCATION_BYTES)?.copy_from_slice(instead);
        }
    }
    Some(out)
}

/// Does a section hold instructions?
fn is_code(header: &[u8]) -> Option<bool> {
    Some(number(header, 8, 8)? as u64 & SHF_EXECINSTR != 0)
}

/// A little-endian number of at most eight bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    let mut word = [0; 8];
    word.get_mut(..len)?.copy_from_slice(bytes.get(at..at.checked_add(len)?)?);
    usize::try_from(u64::from_le_bytes(word)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::load::OBJECT;

    #[test]
    fn no_address_of_a_function_is_left() {
        let without = without_loops(OBJECT).expect("our own object");
        assert_eq!(without.len(), OBJECT.len());
        assert!(without != OBJECT, "the object has loops");
        assert_eq!(without_loops(&without).as_deref(), Some(&*without), "and none is left");
        aya_obj::Object::parse(&without).expect("still an object");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(without_loops(b""), None);
        assert_eq!(without_loops(&OBJECT[..OBJECT.len() / 2]), None);
    }
}
